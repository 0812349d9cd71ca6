//! `flow list`, `count` and `del`, and what `stats` and `status` say of connections.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use crate::fixture::connections::Table;
use crate::fixture::lan::mac;
use crate::fixture::packet::{Frame, UDP};
use crate::fixture::routed::{Between, Routed as Bed, V4, V6};
use crate::fixture::run::{Loaded, XDP_DROP, XDP_PASS, XDP_REDIRECT};
use crate::fixture::{self, Ns, kill};
use serde_json::{Value, json};

/// Nobody's addresses, which clients ask.
const VIP: [&str; 2] = ["203.0.113.53", "2001:db8::53"];
const CLIENT: [&str; 2] = [V4.client, V6.client];
const SERVER: [&str; 2] = [V4.server, V6.server];

impl Bed {
    /// Attached, and without rules.
    fn bare() -> Self {
        let bed = Bed::new(Between::Veth);
        for (ns, device) in [
            (&bed.host, "lan"),
            (&bed.host, "wan"),
            (&bed.client, "eth0"),
            (&bed.server, "eth0"),
        ] {
            // So that checksums are complete, and looked at.
            ns.exec(&format!("ethtool -K {device} tx off"));
        }
        bed.tool().ok("attach lan wan --mode skb");
        bed
    }

    /// With rules with `--reply nat` for UDP and TCP.
    fn translating() -> Self {
        let bed = Bed::bare();
        let mac = mac(&bed.server, "eth0");
        for (vip, server) in VIP.into_iter().zip(SERVER) {
            for proto in ["udp", "tcp"] {
                bed.tool().ok(&format!(
                    "rule add --dst {vip} --proto {proto} --port 80 --to-port 8080 --reply nat \
                     --server {server} --mac {mac} --dev wan"
                ));
            }
        }
        bed
    }

    fn list(&self, words: &str) -> Vec<Value> {
        let run = self.tool().run(&format!("flow list {words} --json"));
        let list = run.json().as_array().expect("an array").clone();
        assert_eq!(run.code, if list.is_empty() { 3 } else { 0 }, "{run:?}");
        list
    }

    /// The state of the only connection that is listed.
    fn state(&self, words: &str) -> Value {
        let list = self.list(words);
        assert_eq!(list.len(), 1, "{list:?}");
        list[0]["state"].clone()
    }

    fn serve(&self, version: usize) -> UdpSocket {
        self.server
            .enter(|| waiting(UdpSocket::bind(at(SERVER[version], 8080))))
    }

    fn ask(&self, version: usize) -> UdpSocket {
        let socket = self
            .client
            .enter(|| waiting(UdpSocket::bind(at(CLIENT[version], 40000))));
        socket.connect(at(VIP[version], 80)).unwrap();
        socket.send(b"question").unwrap();
        socket
    }

    fn converse(&self, version: usize) -> (UdpSocket, UdpSocket) {
        let server = self.serve(version);
        let client = self.ask(version);
        answer(&server);
        hear(&client);
        (server, client)
    }

    /// A table of so many buckets, of 8 connections each.
    fn table(&self, buckets: u32) -> Table {
        Table::open(&self.pins, buckets, (32768, 60999))
    }

    /// Begins connections of that many clients.
    fn begin(&self, clients: std::ops::Range<u32>) {
        let requests = Loaded::on(&self.tool().json("status"), "lan");
        let ifindex = self.host.ifindex("lan");
        self.host.enter(|| {
            for client in clients {
                let frame = Frame {
                    src: Ipv4Addr::from(0x0a00_0000 + client),
                    sport: 40000,
                    dst: VIP[0].parse().unwrap(),
                    dport: 80,
                    proto: UDP,
                    ..Frame::default()
                };
                let (verdict, _) = requests.run_at(ifindex, &frame.bytes());
                assert_eq!(verdict, XDP_REDIRECT, "{client}");
            }
        });
    }
}

fn at(addr: &str, port: u16) -> SocketAddr {
    (addr.parse::<IpAddr>().unwrap(), port).into()
}

fn waiting(socket: std::io::Result<UdpSocket>) -> UdpSocket {
    let socket = socket.unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    socket
}

/// Answers one question; who asked it.
fn answer(server: &UdpSocket) -> SocketAddr {
    let mut buffer = [0; 64];
    let (_, from) = server.recv_from(&mut buffer).expect("a question arrives");
    server.send_to(b"an answer", from).unwrap();
    from
}

fn hear(client: &UdpSocket) {
    let mut buffer = [0; 64];
    let len = client.recv(&mut buffer).expect("the answer arrives");
    assert_eq!(&buffer[..len], b"an answer");
}

/// What is the same in each run.
fn without_times(mut flow: Value) -> Value {
    let keys = flow.as_object_mut().unwrap();
    let [age, idle] = ["age", "idle"].map(|key| keys.remove(key).unwrap().as_u64().unwrap());
    assert!(idle <= age, "{idle} {age}");
    flow
}

#[test]
fn datagrams_are_listed_with_their_addresses_both_ways() {
    let bed = Bed::translating();
    for version in [0, 1] {
        let server = bed.serve(version);
        let client = bed.ask(version);
        let words = format!("--dst {}", VIP[version]);
        assert_eq!(bed.state(&words), "one_way");
        answer(&server);
        hear(&client);
        // Ethernet, IP and UDP headers, and what is sent.
        let headers = [42, 62][version];
        let expected = json!({
            "proto": "udp", "vlan": null,
            "src": CLIENT[version], "src_port": 40000, "dst": VIP[version], "port": 80,
            "server": SERVER[version], "server_port": 8080, "server_vlan": null,
            "snat": CLIENT[version], "snat_port": 40000,
            "reply": "nat", "state": "both_ways",
            "requests": {"packets": 1, "bytes": headers + 8},
            "answers": {"packets": 1, "bytes": headers + 9},
            "in": "lan", "in_ifindex": bed.host.ifindex("lan"),
        });
        let list = bed.list(&words);
        assert_eq!(list.len(), 1);
        assert_eq!(without_times(list[0].clone()), expected);
    }
    assert_eq!(bed.list("").len(), 2);
    let text = bed.tool().ok("flow list").out;
    for word in [
        "192.168.122.10:40000",
        "203.0.113.53:80",
        "172.17.0.2:8080",
        "[fd00:122::10]:40000",
        "[2001:db8::53]:80",
        "[fd00:17::2]:8080",
        "both-ways",
        "lan",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn tcp_is_listed_from_its_opening_to_its_end() {
    let bed = Bed::translating();
    for version in [0, 1] {
        let words = format!("--proto tcp --dst {}", VIP[version]);
        let listener = bed
            .server
            .enter(|| TcpListener::bind(at(SERVER[version], 8080)).unwrap());
        let mut client = bed
            .client
            .enter(|| TcpStream::connect(at(VIP[version], 80)).unwrap());
        let (mut server, _) = listener.accept().unwrap();
        assert_eq!(bed.state(&words), "established");
        client.write_all(b"question").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut question = Vec::new();
        server.read_to_end(&mut question).unwrap();
        assert_eq!(bed.state(&words), "client_closed");
        drop(server);
        client.read_to_end(&mut Vec::new()).unwrap();
        fixture::eventually("both have closed", || bed.state(&words) == "closed");
    }
    // A server that does not answer, and one that refuses.
    bed.server.exec("ip route add blackhole 192.168.122.0/24");
    let connect = |millis| {
        let timeout = Duration::from_millis(millis);
        let result = bed
            .client
            .enter(|| TcpStream::connect_timeout(&at(VIP[0], 80), timeout));
        assert!(result.is_err());
    };
    bed.tool().ok("flow del --all");
    connect(100);
    assert_eq!(bed.state(""), "opening");
    bed.server.exec("ip route del blackhole 192.168.122.0/24");
    bed.tool().ok("flow del --all");
    connect(5000);
    assert_eq!(bed.state(""), "reset");
}

#[test]
fn the_source_that_the_server_sees_is_listed_where_it_is_another() {
    let bed = Bed::translating();
    let mac = mac(&bed.server, "eth0");
    bed.tool().ok(&format!(
        "rule add --dst {} --port 80 --to-port 8080 --reply nat --snat 172.17.0.1 --server {} \
         --mac {mac} --dev wan",
        VIP[0], SERVER[0]
    ));
    let server = bed.serve(0);
    let client = bed.ask(0);
    let from = answer(&server);
    hear(&client);
    let list = bed.list("");
    assert_eq!(list[0]["src"], CLIENT[0]);
    assert_eq!(list[0]["snat"], "172.17.0.1");
    assert_eq!(list[0]["snat_port"], from.port());
    let text = bed.tool().ok("flow list").out;
    assert!(text.contains("seen as"), "{text}");
    assert!(text.contains(&from.to_string()), "{text}");
}

/// Their answers leave without the program, so that nothing is known of them.
#[test]
fn flows_that_only_keep_their_backend_are_listed() {
    let bed = Bed::bare();
    let mac = mac(&bed.server, "eth0");
    bed.tool().ok(&format!(
        "rule add --dst {} --port 80 --to-port 8080 --reply none --sticky --server {} --mac {mac} --dev wan",
        VIP[0], SERVER[0]
    ));
    let server = bed.serve(0);
    let client = bed.ask(0);
    answer(&server);
    client.send(b"again").unwrap();
    answer(&server);
    let list = bed.list("");
    assert_eq!(list.len(), 1);
    assert!(list[0]["reply"].is_null());
    assert_eq!(list[0]["server"], SERVER[0]);
    assert_eq!(list[0]["server_port"], 8080);
    assert_eq!(list[0]["state"], "one_way");
    assert_eq!(list[0]["requests"]["packets"], 2);
    assert_eq!(list[0]["answers"]["packets"], 0);
    bed.tool().ok("flow del --all");
    assert_eq!(bed.list("").len(), 0);
}

/// Whoever forges a client's address elsewhere gets no further than by the rules.
#[test]
fn the_interface_of_a_rule_holds_for_connections_that_stand() {
    let (bed, other) = (Bed::bare(), Ns::new("other"));
    bed.host.veth("dmz", &other, "eth0");
    bed.tool().ok("attach dmz --mode skb");
    let (status, mac) = (bed.tool().json("status"), mac(&bed.server, "eth0"));
    let rule = |device: &str| {
        format!(
            "rule add --dst {} --in {device} --port 80 --reply nat --server {} --mac {mac} --dev wan",
            VIP[0], SERVER[0]
        )
    };
    let frame = Frame {
        src: CLIENT[0].parse().unwrap(),
        sport: 40000,
        dst: VIP[0].parse().unwrap(),
        dport: 80,
        proto: UDP,
        ..Frame::default()
    };
    let arrives = |device: &str| {
        let (program, ifindex) = (Loaded::on(&status, device), bed.host.ifindex(device));
        let run = || program.run_at(ifindex, &frame.bytes()).0;
        bed.host.enter(run)
    };
    let requests = || {
        let all = bed.list("");
        assert_eq!(all.len(), 1);
        (all[0]["in"].clone(), all[0]["requests"]["packets"].clone())
    };
    bed.tool().ok(&rule("lan"));
    assert_eq!(arrives("lan"), XDP_REDIRECT);
    assert_eq!(arrives("dmz"), XDP_PASS);
    bed.tool().ok("rule add --in dmz --proto any --drop");
    assert_eq!(arrives("dmz"), XDP_DROP);
    assert_eq!(requests(), (json!("lan"), json!(1)));
    // The client may be elsewhere now, where a rule leads to the same server.
    bed.tool().ok(&rule("dmz"));
    for n in 2..4 {
        assert_eq!(arrives("dmz"), XDP_REDIRECT);
        assert_eq!(requests(), (json!("dmz"), json!(n)));
    }
    assert_eq!(arrives("lan"), XDP_REDIRECT);
    assert_eq!(requests(), (json!("lan"), json!(4)));
}

#[test]
fn options_select_connections() {
    let bed = Bed::translating();
    let _sockets = [0, 1].map(|version| bed.converse(version));
    let listener = bed
        .server
        .enter(|| TcpListener::bind(at(SERVER[0], 8080)).unwrap());
    let _client = bed
        .client
        .enter(|| TcpStream::connect(at(VIP[0], 80)).unwrap());
    let _server = listener.accept().unwrap();
    let ifindex = bed.host.ifindex("lan");
    for (words, count) in [
        ("", 3),
        ("--dst 203.0.113.0/24", 2),
        ("--dst 203.0.113.53 --proto udp", 1),
        ("--dst ::/0", 1),
        ("--src 192.168.0.0/16", 2),
        ("--src fd00:122::10", 1),
        ("--proto tcp", 1),
        ("--port 80", 3),
        ("--port 79-81", 3),
        ("--port any", 3),
        ("--server 172.17.0.2", 2),
        ("--in lan", 3),
        (&format!("--in {ifindex}"), 3),
    ] {
        assert_eq!(bed.list(words).len(), count, "{words}");
        let counted = bed.tool().json(&format!("flow count {words}"));
        assert_eq!(counted["connections"], count, "{words}");
    }
    for words in [
        "--dst 203.0.113.54",
        "--src 172.17.0.0/16",
        "--port 8080",
        "--vlan 5",
        "--in wan",
        "--server 172.17.0.3",
    ] {
        let run = bed.tool().run(&format!("flow list {words} --json"));
        assert_eq!(run.json(), json!([]), "{words}");
        run.fails(3, &["no such connection"]);
        let counted = bed.tool().json(&format!("flow count {words}"));
        assert_eq!(counted["connections"], 0, "{words}");
        bed.tool()
            .run(&format!("flow del {words}"))
            .fails(3, &["no such connection"]);
    }
    let counted = bed.tool().json("flow count");
    assert_eq!(counted["states"]["both_ways"], 2);
    assert_eq!(counted["states"]["established"], 1);
    assert_eq!(counted["states"]["reset"], 0);
    let text = bed.tool().ok("flow count").out;
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let expected = [
        ["state", "connections"],
        ["both-ways", "2"],
        ["established", "1"],
        ["all", "3"],
    ];
    assert_eq!(lines, expected);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let bed = Bed::translating();
    for (words, named) in [
        ("list --proto icmp", "icmp"),
        ("list --dst 10.0.0.1/8", "10.0.0.0/8"),
        ("list --port 0", "--port"),
        ("del", "--all"),
        ("del --all --proto udp", "--all"),
        ("end --all", "end"),
    ] {
        let run = bed.tool().run(&format!("flow {words}"));
        run.fails(2, &[named]);
    }
    let run = bed.tool().run("flow list --in nowhere");
    run.fails(3, &["nowhere"]);
}

#[test]
fn there_may_be_nothing_to_list() {
    let bed = Bed::bare();
    let nothing = |words: &str, why: &str| {
        let run = bed.tool().run("flow list --json");
        assert_eq!(run.json(), json!([]));
        run.fails(3, &[why]);
        bed.tool().run("flow del --all").fails(3, &[why]);
        assert_eq!(bed.tool().json("flow count")["connections"], 0);
        let status = bed.tool().json("status");
        assert_eq!(status["connections"].is_null(), words.is_empty());
        let stats = bed.tool().json("stats");
        assert_eq!(stats["connections"].is_null(), words.is_empty());
    };
    nothing("", "no rule has remembered any");
    let add = "rule add --server 10.1.1.1 --mac 02:00:00:00:00:01 --dev wan --reply nat";
    bed.tool().ok(add);
    nothing(add, "no connections");
    bed.tool().ok("detach --all");
    for words in ["list", "count", "del --all"] {
        let run = bed.tool().run(&format!("flow {words}"));
        run.fails(3, &["not attached"]);
    }
}

#[test]
fn a_connection_that_was_ended_begins_anew_with_the_next_request() {
    let bed = Bed::translating();
    let listener = bed
        .server
        .enter(|| TcpListener::bind(at(SERVER[0], 8080)).unwrap());
    let mut client = bed
        .client
        .enter(|| TcpStream::connect(at(VIP[0], 80)).unwrap());
    let (mut server, _) = listener.accept().unwrap();
    let (udp_server, udp_client) = bed.converse(0);
    let ended = bed.tool().json("flow del --proto tcp");
    assert_eq!(ended, json!({"ended": 1}));
    let list = bed.list("");
    assert_eq!(list.len(), 1);
    assert_eq!(list[0]["proto"], "udp");
    let mut buffer = [0; 8];
    client.write_all(b"question").unwrap();
    server.read_exact(&mut buffer).unwrap();
    server.write_all(b"response").unwrap();
    client.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"response");
    assert_eq!(bed.state("--proto tcp"), "established");
    assert_eq!(bed.tool().json("stats")["connections"]["new"], 3);

    let run = bed.tool().ok("flow del --all");
    assert_eq!(run.out, "ended 2 connections\n");
    udp_client.send(b"again").unwrap();
    assert_eq!(answer(&udp_server), at(CLIENT[0], 40000));
    hear(&udp_client);
    let stats = &bed.tool().json("stats")["connections"];
    let expected = json!({
        "now": 1, "most": 262_144, "bytes": 69_206_016, "new": 4, "expired": 0, "evicted": 0, "refused": 0
    });
    assert_eq!(*stats, expected);
}

#[test]
fn one_whose_time_is_over_is_not_listed() {
    let bed = Bed::translating();
    let table = bed.table(64);
    let _sockets = bed.converse(0);
    for (seconds, is_there) in [(290, true), (310, false)] {
        table.age(table.entries()[0].clone(), Duration::from_secs(seconds));
        let run = bed.tool().run("flow list --json");
        assert_eq!(run.code == 0, is_there, "{run:?}");
        assert_eq!(
            bed.tool().json("status")["connections"]["now"],
            u64::from(is_there)
        );
    }
    bed.tool()
        .run("flow del --all")
        .fails(3, &["no connections"]);
}

#[test]
fn connections_that_were_ended_make_room_for_others() {
    let bed = Bed::translating();
    let table = bed.table(1); // of 8 connections
    for turn in 0..3 {
        bed.begin(turn * 10..turn * 10 + 8);
        table.check();
        let status = bed.tool().json("status");
        assert_eq!(
            status["connections"],
            json!({"now": 8, "most": 8, "bytes": 2_162_688})
        );
        assert_eq!(bed.tool().json("flow del --all")["ended"], 8);
        assert_eq!(table.entries().len(), 0);
    }
    assert_eq!(table.stats(), [24, 0, 0, 0]);
    // Some of them, and the others are kept.
    bed.begin(0..8);
    bed.tool().ok("flow del --src 10.0.0.0/30");
    bed.begin(100..104);
    table.check();
    assert_eq!(bed.list("--src 10.0.0.4/30").len(), 4);
    assert_eq!(bed.list("--src 10.0.0.100/30").len(), 4);
    assert_eq!(table.stats(), [36, 0, 0, 0]);
}

/// As a run that is killed between the two entries of a connection leaves it.
#[test]
fn half_a_connection_is_in_nobodys_way() {
    let bed = Bed::translating();
    let table = bed.table(64);
    let (server, client) = bed.converse(0);
    let entries = table.entries();
    let request = entries.iter().find(|entry| entry.is_request()).unwrap();
    table.remove_only(request);
    let run = bed.tool().run("flow list");
    run.fails(3, &["no connections"]);
    // Its answers would be the other half's, so it gets another source port.
    client.send(b"again").unwrap();
    assert_ne!(answer(&server), at(CLIENT[0], 40000));
    hear(&client);
    assert_eq!(bed.list("").len(), 1);
    assert_eq!(table.entries().len(), 3);
    bed.tool().ok("flow del --all");
    assert_eq!(table.entries().len(), 0);
    client.send(b"again").unwrap();
    assert_eq!(answer(&server), at(CLIENT[0], 40000));
    hear(&client);
    table.check();
}

#[test]
fn a_run_that_is_killed_ends_some_connections_or_all() {
    const CLIENTS: u32 = 3000; // of 8192, so that no bucket runs over
    let bed = Bed::translating();
    let table = bed.table(1024);
    bed.begin(0..CLIENTS);
    for n in 0.. {
        // The last change gives up the lock.
        let is_killed = kill::before_change(&mut bed.tool().command("flow del --all"), n);
        let left = bed.list("").len();
        assert!(left == 0 || (is_killed && left == CLIENTS as usize), "{n}");
        if left == 0 {
            break;
        }
    }
    bed.begin(0..CLIENTS);
    let mut left = CLIENTS as usize;
    for micros in (0..).step_by(300) {
        let mut run = bed.tool().spawn("flow del --all");
        std::thread::sleep(Duration::from_micros(micros));
        run.kill().unwrap();
        run.wait().unwrap();
        let now = bed.tool().json("flow count")["connections"]
            .as_u64()
            .unwrap() as usize;
        let entries = table.entries().len();
        // Half a connection for each run that was killed, at most.
        assert!(now <= left && 2 * now <= entries, "{now} {left} {entries}");
        left = now;
        if left == 0 {
            break;
        }
    }
    bed.begin(CLIENTS..CLIENTS + 1);
    bed.tool().ok("flow del --all");
    assert_eq!(table.entries().len(), 0);
    bed.begin(0..CLIENTS);
    table.check();
    assert_eq!(bed.list("").len(), CLIENTS as usize);
}

#[test]
fn each_connection_is_ended_by_one_run() {
    const CLIENTS: u32 = 2000;
    let bed = Bed::translating();
    bed.begin(0..CLIENTS);
    let runs = [(); 4].map(|()| bed.tool().spawn("flow del --all --json"));
    let ended = runs.map(|run| {
        let output = run.wait_with_output().unwrap();
        let report: Option<Value> = serde_json::from_slice(&output.stdout).ok();
        assert_eq!(
            output.status.code(),
            Some(if report.is_some() { 0 } else { 3 })
        );
        report.map_or(0, |report| report["ended"].as_u64().unwrap())
    });
    assert_eq!(ended.into_iter().sum::<u64>(), u64::from(CLIENTS));
}

/// The packet program begins connections while they are listed and ended.
#[test]
fn connections_are_ended_while_others_begin() {
    let bed = Bed::translating();
    let table = bed.table(256); // so few of 2048 connections that no bucket runs over
    std::thread::scope(|scope| {
        let begin = scope.spawn(|| (0..40).for_each(|_| bed.begin(0..400)));
        while !begin.is_finished() {
            let run = bed.tool().run("flow del --src 10.0.0.0/25");
            assert!([0, 3].contains(&run.code), "{run:?}");
            for flow in bed.list("--src 10.0.1.0/24") {
                assert_eq!(flow["src"], flow["snat"]);
                assert_eq!(flow["server"], SERVER[0]);
            }
        }
    });
    bed.begin(0..400);
    table.check();
    assert_eq!(bed.list("").len(), 400);
}

#[test]
fn the_name_of_an_interface_is_escaped() {
    let bed = Bed::translating();
    let _sockets = bed.converse(0);
    let name = "e\x1b[31mred";
    bed.host.ip("link set lan down");
    let rename = format!("--net={}", bed.host.path().display());
    fixture::command(
        "nsenter",
        &[&rename, "ip", "link", "set", "dev", "lan", "name", name],
    );
    let text = bed.tool().ok("flow list").out;
    assert!(text.contains("e\\x1b[31mred"), "{text}");
    assert!(!text.contains('\x1b'), "{text:?}");
    assert_eq!(bed.list("")[0]["in"], name);
    let selected = |words: &[&str]| {
        let mut command: Command = bed.tool().command("flow list --json");
        let output = command.args(words).output().unwrap();
        serde_json::from_slice::<Vec<Value>>(&output.stdout)
            .unwrap()
            .len()
    };
    assert_eq!(selected(&["--in", name]), 1);
    let ifindex = bed.list("")[0]["in_ifindex"].to_string();
    fixture::command("nsenter", &[&rename, "ip", "link", "del", "dev", name]);
    assert!(bed.list("")[0]["in"].is_null());
    assert_eq!(selected(&["--in", &ifindex]), 1);
    let text = bed.tool().ok("flow list").out;
    assert!(text.contains(&format!("{ifindex} (gone)")), "{text}");
}

#[test]
fn stats_and_status_count_connections() {
    let bed = Bed::translating();
    bed.begin(0..3);
    let text = bed.tool().ok("stats").out;
    let row = |what: &str| {
        let mut lines = text.lines().map(|line| line.split_whitespace());
        lines.any(|line| line.collect::<Vec<_>>().join(" ") == what)
    };
    for what in [
        "connections count",
        "now 3",
        "at most 262k",
        "new 3",
        "refused 0",
    ] {
        assert!(row(what), "{what}: {text}");
    }
    let text = bed.tool().ok("status").out;
    assert!(
        text.contains("3 connections of 262,144 at most, in 66 MiB"),
        "{text}"
    );
}
