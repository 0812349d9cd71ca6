//! ICMP errors about packets of a conversation reach who has to know: the server, those about answers; the client,
//! those about requests.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use crate::fixture::{Ns, Pins, Tool};

/// Of one link, the client's or the server's. IPv6 has no less than 1,280.
const NARROW: usize = 1300;

struct Family {
    /// What clients ask.
    service: &'static str,
    client: &'static str,
    server: &'static str,
    /// The host's, that servers see with --snat.
    host: &'static str,
}

const FAMILIES: [Family; 2] = [
    Family {
        service: "203.0.113.7",
        client: "10.1.0.2",
        server: "10.2.0.2",
        host: "172.17.0.1",
    },
    Family {
        service: "2001:db8:113::7",
        client: "fd00:1::2",
        server: "fd00:2::2",
        host: "fd00:17::1",
    },
];

/// Which link is narrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Narrow {
    Neither,
    Client,
    /// Between the client's router and the host.
    Lan,
    Server,
}

/// `client eth0 -- eth0 near eth1 -- lan host wan -- eth1 far eth0 -- eth0 server`.
struct Bed {
    client: Ns,
    _near: Ns,
    host: Ns,
    far: Ns,
    server: Ns,
    pins: Pins,
}

impl Bed {
    /// What is redirected natively to the client's router arrives, or does not.
    fn new(mode: &str, narrow: Narrow, reply: &str, reachable: bool) -> Bed {
        let [client, near, host, far, server] =
            ["client", "near", "host", "far", "server"].map(Ns::dual_stack);
        near.veth("eth0", &client, "eth0");
        host.veth("lan", &near, "eth1");
        host.veth("wan", &far, "eth1");
        far.veth("eth0", &server, "eth0");
        for (ns, device, v4, v6) in [
            (&client, "eth0", "10.1.0.2/24", "fd00:1::2/64"),
            (&near, "eth0", "10.1.0.1/24", "fd00:1::1/64"),
            (&near, "eth1", "192.168.122.2/24", "fd00:122::2/64"),
            (&host, "lan", "192.168.122.1/24", "fd00:122::1/64"),
            (&host, "wan", "172.17.0.1/24", "fd00:17::1/64"),
            (&far, "eth1", "172.17.0.2/24", "fd00:17::2/64"),
            (&far, "eth0", "10.2.0.1/24", "fd00:2::1/64"),
            (&server, "eth0", "10.2.0.2/24", "fd00:2::2/64"),
        ] {
            ns.ip(&format!("addr add {v4} dev {device}"));
            ns.ip(&format!("addr add {v6} dev {device}"));
        }
        for (ns, to, v4, v6) in [
            (&client, "default", "10.1.0.1", "fd00:1::1"),
            (&near, "default", "192.168.122.1", "fd00:122::1"),
            (&host, "10.1.0.0/24", "192.168.122.2", ""),
            (&host, "fd00:1::/64", "", "fd00:122::2"),
            (&host, "10.2.0.0/24", "172.17.0.2", ""),
            (&host, "fd00:2::/64", "", "fd00:17::2"),
            (&far, "default", "172.17.0.1", "fd00:17::1"),
            (&server, "default", "10.2.0.1", "fd00:2::1"),
        ] {
            // Nobody may know by the other's greeting that a link is narrow.
            for (via, mss) in [(v4, 1460), (v6, 1440)]
                .iter()
                .filter(|(v, _)| !v.is_empty())
            {
                ns.ip(&format!("route add {to} via {via} advmss {mss}"));
            }
        }
        for ns in [&near, &host, &far] {
            ns.sysctl("net/ipv4/ip_forward", "1");
            ns.sysctl("net/ipv6/conf/all/forwarding", "1");
        }
        for (ends, side) in [
            ([&client, &near], Narrow::Client),
            ([&server, &far], Narrow::Server),
        ] {
            ends[0].exec("ethtool -K eth0 tso off gso off");
            for ns in ends.iter().filter(|_| side == narrow) {
                ns.ip(&format!("link set eth0 mtu {NARROW}"));
            }
        }
        if narrow == Narrow::Lan {
            host.ip(&format!("link set lan mtu {NARROW}"));
            near.ip(&format!("link set eth1 mtu {NARROW}"));
        }
        far.exec("ethtool -K eth1 gro on");
        near.exec(&format!(
            "ethtool -K eth1 gro {}",
            if reachable { "on" } else { "off" }
        ));
        let bed = Bed {
            client,
            _near: near,
            host,
            far,
            server,
            pins: Pins::new(),
        };
        bed.redirect(mode, reply);
        bed
    }

    fn redirect(&self, mode: &str, reply: &str) {
        self.tool().ok(&format!("attach lan --mode {mode}"));
        if mode == "skb" {
            self.tool().ok("attach wan --mode skb"); // otherwise rules have it attached
        }
        for family in FAMILIES {
            let Family {
                service,
                server,
                host,
                ..
            } = family;
            let reply = reply.replace("HOST", host);
            if reply == DIRECT {
                let len = if service.contains(':') { 128 } else { 32 };
                self.server.ip(&format!("addr add {service}/{len} dev lo"));
                let to = format!("route add {service}/{len} via {server}");
                self.far.ip(&to);
            }
            for proto in ["tcp", "udp"] {
                self.tool().ok(&format!(
                    "rule add --dst {service} --proto {proto} --port 80 --server {server} {reply}"
                ));
            }
        }
    }

    fn tool(&self) -> Tool<'_> {
        Tool {
            ns: &self.host,
            pins: &self.pins,
        }
    }
}

/// How answers come back.
const TRANSLATED: &str = "--reply nat --to-port 8080";
/// The server sees an address of the host in place of the client's.
const HIDDEN: &str = "--reply nat --to-port 8080 --snat HOST";
const DIRECT: &str = "--reply direct";

/// What the server listens at.
fn listening(family: &Family, reply: &str) -> SocketAddr {
    let (addr, port) = match reply {
        DIRECT => (family.service, 80),
        _ => (family.server, 8080),
    };
    SocketAddr::new(addr.parse().unwrap(), port)
}

fn asked(family: &Family) -> SocketAddr {
    SocketAddr::new(family.service.parse().unwrap(), 80)
}

fn set_timeouts(stream: &TcpStream) {
    let long = Some(Duration::from_secs(30));
    stream.set_read_timeout(long).unwrap();
    stream.set_write_timeout(long).unwrap();
}

/// A request and its answer, each of many segments.
fn transfer(bed: &Bed, family: &Family, reply: &str, what: &str) {
    let addr = listening(family, reply);
    let listener = bed.server.enter(|| TcpListener::bind(addr)).unwrap();
    let serving = thread::spawn(move || {
        let (mut peer, _) = listener.accept().expect("a client");
        set_timeouts(&peer);
        let mut question = Vec::new();
        let read = peer.read_to_end(&mut question);
        read.and_then(|_| peer.write_all(&question))
    });
    let to = asked(family);
    let client = bed.client.enter(|| TcpStream::connect(to));
    let mut client = client.unwrap_or_else(|e| panic!("{what}: {e}"));
    set_timeouts(&client);
    let sent: Vec<u8> = (0..200_000u32).map(|i| (i % 251) as u8).collect();
    let written = client.write_all(&sent);
    let closed = client.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let read = client.read_to_end(&mut answer);
    let served = serving.join().expect("it ends");
    written
        .and(closed)
        .unwrap_or_else(|e| panic!("{what}: {e}"));
    served.unwrap_or_else(|e| panic!("{what}: the question: {e}"));
    read.unwrap_or_else(|e| panic!("{what}: the answer: {e}"));
    assert!(answer == sent, "{what}");
}

fn transfers(mode: &str, narrow: Narrow, reply: &str, reachable: bool) {
    let bed = Bed::new(mode, narrow, reply, reachable);
    for family in FAMILIES {
        let what = format!("{mode} {reply} {reachable} {}", family.service);
        transfer(&bed, &family, reply, &what);
    }
}

#[test]
fn tcp_finds_out_that_the_way_to_the_client_is_narrow() {
    transfers("skb", Narrow::Client, TRANSLATED, true);
    transfers("native", Narrow::Client, TRANSLATED, true);
    transfers("skb", Narrow::Client, DIRECT, true);
    transfers("native", Narrow::Client, DIRECT, true);
}

#[test]
fn tcp_finds_out_that_the_way_to_the_server_is_narrow() {
    transfers("skb", Narrow::Server, TRANSLATED, true);
    transfers("native", Narrow::Server, HIDDEN, true);
}

fn socket(ns: &Ns, addr: SocketAddr) -> UdpSocket {
    let socket = ns.enter(|| UdpSocket::bind(addr)).expect("a socket");
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    socket
}

/// Sends until it is told that nobody is there.
fn is_refused(socket: &UdpSocket) -> bool {
    (0..200).any(|_| {
        thread::sleep(Duration::from_millis(10));
        let sent = socket.send(b"is there anybody?");
        sent.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused)
    })
}

fn ports_that_are_closed(mode: &str, reply: &str, reachable: bool) {
    let bed = Bed::new(mode, Narrow::Neither, reply, reachable);
    for family in FAMILIES {
        let what = format!("{mode} {reply} {reachable} {}", family.service);
        let own: IpAddr = family.client.parse().unwrap();
        let client = socket(&bed.client, SocketAddr::new(own, 0));
        client.connect(asked(&family)).unwrap();
        assert!(is_refused(&client), "{what}: the client is told");

        let server = socket(&bed.server, listening(&family, reply));
        // What came before is not what comes now.
        while client.send(b"question").is_err() {}
        let mut buffer = [0; 64];
        let (_, from) = server.recv_from(&mut buffer).expect("a question");
        server.connect(from).unwrap();
        drop(client);
        assert!(is_refused(&server), "{what}: the server is told");
    }
}

#[test]
fn a_closed_port_is_known_at_both_ends() {
    ports_that_are_closed("skb", TRANSLATED, true);
    ports_that_are_closed("skb", DIRECT, true);
    ports_that_are_closed("native", TRANSLATED, true);
    ports_that_are_closed("native", HIDDEN, false);
}

/// The host itself would have to tell the server.
#[test]
fn tcp_finds_out_that_the_hosts_own_link_to_the_client_is_narrow() {
    transfers("skb", Narrow::Lan, TRANSLATED, true);
    transfers("native", Narrow::Lan, TRANSLATED, false);
}
