//! What of a packet chooses the backend: its flow, its source, or nothing.

use crate::fixture;
use std::net::UdpSocket;
use std::process::Stdio;

use crate::fixture::guest::modes;
use crate::fixture::lan::{ANYWHERE, Lan, receive, socket};
use serde_json::json;

/// A rule with three servers, all of which listen.
struct Bed {
    lan: Lan,
    servers: Vec<UdpSocket>,
}

impl Bed {
    fn new(mode: &str, words: &str) -> Self {
        let lan = Lan::new(false, 3);
        lan.tool().ok(&format!("attach lan --mode {mode}"));
        (0..3).for_each(|number| lan.add_backend(number, words));
        let servers: Vec<UdpSocket> = (0..3).map(|number| lan.server_socket(number)).collect();
        for server in &servers {
            server.set_nonblocking(true).expect("a flag");
        }
        Bed { lan, servers }
    }

    /// How many datagrams each server has got since, once they are so many in all; and their lengths.
    fn got(&self, count: usize) -> ([usize; 3], Vec<usize>) {
        let (mut each, mut lengths) = ([0; 3], Vec::new());
        let mut buffer = [0; 8192];
        fixture::eventually("all arrive", || {
            for (number, server) in self.servers.iter().enumerate() {
                while let Ok(length) = server.recv(&mut buffer) {
                    each[number] += 1;
                    lengths.push(length);
                }
            }
            lengths.len() >= count
        });
        (each, lengths)
    }
}

#[test]
fn all_flows_of_a_source_go_to_one_server() {
    for (mode, reply) in modes().into_iter().zip(["none", "nat", "nat"]) {
        let bed = Bed::new(mode, &format!("--hash source --reply {reply}"));
        let mut all = [0; 3];
        for last in 20..60 {
            let source = format!("192.168.122.{last}");
            bed.lan.vm.ip(&format!("addr add {source}/32 dev eth0"));
            for _ in 0..8 {
                let client = socket(&bed.lan.vm, &format!("{source}:0"));
                client.send_to(b"hello", ANYWHERE).expect("it is sent");
            }
            let (each, _) = bed.got(8);
            assert!(each.contains(&8), "{mode}: {source}: {each:?}");
            all = std::array::from_fn(|number| all[number] + each[number]);
        }
        // A server without any of 40 sources is one chance in ten million.
        assert!(all.iter().all(|&count| count > 0), "{mode}: {all:?}");
        let row = &bed.lan.tool().json("rule list")[0];
        assert_eq!(row["hash"], "source");
    }
}

#[test]
fn each_datagram_goes_to_any_server() {
    for mode in modes() {
        let bed = Bed::new(mode, "--hash packet");
        let client = bed.lan.vm_socket();
        let send = |size: usize, times: usize| {
            for _ in 0..times {
                client
                    .send_to(&vec![7; size], ANYWHERE)
                    .expect("it is sent");
            }
        };
        send(10, 300);
        let (each, _) = bed.got(300);
        // 100 each, and 8 more or less.
        assert!(each.iter().all(|&count| count > 50), "{mode}: {each:?}");
        // All fragments of a datagram go to one of them.
        send(4000, 30);
        let (each, lengths) = bed.got(30);
        assert_eq!(lengths, [4000; 30], "{mode}");
        assert!(
            each.iter().filter(|&&count| count > 0).count() > 1,
            "{each:?}"
        );
        // A server that takes none gets none.
        bed.lan.add_backend(0, "--weight 0");
        send(10, 100);
        let (each, _) = bed.got(100);
        assert!(
            each[0] == 0 && each[1] > 0 && each[2] > 0,
            "{mode}: {each:?}"
        );
    }
}

#[test]
fn a_flow_has_one_server_again_once_that_is_said() {
    let bed = Bed::new("skb", "--hash packet");
    bed.lan.add_backend(1, "--hash flow");
    let client = bed.lan.vm_socket();
    for _ in 0..50 {
        client.send_to(b"hello", ANYWHERE).expect("it is sent");
    }
    let (each, _) = bed.got(50);
    assert!(each.contains(&50), "{each:?}");
}

#[test]
fn a_rule_that_spreads_datagrams_has_no_connections() {
    let lan = Lan::new(false, 2);
    lan.host.sysctl("net/ipv4/ip_forward", "1");
    let tool = lan.tool();
    tool.ok("attach lan");
    let typed = |words: &str| fixture::Run::from(tool.typed(words).output().expect("it runs"));
    let mac = fixture::lan::mac(&lan.servers[0], "eth0");
    let add = format!("rule add --server 172.17.0.2 --mac {mac} --dev wan0");
    let added = typed(&format!("{add} --hash packet")).ok();
    assert!(added.out.contains(" hash packet\n"), "{added:?}");
    let why = "  reply none: datagrams of one flow go to different servers\n";
    assert!(added.out.contains(why), "{added:?}");
    // Another one has that, too, and says nothing of it.
    let other = typed("rule add --server 172.17.0.3 --dev wan1 --mac 2:0:0:0:0:1").ok();
    assert!(
        other.out.contains("hash packet") && !other.out.contains(why),
        "{other:?}"
    );
    assert!(!other.err.contains("answers leave"), "{other:?}");
    let row = &tool.json("rule list")[0];
    assert_eq!(
        (&row["hash"], &row["reply"]),
        (&json!("packet"), &json!("none"))
    );
    for (words, why) in [
        ("--reply nat", "whose answers could be translated"),
        ("--snat auto", "whose answers could be translated"),
        ("--sticky", "cannot be sticky"),
    ] {
        typed(&format!("{add} {words}")).fails(2, &["--hash packet", why]);
    }
    typed(&format!("{add} --proto tcp --hash packet"))
        .fails(2, &["--hash packet", "only datagrams of UDP"]);
    typed(&format!("{add} --port 53 --reply nat")).ok();
    typed(&format!("{add} --port 53 --hash packet"))
        .fails(2, &["--hash packet", "reply none or direct"]);
    typed(&format!("{add} --port 53 --hash packet --reply none")).ok();
    typed(&format!("{add} --port 54 --hash packet --keep-ip")).ok();
    typed(&format!("{add} --hash none")).fails(2, &["flow, source, packet"]);
    typed("rule add --port 9 --drop --hash source").fails(2, &["--hash"]);
    // A file has it, too, and one that leaves the reply open.
    let mut rows = tool.json("rule list");
    for row in rows.as_array_mut().expect("rows") {
        let row = row.as_object_mut().expect("a row");
        if row["reply"] == "none" {
            row.remove("reply");
        }
    }
    let file = rows.to_string();
    tool.ok("rule del --all");
    let mut load = tool.typed("rule load -");
    let load = load
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut load = load.spawn().expect("it runs");
    let mut input = load.stdin.take().expect("a pipe");
    std::io::Write::write_all(&mut input, file.as_bytes()).expect("it reads");
    drop(input);
    let load = fixture::Run::from(load.wait_with_output().expect("it ends")).ok();
    assert!(!load.err.contains("answers leave"), "{load:?}");
    let rows = tool.json("rule list");
    for row in rows.as_array().expect("rows") {
        assert_eq!(row["hash"], "packet");
        assert_ne!(row["reply"], "nat");
    }
    let client = lan.vm_socket();
    let server = lan.server_socket(0);
    tool.ok("rule del --server 172.17.0.3");
    client.send_to(b"hello", ANYWHERE).expect("it is sent");
    assert_eq!(receive(&server).0, "hello");
}
