//! What the packet program remembers: real clients ask an address that nobody has, and get their answers from it.

use crate::fixture;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use crate::fixture::connections::Table;
use crate::fixture::guest::is_kernel;
use crate::fixture::lan::Lan;

const VIP: &str = "203.0.113.53";
const BUCKETS: u32 = 64;

/// A client, the host with a rule for it, and a server whose route to the client is by the host.
struct Bed {
    lan: Lan,
    table: Table,
}

impl Bed {
    /// The client's device takes frames that are redirected natively, or does not.
    fn new(mode: &str, proto: &str, reachable: bool) -> Self {
        let lan = Lan::new(false, 1);
        lan.host.sysctl("net/ipv4/ip_forward", "1");
        lan.host.ip("addr add 172.17.0.1/16 dev wan0");
        lan.servers[0].ip("route add default via 172.17.0.1");
        let gro = if reachable { "on" } else { "off" };
        lan.vm.exec(&format!("ethtool -K eth0 gro {gro}"));
        // So that the checksum of what leaves there is complete, and the client looks at it.
        lan.host.exec("ethtool -K lan tx off");
        for device in ["lan", "wan0"] {
            lan.tool().ok(&format!("attach {device} --mode {mode}"));
        }
        lan.add_backend(
            0,
            &format!("--dst {VIP} --proto {proto} --port 80 --to-port 8080 --reply nat"),
        );
        let table = Table::open(&lan.pins, BUCKETS, (10000, 32767));
        Bed { lan, table }
    }

    fn counted(&self, interface: &str, outcome: &str) -> u64 {
        let stats = self.lan.tool().json("stats");
        let all = stats["interfaces"].as_array().unwrap();
        let found = all.iter().find(|i| i["ifname"] == interface).unwrap();
        found["outcomes"][outcome]["packets"].as_u64().unwrap()
    }
}

fn datagrams(mode: &str, reachable: bool) {
    let bed = Bed::new(mode, "udp", reachable);
    let server = bed.lan.servers[0].enter(|| UdpSocket::bind("172.17.0.2:8080").unwrap());
    let client = bed.lan.vm.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    for socket in [&server, &client] {
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
    }
    client.connect((VIP, 80)).unwrap();
    for turn in 1..=3u64 {
        client.send(b"question").unwrap();
        let mut buffer = [0; 64];
        let (_, from) = server.recv_from(&mut buffer).expect("the question arrives");
        server.send_to(b"answer", from).unwrap();
        let len = client.recv(&mut buffer).expect("the answer arrives");
        assert_eq!(&buffer[..len], b"answer");
        // Before 6.3, the kernel does not say what a veth takes.
        let outcome = match mode == "skb" || (reachable && is_kernel(6, 3)) {
            true => "answered",
            false => "answer_passed",
        };
        assert_eq!(bed.counted("wan0", outcome), turn, "{mode} {reachable}");
    }
    bed.table.check();
    assert_eq!(bed.table.entries().len(), 2);
    assert_eq!(bed.table.stats(), [1, 0, 0, 0]);
}

fn streams(mode: &str, reachable: bool) {
    let bed = Bed::new(mode, "tcp", reachable);
    bed.lan.vm.exec("ethtool -K eth0 tx off");
    bed.lan.servers[0].exec("ethtool -K eth0 tx off");
    let server = bed.lan.servers[0].enter(|| TcpListener::bind("172.17.0.2:8080").unwrap());
    let serving = thread::spawn(move || {
        let (mut peer, _) = server.accept().unwrap();
        let mut question = Vec::new();
        peer.read_to_end(&mut question).unwrap();
        peer.write_all(&question).unwrap();
        question.len()
    });
    let mut client = bed.lan.vm.enter(|| TcpStream::connect((VIP, 80)).unwrap());
    client
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let question = vec![0x5a; 1 << 20];
    client.write_all(&question).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).expect("the answer arrives");
    assert!(answer == question);
    assert_eq!(serving.join().unwrap(), question.len());
    fixture::eventually("both ends are closed", || {
        bed.table.entries().iter().all(|e| e.state() == 7)
    });
    bed.table.check();
    assert_eq!(bed.table.stats(), [1, 0, 0, 0]);
}

const BEDS: [(&str, bool); 4] = [
    ("skb", true),
    ("skb", false),
    ("native", true),
    ("native", false),
];

#[test]
fn datagrams_are_answered_from_the_address_that_was_asked() {
    for (mode, reachable) in BEDS {
        datagrams(mode, reachable);
    }
}

#[test]
fn tcp_is_answered_from_the_address_that_was_asked() {
    for (mode, reachable) in BEDS {
        streams(mode, reachable);
    }
}

/// Flows of one client to a rule of which one backend stands; two more may join.
struct Flows {
    lan: Lan,
    rule: String,
    clients: Vec<UdpSocket>,
    servers: Vec<UdpSocket>,
}

impl Flows {
    fn new(options: &str) -> Self {
        let lan = Lan::new(false, 3);
        lan.tool().ok("attach lan --mode skb");
        for server in &lan.servers {
            server.ip(&format!("addr add {VIP}/32 dev lo"));
        }
        let flows = Flows {
            servers: (0..3).map(|number| lan.server_socket(number)).collect(),
            clients: (0..60).map(|_| lan.vm_socket()).collect(),
            rule: format!("--dst {VIP} --port 7999 {options}"),
            lan,
        };
        flows.add(0, "");
        flows
    }

    fn add(&self, number: usize, weight: &str) {
        self.lan
            .add_backend(number, &format!("{} {weight}", self.rule));
    }

    /// How many datagrams each server gets of one of each flow.
    fn spread(&self) -> [usize; 3] {
        for client in &self.clients {
            client.send_to(b"x", (VIP, 7999)).expect("it is sent");
        }
        let mut got = [0; 3];
        fixture::eventually("all have arrived", || {
            for (server, got) in self.servers.iter().zip(&mut got) {
                server.set_nonblocking(true).unwrap();
                *got += std::iter::from_fn(|| server.recv(&mut [0; 8]).ok()).count();
            }
            got.iter().sum::<usize>() == self.clients.len()
        });
        got
    }
}

#[test]
fn flows_of_a_sticky_rule_keep_their_backend_when_others_join_and_weights_change() {
    for reply in ["none", "direct", "nat"] {
        let mut flows = Flows::new(&format!("--reply {reply} --sticky"));
        assert_eq!(flows.spread(), [60, 0, 0], "{reply}");
        (1..3).for_each(|number| flows.add(number, "--weight 50"));
        flows.add(0, "--weight 2");
        assert_eq!(flows.spread(), [60, 0, 0], "{reply}");
        let new = (0..60).map(|_| flows.lan.vm_socket()).collect();
        let old = std::mem::replace(&mut flows.clients, new);
        let spread = flows.spread();
        assert!(spread[1] > spread[0] && spread[2] > spread[0], "{reply}");
        // What a backend that leaves has had goes to the others, and theirs stays.
        let words = format!("rule del --dst {VIP} --port 7999 --server 172.17.0.2");
        flows.lan.tool().ok(&words);
        let after = flows.spread();
        let stays = after[1] >= spread[1] && after[2] >= spread[2];
        assert!(after[0] == 0 && stays, "{reply}: {spread:?} {after:?}");
        flows.clients = old;
        assert_eq!(flows.spread()[0], 0, "{reply}");
    }
}

#[test]
fn flows_of_other_rules_move_when_others_join() {
    for reply in ["none", "nat"] {
        let flows = Flows::new(&format!("--reply {reply}"));
        assert_eq!(flows.spread(), [60, 0, 0]);
        (1..3).for_each(|number| flows.add(number, ""));
        assert!(flows.spread()[0] < 40, "{reply}");
    }
}

#[test]
fn interfaces_that_are_attached_after_the_rule_remember_as_well() {
    let lan = Lan::new(false, 2);
    lan.host.sysctl("net/ipv4/ip_forward", "1");
    lan.tool().ok("attach lan --mode skb");
    lan.host.ip("addr add 172.17.0.1/16 dev wan0");
    lan.servers[0].ip("route add default via 172.17.0.1");
    lan.add_backend(0, &format!("--dst {VIP} --port 7999 --reply nat"));
    // What was a server is another client.
    let client = &lan.servers[1];
    client.ip("addr add 10.9.0.2/24 dev eth0");
    let host = fixture::lan::mac(&lan.host, "wan1");
    client.ip(&format!("neigh add 10.9.0.1 lladdr {host} dev eth0"));
    client.ip(&format!("route add {VIP} via 10.9.0.1 src 10.9.0.2"));
    lan.tool().ok("attach wan1 --mode skb");
    let server = lan.server_socket(0);
    for client in [&lan.vm, client] {
        let client = fixture::lan::socket(client, "0.0.0.0:0");
        client.connect((VIP, 7999)).unwrap();
        client.send(b"question").unwrap();
        let (question, from) = fixture::lan::receive(&server);
        assert_eq!(question, "question");
        server.send_to(b"answer", from).unwrap();
        assert_eq!(fixture::lan::receive(&client).0, "answer");
    }
}
