//! Servers that are taken out of use: their connections stand, and new flows go elsewhere. Real sockets, whose
//! clients ask an address that nobody has.

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Output, Stdio};
use std::time::Duration;

use crate::fixture::guest::modes;
use crate::fixture::lan::{Lan, mac, receive, socket};
use crate::fixture::terminal::{self, Terminal};
use crate::fixture::{self, Run, eventually, kill};
use nix::sys::signal::{Signal, kill as send};
use nix::unistd::Pid;
use serde_json::{Value, json};

const VIP: &str = "203.0.113.53";
const TCP: &str = "--dst 203.0.113.53 --proto tcp --port 80";
const UDP: &str = "--dst 203.0.113.53 --port 53";

/// A client, the host, and servers that listen and route by the host.
struct Bed {
    lan: Lan,
    listeners: Vec<TcpListener>,
}

/// Both ends of a connection, and whose the server's is.
struct Connection {
    client: TcpStream,
    server: TcpStream,
    number: usize,
}

impl Bed {
    fn new(mode: &str, servers: usize) -> Self {
        let lan = Lan::new(false, servers);
        lan.vm.exec("ethtool -K eth0 gro on tso off gso off");
        let mut devices = "lan".to_string();
        for (number, server) in lan.servers.iter().enumerate() {
            let device = format!("wan{number}");
            lan.host.ip(&format!("addr add 172.17.0.1/32 dev {device}"));
            lan.host
                .ip(&format!("route add {} dev {device}", addr(number)));
            server.ip("route add default via 172.17.0.1");
            server.exec("ethtool -K eth0 tso off gso off");
            devices += &format!(" {device}");
        }
        lan.tool().ok(&format!("attach {devices} --mode {mode}"));
        let listen = |server: &fixture::Ns| {
            let listener = server.enter(|| TcpListener::bind("0.0.0.0:80"));
            let listener = listener.expect("nobody has the port");
            listener.set_nonblocking(true).expect("a flag");
            listener
        };
        let listeners = lan.servers.iter().map(listen).collect();
        Bed { lan, listeners }
    }

    /// With some servers in the rule for TCP.
    fn with(mode: &str, servers: usize) -> Self {
        let bed = Bed::new(mode, servers);
        (0..servers).for_each(|number| bed.join(number, TCP, "--reply nat"));
        bed
    }

    /// Makes a server a backend of a rule, or changes it.
    fn join(&self, number: usize, rule: &str, words: &str) {
        let (addr, mac) = (addr(number), mac(&self.lan.servers[number], "eth0"));
        let add = format!("rule add {rule} --server {addr} --mac {mac} --dev wan{number} {words}");
        self.typed(&add);
    }

    /// Whose answers are as the rule has them.
    fn typed(&self, words: &str) -> Run {
        let run = self.lan.tool().typed(words).output();
        Run::from(run.expect("it runs")).ok()
    }

    fn connect(&self) -> Connection {
        let client = self.lan.vm.enter(|| TcpStream::connect((VIP, 80)));
        let client = client.expect("a server takes it");
        let mut found = None;
        eventually("a server has the connection", || {
            let accepted = self.listeners.iter().map(TcpListener::accept);
            found = accepted
                .enumerate()
                .find_map(|(n, got)| Some((n, got.ok()?.0)));
            found.is_some()
        });
        let (number, server) = found.expect("it was just found");
        for end in [&client, &server] {
            end.set_nonblocking(false).expect("a flag");
            end.set_read_timeout(Some(Duration::from_secs(5)))
                .expect("an option");
        }
        Connection {
            client,
            server,
            number,
        }
    }

    fn connect_many(&self) -> Vec<Connection> {
        (0..24).map(|_| self.connect()).collect()
    }

    /// The rows of a server.
    fn rows(&self, number: usize) -> Vec<Value> {
        let rows = self.lan.tool().json("rule list");
        let rows = rows.as_array().expect("rows").iter();
        let ours = rows.filter(|row| row["server"] == addr(number).as_str());
        ours.cloned().collect()
    }

    fn servers_of_udp(&self) -> Vec<UdpSocket> {
        let servers = self.lan.servers.iter();
        servers.map(|ns| socket(ns, "0.0.0.0:53")).collect()
    }

    fn weight(&self, number: usize) -> Option<u64> {
        self.rows(number).first()?["weight"].as_u64()
    }

    /// Drains a server in the background.
    fn drain(&self, number: usize, words: &str) -> Drain {
        let words = format!("rule drain --server {} {words}", addr(number));
        let mut child = self.lan.tool().spawn(&words);
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        Drain { child, out }
    }

    fn outcome(&self, name: &str) -> u64 {
        let stats = self.lan.tool().json("stats");
        let interfaces = stats["interfaces"].as_array().expect("interfaces").iter();
        let counted = interfaces.filter_map(|i| i["outcomes"][name]["packets"].as_u64());
        counted.sum()
    }
}

/// A run that waits for the end of connections.
struct Drain {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Drain {
    /// Its next line.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).expect("it is text");
        line.trim_end().to_string()
    }

    fn says(&mut self, line: &str) {
        while self.line() != line {
            let ended = self.child.try_wait().expect("it is ours");
            assert!(ended.is_none(), "it ends without {line:?}");
        }
    }

    fn signal(&self, signal: Signal) {
        send(Pid::from_raw(self.child.id() as i32), signal).expect("it runs");
    }

    /// The rest of what it says.
    fn end(mut self) -> Run {
        let mut out = String::new();
        self.out.read_to_string(&mut out).expect("it is text");
        let rest = self.child.wait_with_output().expect("it ends");
        Run::from(Output {
            stdout: out.into(),
            ..rest
        })
    }
}

fn addr(number: usize) -> String {
    format!("172.17.0.{}", number + 2)
}

impl Connection {
    /// A question and its answer.
    fn converse(&mut self) -> io::Result<()> {
        let mut got = [0; 8];
        self.client.write_all(b"question")?;
        self.server.read_exact(&mut got)?;
        self.server.write_all(b"answered")?;
        self.client.read_exact(&mut got)?;
        assert_eq!(&got, b"answered");
        Ok(())
    }
}

#[track_caller]
fn all_stand(connections: &mut [Connection]) {
    for connection in connections {
        connection.converse().expect("the connection stands");
    }
}

fn servers_of(connections: &[Connection]) -> BTreeSet<usize> {
    connections.iter().map(|c| c.number).collect()
}

#[test]
fn a_server_without_weight_keeps_its_connections_and_gets_no_new_ones() {
    for mode in modes() {
        let bed = Bed::with(mode, 3);
        let mut all = bed.connect_many();
        assert_eq!(servers_of(&all).len(), 3);
        bed.join(1, TCP, "--weight 0");
        let row = &bed.rows(1)[0];
        assert_eq!(
            (&row["weight"], &row["state"]),
            (&json!(0), &json!("draining"))
        );
        all_stand(&mut all);
        all.extend(bed.connect_many());
        let new = servers_of(&all[24..]);
        assert_eq!(new, BTreeSet::from([0, 2]), "{mode}");
        // What else changes, changes nothing of that.
        bed.join(0, TCP, "--weight 7");
        bed.lan.tool().ok("rule refresh");
        let file = bed.lan.tool().ok("rule list --json").out;
        let mut load = bed.lan.tool().command("rule load -");
        let mut load = load
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("it runs");
        load.stdin
            .take()
            .expect("a pipe")
            .write_all(file.as_bytes())
            .expect("it reads");
        assert!(load.wait().expect("it ends").success());
        assert_eq!(bed.weight(1), Some(0));
        all_stand(&mut all);
        bed.join(1, TCP, "--weight 9");
        all_stand(&mut all);
        assert!(servers_of(&bed.connect_many()).contains(&1));
    }
}

#[test]
fn flows_of_udp_stay_too_where_their_answers_are_translated() {
    for mode in modes() {
        let bed = Bed::new(mode, 2);
        (0..2).for_each(|number| bed.join(number, UDP, "--reply nat"));
        let servers = bed.servers_of_udp();
        servers
            .iter()
            .for_each(|server| server.set_nonblocking(true).expect("a flag"));
        let clients: Vec<UdpSocket> = (0..24).map(|_| bed.lan.vm_socket()).collect();
        let ask = |client: &UdpSocket| {
            client.send_to(b"question", (VIP, 53)).expect("it is sent");
            let mut who = 0;
            eventually("a server is asked", || {
                let got = |server: &UdpSocket| server.recv_from(&mut [0; 16]).ok();
                let asked = servers
                    .iter()
                    .enumerate()
                    .find_map(|(n, s)| Some((n, got(s)?.1)));
                let Some((number, from)) = asked else {
                    return false;
                };
                who = number;
                servers[number].send_to(b"answer", from).is_ok()
            });
            assert_eq!(receive(client), ("answer".into(), format!("{VIP}:53")));
            who
        };
        let before: Vec<usize> = clients.iter().map(ask).collect();
        assert!(before.contains(&0) && before.contains(&1));
        bed.join(0, UDP, "--weight 0");
        let after: Vec<usize> = clients.iter().map(ask).collect();
        assert_eq!(after, before, "{mode}");
        let new: Vec<UdpSocket> = (0..24).map(|_| bed.lan.vm_socket()).collect();
        assert!(new.iter().map(ask).all(|number| number == 1), "{mode}");
        // The only server that takes new flows goes.
        bed.join(1, UDP, "--weight 0");
        assert_eq!(clients.iter().map(ask).collect::<Vec<_>>(), before);
        let refused = bed.outcome("no_device");
        bed.lan
            .vm_socket()
            .send_to(b"question", (VIP, 53))
            .expect("it is sent");
        eventually("it is not redirected", || {
            bed.outcome("no_device") > refused
        });
        assert!(
            servers
                .iter()
                .all(|server| server.recv_from(&mut [0; 16]).is_err())
        );
    }
}

#[test]
fn the_only_server_of_a_rule_can_be_drained() {
    for mode in modes() {
        let bed = Bed::with(mode, 1);
        let mut all = vec![bed.connect(), bed.connect()];
        bed.lan
            .tool()
            .run("rule drain --server 172.17.0.2 --timeout 0")
            .fails(
                1,
                &[
                    "2 connections of 172.17.0.2 left",
                    "stays drained",
                    "rule drain --server 172.17.0.2",
                ],
            );
        all_stand(&mut all);
        let refused = bed.outcome("no_device");
        let connect = || {
            TcpStream::connect_timeout(
                &format!("{VIP}:80").parse().unwrap(),
                Duration::from_secs(1),
            )
        };
        assert!(
            bed.lan.vm.enter(connect).is_err(),
            "{mode}: no server takes it"
        );
        assert!(bed.outcome("no_device") > refused);
        all_stand(&mut all);
        // A device that goes away, and comes back, ends what stands.
        bed.join(0, TCP, "--weight 1");
        all_stand(&mut all);
        bed.connect().converse().expect("it stands");
    }
}

#[test]
fn what_no_rule_remembers_moves_at_once() {
    let bed = Bed::new("skb", 2);
    (0..2).for_each(|number| bed.join(number, UDP, "--reply none"));
    let servers = bed.servers_of_udp();
    let clients: Vec<UdpSocket> = (0..24).map(|_| bed.lan.vm_socket()).collect();
    bed.join(0, UDP, "--weight 0");
    for client in &clients {
        client.send_to(b"question", (VIP, 53)).expect("it is sent");
        receive(&servers[1]);
    }
    let run = bed.lan.tool().ok("rule drain --server 172.17.0.2");
    let said = "172.17.0.2 takes no new flows in 1 rule\n  flows of 1 rule are not remembered, and go elsewhere \
                at once\nno connections left: deleted 172.17.0.2 in 1 rule\n";
    assert_eq!(run.out, said);
    assert_eq!(bed.weight(0), None);
}

#[test]
fn a_server_is_deleted_when_its_last_connection_is_over() {
    for mode in modes() {
        let bed = Bed::with(mode, 2);
        bed.join(1, UDP, "--reply none");
        let mut all = bed.connect_many();
        let (mut ours, mut others): (Vec<_>, Vec<_>) = {
            all_stand(&mut all);
            all.into_iter()
                .partition(|connection| connection.number == 1)
        };
        let mut drain = bed.drain(1, "--timeout 1h");
        assert_eq!(drain.line(), "172.17.0.3 takes no new flows in 2 rules");
        assert_eq!(
            drain.line(),
            "  flows of 1 rule are not remembered, and go elsewhere at once"
        );
        drain.says(&format!("{} connections left", ours.len()));
        all_stand(&mut ours);
        let more = bed.connect_many();
        assert_eq!(servers_of(&more), BTreeSet::from([0]), "{mode}");
        let mut last = ours.pop().expect("there are some");
        drop(ours);
        drain.says("1 connection left");
        last.converse().expect("it stands");
        drop(last);
        let end = drain.end().ok();
        assert_eq!(
            end.out, "no connections left: deleted 172.17.0.3 in 2 rules\n",
            "{mode}"
        );
        assert_eq!((bed.weight(0), bed.weight(1)), (Some(1), None));
        all_stand(&mut others);
    }
}

#[test]
fn options_narrow_the_rules_and_the_interface_for_answers_goes_with_the_last() {
    let bed = Bed::new("skb", 1);
    bed.lan.tool().ok("detach --all");
    bed.lan.tool().ok("attach lan");
    bed.join(0, TCP, "--reply nat");
    bed.join(0, UDP, "--reply nat");
    let interfaces = || {
        let status = bed.lan.tool().json("status");
        status["interfaces"].as_array().expect("an array").len()
    };
    assert_eq!(interfaces(), 2);
    let words = "rule drain --server 172.17.0.2 --proto udp --json";
    let report = bed.lan.tool().ok(words).json();
    let expected = json!({
        "server": "172.17.0.2", "drained": 1, "connections": 0, "deleted": 1, "result": "done",
        "attached": [], "detached": [],
    });
    assert_eq!(report, expected);
    assert_eq!(bed.rows(0).len(), 1);
    let run = bed.lan.tool().ok("rule drain --server 172.17.0.2");
    assert!(run.out.contains("detached from wan0"), "{run:?}");
    assert_eq!(interfaces(), 1);
}

#[test]
fn ctrl_c_leaves_the_server_drained() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let bed = Bed::with("skb", 2);
        let mut all = bed.connect_many();
        let count = all
            .iter()
            .filter(|connection| connection.number == 0)
            .count();
        let mut drain = bed.drain(0, "");
        drain.says(&format!("{count} connections left"));
        drain.signal(signal);
        let words = format!("{count} connections of 172.17.0.2 left when this was interrupted");
        drain.end().fails(
            130,
            &[&words, "stays drained", "rule drain --server 172.17.0.2"],
        );
        assert_eq!(bed.weight(0), Some(0));
        all_stand(&mut all);
        assert_eq!(servers_of(&bed.connect_many()), BTreeSet::from([1]));
        // With JSON there is one document all the same.
        let drain = bed.drain(1, "--json --timeout 1h");
        eventually("it waits", || bed.weight(1) == Some(0));
        drain.signal(signal);
        let run = drain.end();
        let report = run.json();
        assert_eq!((run.code, &report["result"]), (130, &json!("interrupted")));
        assert_eq!(report["connections"], 48 - count);
    }
}

#[test]
fn a_server_that_another_run_takes_back_or_deletes_is_left_alone() {
    let bed = Bed::with("skb", 2);
    bed.join(0, UDP, "--reply nat");
    let mut all = bed.connect_many();
    let count = all
        .iter()
        .filter(|connection| connection.number == 0)
        .count();
    let mut drain = bed.drain(0, "");
    drain.says(&format!("{count} connections left"));
    bed.join(0, TCP, "--weight 3");
    let end = drain.end().ok();
    let said =
        "no connections left: deleted 172.17.0.2 in 1 rule; other runs have changed 1 meanwhile\n";
    assert!(end.out.ends_with(said), "{end:?}");
    assert_eq!((bed.weight(0), bed.rows(0).len()), (Some(3), 1));
    all_stand(&mut all);
}

#[test]
fn a_server_that_no_rule_has_is_not_found() {
    let bed = Bed::with("skb", 1);
    let tool = bed.lan.tool();
    let none = ["no such rule or backend"];
    tool.run("rule drain --server 172.17.0.9").fails(3, &none);
    tool.run("rule drain --server 172.17.0.2 --port 81")
        .fails(3, &none);
    tool.run("rule drain --timeout 5m").fails(2, &["--server"]);
    let words = "rule drain --server 172.17.0.2 --timeout";
    tool.run(&format!("{words} soon"))
        .fails(2, &["--timeout", "5m"]);
    tool.run(&format!("{words} 8d"))
        .fails(2, &["--timeout", "longer than a week"]);
    assert_eq!(bed.weight(0), Some(1));
}

#[test]
fn connections_stand_whenever_a_drain_is_killed() {
    let bed = Bed::with("skb", 2);
    let mut all = bed.connect_many();
    let words = "rule drain --server 172.17.0.2 --timeout 0";
    let mut n = 0;
    while kill::before_change(&mut bed.lan.tool().command(words), n) {
        all_stand(&mut all);
        let weight = bed.weight(0).expect("it is there");
        let new = servers_of(&bed.connect_many());
        assert_eq!(new.contains(&0), weight > 0, "{n}: weight {weight}");
        bed.join(0, TCP, "--weight 1");
        n += 1;
    }
    assert!(n > 5, "{n} changes");
    all_stand(&mut all);
    assert_eq!(bed.weight(0), Some(0));
    // The same where nothing is left to wait for.
    all.retain(|connection| connection.number == 1);
    bed.lan.tool().ok("flow del --server 172.17.0.2");
    let mut n = 0;
    while kill::before_change(&mut bed.lan.tool().command(words), n) {
        all_stand(&mut all);
        bed.join(0, TCP, "--weight 1 --reply nat");
        n += 1;
    }
    assert!(n > 10, "{n} changes");
    all_stand(&mut all);
    assert_eq!(bed.weight(0), None);
}

#[test]
fn on_a_terminal_one_line_says_how_many_are_left() {
    let bed = Bed::with("skb", 1);
    let _connection = bed.connect();
    for (columns, has_bar) in [(100, true), (40, false)] {
        let words = "rule drain --server 172.17.0.2 --timeout 1s";
        let mut command = bed.lan.tool().command(words);
        terminal::environment(&mut command, &[("TERM", "xterm"), ("NO_COLOR", "1")]);
        command.stderr(Stdio::null());
        let shown = terminal::shows_on(Terminal::new(columns), command);
        assert!(shown.contains("172.17.0.2 takes no new flows"), "{shown:?}");
        assert!(shown.contains("1 connection left"), "{shown:?}");
        assert!(!shown.contains("1 connection left\n"), "{shown:?}");
        assert_eq!(shown.contains('░'), has_bar, "{shown:?}");
    }
}

#[test]
fn no_packet_goes_to_a_server_that_is_marked_down() {
    for mode in modes() {
        let bed = Bed::with(mode, 3);
        bed.join(0, UDP, "--reply none");
        let mut all = bed.connect_many();
        let tool = bed.lan.tool();
        let before = tool.json("rule list");
        let down = tool.ok("rule mark down --server 172.17.0.2");
        assert_eq!(down.out, "172.17.0.2 is marked down in 2 rules\n");
        for row in bed.rows(0) {
            assert_eq!(
                (&row["state"], &row["weight"]),
                (&json!("marked_down"), &json!(1))
            );
            assert_eq!(row["marked_down"], true);
        }
        assert!(tool.ok("rule list").out.contains("marked down"));
        // New connections go elsewhere, and datagrams have nowhere to go.
        let new = servers_of(&bed.connect_many());
        assert_eq!(new, BTreeSet::from([1, 2]), "{mode}");
        let refused = bed.outcome("no_device");
        bed.lan
            .vm_socket()
            .send_to(b"question", (VIP, 53))
            .expect("it is sent");
        eventually("it is not redirected", || {
            bed.outcome("no_device") > refused
        });
        let found = tool.run("doctor --json").json();
        let mut found = found.as_array().expect("findings").iter();
        let finding = found.find(|finding| finding["check"] == "no-backend");
        assert_eq!(
            finding.expect("it is found")["evidence"],
            "172.17.0.2 is marked down"
        );
        // Its own connections end.
        let (mut gone, mut stay): (Vec<_>, Vec<_>) = {
            let one = all.pop().expect("there are some");
            all.push(one);
            all.into_iter()
                .partition(|connection| connection.number == 0)
        };
        all_stand(&mut stay);
        let quiet = gone.pop().expect("there are some");
        for connection in &mut gone {
            let _ = connection.client.write(b"question");
            let read = connection.client.read(&mut [0]);
            read.expect_err("no server knows it");
        }
        let up = tool.ok("rule mark up --server 172.17.0.2");
        assert_eq!(up.out, "172.17.0.2 is marked up in 2 rules\n");
        let again = tool.ok("rule mark up --server 172.17.0.2");
        assert_eq!(again.out, "172.17.0.2 is marked up in 2 rules, as it was\n");
        let configured = |rows: &Value| -> Vec<Value> {
            let keys = [
                "server",
                "weight",
                "mac",
                "ifindex",
                "state",
                "marked_down",
                "reply",
            ];
            let rows = rows.as_array().expect("rows").iter();
            rows.map(|row| keys.map(|key| row[key].clone()).into_iter().collect())
                .collect()
        };
        assert_eq!(configured(&tool.json("rule list")), configured(&before));
        // One whose packets did not come meanwhile knows nothing of all this.
        all_stand(&mut [quiet]);
        assert!(servers_of(&bed.connect_many()).contains(&0));
        all_stand(&mut stay);
    }
}

#[test]
fn a_mark_stays_whatever_else_changes() {
    let bed = Bed::with("skb", 2);
    let tool = bed.lan.tool();
    let report = tool.json("rule mark down --server 172.17.0.2 --proto tcp");
    let expected = json!({
        "server": "172.17.0.2", "mark": "down", "rules": 1, "changed": 1, "attached": [], "detached": [],
    });
    assert_eq!(report, expected);
    let is_down = || bed.rows(0)[0]["marked_down"] == true;
    bed.join(0, TCP, "--weight 5");
    assert!(is_down() && bed.weight(0) == Some(5));
    let added = bed.typed(&format!("rule add {TCP} --server 172.17.0.2 --weight 6"));
    assert!(added.out.contains("weight 6 marked down"), "{added:?}");
    tool.ok("rule refresh");
    assert!(is_down());
    let file = tool.ok("rule list --json").out;
    tool.ok("rule del --all");
    let mut load = tool.command("rule load -");
    let load = load.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut load = load.spawn().expect("it runs");
    let mut input = load.stdin.take().expect("a pipe");
    input.write_all(file.as_bytes()).expect("it reads");
    drop(input);
    assert!(load.wait().expect("it ends").success());
    assert!(is_down() && bed.weight(0) == Some(6));
    assert_eq!(servers_of(&bed.connect_many()), BTreeSet::from([1]));
    // Drained and marked down, it has two reasons.
    bed.join(0, TCP, "--weight 0");
    tool.ok("rule mark up --server 172.17.0.2");
    assert_eq!(bed.rows(0)[0]["state"], "draining");
    let words = "rule mark down --server";
    tool.run(&format!("{words} 172.17.0.9"))
        .fails(3, &["no such rule or backend"]);
    tool.run(&format!("{words} 172.17.0.2 --proto udp"))
        .fails(3, &["no such rule or backend"]);
    tool.run("rule mark --server 172.17.0.2")
        .fails(2, &["<down|up>"]);
    tool.run("rule mark gone --server 172.17.0.2")
        .fails(2, &["down", "up"]);
}

#[test]
fn a_mark_that_is_killed_is_there_or_not() {
    let bed = Bed::with("skb", 2);
    let mut all = bed.connect_many();
    all.retain(|connection| connection.number == 1);
    let words = "rule mark down --server 172.17.0.2";
    let mut n = 0;
    while kill::before_change(&mut bed.lan.tool().command(words), n) {
        all_stand(&mut all);
        let is_down = bed.rows(0)[0]["marked_down"] == true;
        assert_eq!(servers_of(&bed.connect_many()).contains(&0), !is_down);
        bed.lan.tool().ok("rule mark up --server 172.17.0.2");
        n += 1;
    }
    assert!(n > 5, "{n} changes");
    all_stand(&mut all);
}
