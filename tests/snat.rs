//! `--snat`: servers answer to an address of this host, and each connection with them has a source port of its own.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Stdio;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use crate::fixture::connections::Table;
use crate::fixture::routed::{Between, Family, Routed, V4, V6};
use crate::fixture::{self, BINARY, Ns, Run};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};
use serde_json::Value;

const RANGE: (u16, u16) = (10000, 32767);
/// All clients send from it.
const PORT: u16 = 5000;
const CLIENTS: u16 = 40;

/// The host's own address on the server's network.
fn own(family: &Family) -> &'static str {
    match family.host_length {
        32 => "172.17.0.1",
        _ => "fd00:17::1",
    }
}

/// A server whose default route leads to another router than the host.
struct Bed {
    routed: Routed,
    _other: Ns,
}

impl Bed {
    fn new(attach: &str) -> Self {
        let routed = Routed::new(Between::Veth);
        let other = Ns::dual_stack("other");
        let server = &routed.server;
        server.veth("eth1", &other, "eth0");
        for (net, gateway) in [("10.9.0.1/24", "10.9.0.2"), ("fd00:9::1/64", "fd00:9::2")] {
            server.ip(&format!("addr add {net} dev eth1"));
            server.ip(&format!("route replace default via {gateway}"));
        }
        routed.client.exec("ethtool -K eth0 tso off gso off");
        server.exec("ethtool -K eth0 gro on tso off gso off");
        routed.client.exec("ethtool -K eth0 gro on");
        for device in ["lan", "wan"] {
            routed.tool().ok(&format!("attach {device} {attach}"));
        }
        Bed {
            routed,
            _other: other,
        }
    }

    fn add(&self, family: &Family, words: &str) -> Run {
        let Family {
            elsewhere, server, ..
        } = family;
        let add =
            format!("rule add --dst {elsewhere} --in lan --port 80 --server {server} {words}");
        self.routed.tool().ok(&add)
    }

    fn findings(&self, check: &str) -> Vec<Value> {
        let run = self.routed.tool().run("doctor --json");
        let all = run.json().as_array().expect("findings").clone();
        all.into_iter().filter(|f| f["check"] == check).collect()
    }

    fn table(&self, ports: (u16, u16)) -> Table {
        Table::open(&self.routed.pins, 1024, ports)
    }

    /// Gives the client so many addresses more, and returns them.
    fn clients(&self, family: &Family) -> Vec<IpAddr> {
        let addr = |number: u16| match family.host_length {
            32 => format!("192.168.122.{}", 100 + number),
            _ => format!("fd00:122::{}", 1000 + number),
        };
        // Addresses of IPv6 are there at once only without the search for others that have them.
        let words = ["/24 dev eth0", "/64 dev eth0 nodad"];
        let words = words[usize::from(family.host_length == 128)];
        let all = (0..CLIENTS).map(|number| {
            let addr = addr(number);
            let add = format!("addr add {addr}{words}");
            self.routed.client.ip(&add);
            addr.parse().expect("an address")
        });
        all.collect()
    }

    /// A socket of the client that asks the address that nobody has.
    fn datagrams(&self, family: &Family, from: IpAddr) -> UdpSocket {
        let to: SocketAddr = family.url(family.elsewhere, 80).parse().unwrap();
        self.routed.client.enter(|| {
            let socket = UdpSocket::bind((from, PORT)).expect("a socket");
            socket.connect(to).expect("a destination");
            socket
                .set_read_timeout(Some(Duration::from_secs(5)))
                .unwrap();
            socket
        })
    }

    fn stream(&self, family: &Family, from: IpAddr) -> TcpStream {
        let to: SocketAddr = family.url(family.elsewhere, 80).parse().unwrap();
        let kind = match from {
            IpAddr::V4(_) => AddressFamily::Inet,
            IpAddr::V6(_) => AddressFamily::Inet6,
        };
        self.routed.client.enter(|| {
            let socket = socket(kind, SockType::Stream, SockFlag::empty(), None).expect("a socket");
            setsockopt(&socket, sockopt::ReuseAddr, &true).unwrap();
            let own = SockaddrStorage::from(SocketAddr::new(from, PORT));
            let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
            bind(fd, &own).expect("an address of the client");
            connect(fd, &SockaddrStorage::from(to)).expect("a connection");
            let stream = TcpStream::from(socket);
            stream
                .set_read_timeout(Some(Duration::from_secs(5)))
                .unwrap();
            stream
        })
    }
}

/// Sends back what it gets, and remembers who sent it.
struct Echo(Mutex<HashSet<SocketAddr>>);

impl Echo {
    fn seen(&self) -> Vec<SocketAddr> {
        self.0.lock().unwrap().iter().copied().collect()
    }

    fn datagrams(&self, socket: &UdpSocket, count: usize) {
        let mut buffer = [0; 64];
        for _ in 0..count {
            let (len, from) = socket.recv_from(&mut buffer).expect("a datagram arrives");
            self.0.lock().unwrap().insert(from);
            socket.send_to(&buffer[..len], from).expect("it is sent");
        }
    }

    fn streams(&self, listener: &TcpListener, count: usize) {
        for _ in 0..count {
            let (mut stream, from) = listener.accept().expect("a connection arrives");
            self.0.lock().unwrap().insert(from);
            thread::spawn(move || {
                let mut buffer = [0; 64];
                while let Ok(len @ 1..) = stream.read(&mut buffer) {
                    stream.write_all(&buffer[..len]).expect("it is sent");
                }
            });
        }
    }
}

fn converse_udp(socket: &UdpSocket, text: &str) {
    socket.send(text.as_bytes()).expect("it is sent");
    let mut buffer = [0; 64];
    let len = socket.recv(&mut buffer).expect("the answer arrives");
    assert_eq!(String::from_utf8_lossy(&buffer[..len]), text);
}

fn converse_tcp(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).expect("it is sent");
    let mut buffer = vec![0; text.len()];
    stream.read_exact(&mut buffer).expect("the answer arrives");
    assert_eq!(String::from_utf8_lossy(&buffer), text);
}

fn udp_server(bed: &Bed, family: &Family) -> UdpSocket {
    let at = family.url(family.server, 80);
    let socket = bed.routed.server.enter(|| UdpSocket::bind(at).unwrap());
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    socket
}

/// What the server saw: the host's address, and ports of the range, each once.
#[track_caller]
fn is_own(family: &Family, seen: &[SocketAddr], count: usize, range: (u16, u16)) {
    let own: IpAddr = own(family).parse().unwrap();
    assert!(seen.iter().all(|from| from.ip() == own), "{seen:?}");
    let in_range = |from: &SocketAddr| (range.0..=range.1).contains(&from.port());
    assert!(seen.iter().all(in_range), "{seen:?}");
    assert_eq!(seen.len(), count, "{seen:?}");
}

fn many_clients_send_datagrams_from_one_port(family: &Family) {
    let bed = Bed::new("--mode skb");
    bed.add(family, "--snat auto");
    let table = bed.table(RANGE);
    let (clients, server) = (bed.clients(family), udp_server(&bed, family));
    let echo = Echo(Mutex::default());
    thread::scope(|scope| {
        scope.spawn(|| echo.datagrams(&server, 2 * usize::from(CLIENTS)));
        let sockets = clients.iter().map(|from| bed.datagrams(family, *from));
        let sockets: Vec<UdpSocket> = sockets.collect();
        for turn in 0..2 {
            for (number, socket) in sockets.iter().enumerate() {
                converse_udp(socket, &format!("client {number}, turn {turn}"));
            }
        }
    });
    is_own(family, &echo.seen(), clients.len(), RANGE);
    table.check();
    assert_eq!(table.entries().len(), 2 * clients.len());
}

fn many_clients_connect_from_one_port(family: &Family) {
    let bed = Bed::new("--mode native");
    bed.add(family, "--proto tcp --snat auto");
    let table = bed.table(RANGE);
    let clients = bed.clients(family);
    let at = family.url(family.server, 80);
    let listener = bed.routed.server.enter(|| TcpListener::bind(at).unwrap());
    let echo = Echo(Mutex::default());
    thread::scope(|scope| {
        scope.spawn(|| echo.streams(&listener, usize::from(CLIENTS)));
        let streams = clients.iter().map(|from| bed.stream(family, *from));
        let mut streams: Vec<TcpStream> = streams.collect();
        for turn in 0..2 {
            for (number, stream) in streams.iter_mut().enumerate() {
                converse_tcp(stream, &format!("client {number}, turn {turn}"));
            }
        }
    });
    is_own(family, &echo.seen(), clients.len(), RANGE);
    table.check();
}

#[test]
fn datagrams_of_many_clients_from_one_port_are_told_apart() {
    many_clients_send_datagrams_from_one_port(&V4);
}

#[test]
fn datagrams_over_ipv6_of_many_clients_from_one_port_are_told_apart() {
    many_clients_send_datagrams_from_one_port(&V6);
}

#[test]
fn tcp_connections_of_many_clients_from_one_port_are_told_apart() {
    many_clients_connect_from_one_port(&V4);
}

#[test]
fn tcp_connections_over_ipv6_of_many_clients_from_one_port_are_told_apart() {
    many_clients_connect_from_one_port(&V6);
}

/// Does what the first command of a finding says.
fn paste(bed: &Bed, finding: &Value) {
    let mend = finding["mend"].as_str().expect("a text");
    let command = mend.split('`').nth(1).expect("a command");
    let command = command.replace("xdpredir --", &format!("{BINARY} --"));
    bed.routed.host.exec(&command);
}

fn a_server_whose_way_back_leads_elsewhere_is_noticed(family: &Family) {
    let bed = Bed::new("--mode skb");
    let added = bed.add(family, "--reply nat");
    let said = "leaves by another device";
    assert!(
        added.err.contains(said) && added.err.contains("--snat auto"),
        "{added:?}"
    );
    let found = bed.findings("way-back");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0]["evidence"].as_str().unwrap().contains(said),
        "{found:?}"
    );
    paste(&bed, &found[0]);
    assert!(bed.findings("way-back").is_empty());

    let server = udp_server(&bed, family);
    let client = bed.datagrams(family, family.client.parse().unwrap());
    let echo = Echo(Mutex::default());
    thread::scope(|scope| {
        scope.spawn(|| echo.datagrams(&server, 1));
        converse_udp(&client, "question");
    });
    is_own(family, &echo.seen(), 1, RANGE);
}

#[test]
fn a_server_whose_way_back_leads_elsewhere_answers_once_its_rule_has_snat_auto() {
    a_server_whose_way_back_leads_elsewhere_is_noticed(&V4);
}

#[test]
fn over_ipv6_too_it_answers_once_its_rule_has_snat_auto() {
    a_server_whose_way_back_leads_elsewhere_is_noticed(&V6);
}

#[test]
fn where_the_server_has_no_route_back_snat_auto_helps() {
    let bed = Bed::new("--mode skb");
    bed.routed.server.ip("route del default");
    let added = bed.add(&V4, "--reply nat");
    assert!(
        added.err.contains("there is no route to 192.168.122.0/24"),
        "{added:?}"
    );
    let added = bed.add(&V4, "--snat auto");
    assert_eq!(added.err, "");
    let said = "snat 172.17.0.1: the address by which this host reaches 172.17.0.2";
    assert!(added.out.contains(said), "{added:?}");
}

/// The range has four ports: the fifth connection waits until one of the four is over.
#[test]
fn a_full_range_is_an_outcome_and_a_port_that_becomes_free_is_used_again() {
    const FEW: (u16, u16) = (20000, 20003);
    let bed = Bed::new("--mode skb --snat-ports 20000-20003");
    bed.add(&V4, "--snat auto");
    let table = bed.table(FEW);
    let (clients, server) = (bed.clients(&V4), udp_server(&bed, &V4));
    let sockets: Vec<UdpSocket> = clients[..7]
        .iter()
        .map(|from| bed.datagrams(&V4, *from))
        .collect();
    let converse = |number: usize| {
        let echo = Echo(Mutex::default());
        thread::scope(|scope| {
            scope.spawn(|| echo.datagrams(&server, 1));
            converse_udp(&sockets[number], &format!("client {number}"));
        });
        echo.seen()[0].port()
    };
    let ports: HashSet<u16> = (0..4).map(converse).collect();
    assert_eq!(ports, (20000..=20003).collect());
    sockets[4].send(b"one too many").unwrap();
    fixture::eventually("it is dropped", || {
        bed.routed.counted("no_source_port") == 1
    });
    let found = bed.findings("source-ports");
    assert_eq!(found.len(), 1, "{found:?}");
    let said = |key: &str| found[0][key].as_str().unwrap();
    assert!(said("consequence").starts_with("1 packet "), "{found:?}");
    assert!(said("evidence").contains("20000-20003"), "{found:?}");
    assert!(
        said("mend").contains("attach lan --snat-ports 10000-32767"),
        "{found:?}"
    );

    assert_eq!(table.stats(), [4, 0, 0, 1]);
    let entry_of = |number: usize| {
        let is_it = |e: &fixture::connections::Entry| {
            e.is_request() && e.any_flow().src.0 == clients[number]
        };
        table.entries().into_iter().find(is_it)
    };
    let age = |number: usize, seconds| {
        let entry = entry_of(number).expect("it is remembered");
        table.age(entry, Duration::from_secs(seconds));
    };
    // Its time is over.
    age(1, 10_000);
    assert!(ports.contains(&converse(4)));
    assert_eq!(table.stats(), [5, 1, 0, 1]);
    assert!(entry_of(1).is_none());
    // It has been idle for a minute.
    age(2, 62);
    converse(5);
    assert_eq!(table.stats(), [6, 1, 1, 1]);
    // The others stand.
    for number in [0, 3, 4, 5] {
        converse(number);
    }
    table.check();

    // A wider range is there at once.
    paste(&bed, &found[0]);
    assert!(!ports.contains(&converse(6)));
}

/// What is established is not ended for another one's sake, however long it was idle.
#[test]
fn no_established_tcp_connection_gives_its_port_away() {
    let bed = Bed::new("--mode skb --snat-ports 20000-20000");
    bed.add(&V4, "--proto tcp --snat auto");
    let table = bed.table((20000, 20000));
    let clients = bed.clients(&V4);
    let at = V4.url(V4.server, 80);
    let listener = bed.routed.server.enter(|| TcpListener::bind(at).unwrap());
    let echo = Echo(Mutex::default());
    thread::scope(|scope| {
        scope.spawn(|| echo.streams(&listener, 1));
        let mut first = bed.stream(&V4, clients[0]);
        converse_tcp(&mut first, "question");
        let entry = table.entries().into_iter().find(|e| e.is_request());
        table.age(entry.unwrap(), Duration::from_secs(7000));
        let to: SocketAddr = V4.url(V4.elsewhere, 80).parse().unwrap();
        let wait = Duration::from_millis(300);
        let second = bed
            .routed
            .client
            .enter(|| TcpStream::connect_timeout(&to, wait));
        assert!(second.is_err());
        assert!(bed.routed.counted("no_source_port") > 0);
        converse_tcp(&mut first, "question");
        assert_eq!(table.stats()[..3], [1, 0, 0]);
    });
}

#[test]
fn the_range_of_source_ports_is_shown_changed_and_checked() {
    let bed = Bed::new("--mode skb");
    let tool = bed.routed.tool();
    let shown = || tool.json("status")["snat_ports"].clone();
    assert_eq!(shown(), "10000-32767");
    tool.ok("attach lan --snat-ports 1024-65535");
    assert_eq!(shown(), "1024-65535");
    // The first rule that remembers connections makes their table, with that range.
    let added = bed.add(&V4, "--snat auto");
    assert!(added.err.contains("this host sends from"), "{added:?}");
    assert_eq!(shown(), "1024-65535");
    tool.ok("attach lan");
    assert_eq!(shown(), "1024-65535");
    tool.ok("attach wan --snat-ports 2000-2999");
    assert_eq!(shown(), "2000-2999");
    for (bad, word) in [
        ("1023-2000", "below 1024"),
        ("3000-2000", "2000-3000"),
        ("0-9", "1 to 65535"),
        ("any", "range"),
        ("2000", "range"),
    ] {
        tool.run(&format!("attach lan --snat-ports {bad}"))
            .fails(2, &[bad, word]);
    }
    assert_eq!(shown(), "2000-2999");
    tool.ok("detach --all");
    assert_eq!(shown(), Value::Null);
}

#[test]
fn an_address_that_was_found_survives_a_file_and_is_found_again() {
    let bed = Bed::new("--mode skb");
    let tool = bed.routed.tool();
    bed.add(&V4, "--snat auto");
    bed.add(&V6, "--proto tcp --snat auto");
    let rows = tool.json("rule list");
    for (row, family) in rows.as_array().unwrap().iter().zip([V4, V6]) {
        assert_eq!(row["snat"], own(&family), "{row}");
        assert_eq!(row["snat_auto"], true, "{row}");
        assert_eq!(row["reply"], "nat", "{row}");
    }
    let load = |rows: &Value| {
        let mut command = tool.command("rule load -");
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.spawn().expect("it runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(rows.to_string().as_bytes()).unwrap();
        drop(stdin);
        assert!(child.wait().expect("it ends").success());
    };
    tool.ok("rule del --all");
    load(&rows);
    assert_eq!(tool.json("rule list"), rows);
    // Without an address in the file, it is found.
    let mut without = rows.clone();
    for row in without.as_array_mut().unwrap() {
        row["snat"] = Value::Null;
    }
    tool.ok("rule del --all");
    load(&without);
    assert_eq!(tool.json("rule list"), rows);

    // This host gets another address.
    assert!(bed.findings("snat").is_empty());
    let host = &bed.routed.host;
    host.ip("addr del 172.17.0.1/16 dev wan");
    host.ip("addr add 172.17.0.9/16 dev wan");
    let found = bed.findings("snat");
    assert_eq!(found.len(), 1, "{found:?}");
    let refreshed = tool.ok("rule refresh");
    let said = "172.17.0.2: snat 172.17.0.1 -> 172.17.0.9";
    assert!(refreshed.out.contains(said), "{refreshed:?}");
    assert_eq!(refreshed.out.lines().count(), 1, "{refreshed:?}");
    assert_eq!(tool.json("rule list")[0]["snat"], "172.17.0.9");
    assert!(bed.findings("snat").is_empty());
    let nothing = tool.json("rule refresh");
    assert_eq!(nothing["refreshed"], Value::Array(Vec::new()));
}

#[test]
fn each_backend_of_a_rule_has_the_address_of_its_own_network() {
    let bed = Bed::new("--mode skb");
    let host = &bed.routed.host;
    let second = Ns::dual_stack("second");
    host.veth("wan2", &second, "eth0");
    host.ip("addr add 10.20.0.1/24 dev wan2");
    second.ip("addr add 10.20.0.2/24 dev eth0");
    bed.add(&V4, "--snat auto");
    let Family { elsewhere, .. } = V4;
    let add = format!("rule add --dst {elsewhere} --in lan --port 80 --server 10.20.0.2");
    let tool = bed.routed.tool();
    // The other one has the same as the first: what belongs to the rule.
    tool.ok(&format!("{add} --reply nat"));
    let snat = |row: usize| tool.json("rule list")[row]["snat"].clone();
    assert_eq!([snat(0), snat(1)], ["10.20.0.1", "172.17.0.1"]);
    tool.run(&format!("{add} --reply none"))
        .fails(2, &["--reply none", "snat auto"]);
    tool.ok(&format!("{add} --reply nat --snat 10.8.8.8"));
    assert_eq!([snat(0), snat(1)], ["10.8.8.8", "10.8.8.8"]);
    assert_eq!(tool.json("rule list")[0]["snat_auto"], false);
}

#[test]
fn what_snat_auto_cannot_do_is_refused_and_nothing_is_changed() {
    let bed = Bed::new("--mode skb");
    let tool = bed.routed.tool();
    let given = "--mac 02:00:00:00:00:01 --dev wan";
    for (words, code, said) in [
        (
            "--server 172.17.0.2 --reply none --snat auto",
            2,
            "translated",
        ),
        ("--server 172.17.0.2 --keep-ip --snat auto", 2, "--snat"),
        (
            "--server 172.17.0.2 --reply direct --snat auto",
            2,
            "--reply direct",
        ),
        (
            "--proto sctp --server 172.17.0.2 --snat auto",
            2,
            "--proto sctp",
        ),
        ("--server 172.17.0.2 --snat automatic", 2, "automatic"),
        (
            "--server 198.51.100.7 --snat auto",
            2,
            "no route to 198.51.100.7",
        ),
    ] {
        let words = format!("rule add --port 80 {words} {given}");
        let run = tool.run(&words);
        assert_eq!(run.code, code, "{run:?}");
        assert!(run.err.contains(said), "{run:?}");
    }
    assert_eq!(tool.json("status")["rules"], 0);
}
