//! Connections that stand while rules change, and answers that are not as they should be: real sockets,
//! whose clients ask an address that nobody has.

mod fixture;

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use fixture::connections::Table;
use fixture::lan::{Lan, receive, socket};
use fixture::{Ns, eventually, kill};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, sockopt,
};

const VIP: &str = "203.0.113.53";
const MODES: [&str; 2] = ["skb", "native"];

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
        lan.host.sysctl("net/ipv4/ip_forward", "1");
        lan.vm.exec("ethtool -K eth0 gro on tso off gso off");
        let mut devices = "lan".to_string();
        for (number, server) in lan.servers.iter().enumerate() {
            let device = format!("wan{number}");
            let addr = number + 2;
            lan.host.ip(&format!("addr add 172.17.0.1/32 dev {device}"));
            lan.host
                .ip(&format!("route add 172.17.0.{addr} dev {device}"));
            server.ip("route add default via 172.17.0.1");
            server.exec("ethtool -K eth0 tso off gso off");
            devices += &format!(" {device}");
        }
        lan.tool().ok(&format!("attach {devices} --mode {mode}"));
        let listeners = lan.servers.iter().map(listen).collect();
        Bed { lan, listeners }
    }

    /// Makes a server a backend, or changes its weight.
    fn join(&self, number: usize, weight: u32) {
        self.lan.add_backend(
            number,
            &format!("--dst {VIP} --proto tcp --port 80 --reply nat --weight {weight}"),
        );
    }

    fn leave(&self, number: usize) {
        self.lan.tool().ok(&delete(number));
    }

    fn connect_many(&self, count: usize) -> Vec<Connection> {
        let connect = || (0..count).map(|_| TcpStream::connect((VIP, 80))).collect();
        let clients: Vec<io::Result<TcpStream>> = self.lan.vm.enter(connect);
        self.accepted(
            clients
                .into_iter()
                .map(|client| client.expect("a server takes it")),
        )
    }

    /// The other ends of the client's connections. Servers see the client's own address.
    fn accepted(&self, clients: impl Iterator<Item = TcpStream>) -> Vec<Connection> {
        let mut clients: HashMap<SocketAddr, TcpStream> = clients
            .map(|client| (client.local_addr().expect("it has one"), client))
            .collect();
        let mut connections = Vec::new();
        eventually("servers have all connections", || {
            for (number, listener) in self.listeners.iter().enumerate() {
                while let Ok((server, from)) = listener.accept() {
                    let client = clients.remove(&from).expect("it is one of the client's");
                    connections.push(Connection::new(client, server, number));
                }
            }
            clients.is_empty()
        });
        connections
    }
}

fn listen(server: &Ns) -> TcpListener {
    let listener = server.enter(|| TcpListener::bind("0.0.0.0:80"));
    let listener = listener.expect("nobody has the port");
    // As many as connect before one is accepted.
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::MAXCONN).expect("longer");
    listener.set_nonblocking(true).expect("a flag");
    listener
}

fn delete(number: usize) -> String {
    let addr = number + 2;
    format!("rule del --dst {VIP} --proto tcp --port 80 --server 172.17.0.{addr}")
}

impl Connection {
    fn new(client: TcpStream, server: TcpStream, number: usize) -> Self {
        for end in [&client, &server] {
            end.set_nonblocking(false).expect("a flag");
            end.set_nodelay(true).expect("an option");
            end.set_read_timeout(Some(Duration::from_secs(5)))
                .expect("an option");
        }
        Connection {
            client,
            server,
            number,
        }
    }

    /// A question and its answer.
    fn converse(&mut self) -> io::Result<()> {
        let mut got = [0; 8];
        self.client.write_all(b"question")?;
        self.server.read_exact(&mut got)?;
        assert_eq!(&got, b"question");
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

fn servers_of(connections: &[Connection]) -> Vec<usize> {
    let mut numbers: Vec<_> = connections.iter().map(|c| c.number).collect();
    numbers.sort();
    numbers.dedup();
    numbers
}

fn two_thousand_connections_stand(mode: &str) {
    let bed = Bed::new(mode, 4);
    (0..3).for_each(|number| bed.join(number, 1));
    let table = Table::open(&bed.lan.pins, 1024, (32768, 60999));
    // In turns, because a server has a queue for so many.
    let mut all: Vec<_> = (0..10).flat_map(|_| bed.connect_many(200)).collect();
    all_stand(&mut all);
    assert_eq!(servers_of(&all), [0, 1, 2]);

    // One joins, and takes new ones alone.
    bed.join(3, 1);
    all_stand(&mut all);
    all.extend(bed.connect_many(100));
    assert_eq!(servers_of(&all), [0, 1, 2, 3]);

    // It becomes heavier than all others, which would move nearly all flows.
    bed.join(3, 100);
    all_stand(&mut all);
    bed.join(0, 50);
    all_stand(&mut all);

    // One leaves. Its own connections end, because no other server knows them.
    bed.leave(0);
    let (mut gone, mut stay): (Vec<_>, Vec<_>) = all.into_iter().partition(|c| c.number == 0);
    all_stand(&mut stay);
    assert!(gone.len() > 300, "{}", gone.len());
    for connection in &mut gone {
        let _ = connection.client.write(b"question");
        let read = connection.client.read(&mut [0]);
        let error = read.expect_err("its server has left");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    all_stand(&mut stay);

    // It comes back.
    bed.join(0, 100);
    all_stand(&mut stay);
    assert!(servers_of(&bed.connect_many(100)).contains(&0));
    table.check();
    let [_, _, evicted, refused] = table.stats();
    assert_eq!([evicted, refused], [0, 0]);
}

#[test]
fn two_thousand_connections_stand_while_backends_join_leave_and_change_their_weights() {
    two_thousand_connections_stand("skb");
}

#[test]
fn two_thousand_connections_stand_in_native_mode() {
    two_thousand_connections_stand("native");
}

#[test]
fn connections_stand_while_changes_are_killed() {
    let bed = Bed::new("skb", 3);
    (0..2).for_each(|number| bed.join(number, 1));
    let mut all = bed.connect_many(20);
    let mac = fixture::lan::mac(&bed.lan.servers[2], "eth0");
    let add = format!(
        "rule add --server 172.17.0.4 --mac {mac} --dev wan2 --dst {VIP} --proto tcp --port 80 \
         --reply nat --weight 100"
    );
    // Whatever state the one before has left, the next one starts from it.
    for words in [add, delete(2)] {
        let tool = bed.lan.tool();
        let mut n = 0;
        while kill::before_change(&mut tool.command(&words), n) {
            all_stand(&mut all);
            n += 1;
        }
        assert!(n > 5, "{words}: {n} changes");
        all_stand(&mut all);
    }
    assert_eq!(servers_of(&bed.connect_many(20)), [0, 1]);
}

/// A connection from this port of the client's.
fn connect_from(bed: &Bed, port: u16) -> Connection {
    let client = bed.lan.vm.enter(|| {
        let kind = (AddressFamily::Inet, SockType::Stream, SockFlag::empty());
        let fd = nix::sys::socket::socket(kind.0, kind.1, kind.2, None)?;
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
        bind(fd.as_raw_fd(), &SockaddrIn::new(192, 168, 122, 10, port))?;
        let to = SocketAddrV4::new(VIP.parse().expect("an address"), 80);
        connect(fd.as_raw_fd(), &SockaddrIn::from(to))?;
        Ok::<_, nix::Error>(TcpStream::from(fd))
    });
    let client = client.expect("a server takes it");
    bed.accepted([client].into_iter()).remove(0)
}

#[test]
fn a_client_may_use_a_port_again_at_once() {
    for mode in MODES {
        let bed = Bed::new(mode, 2);
        // So that the client's end does not keep the port.
        bed.lan.vm.sysctl("net/ipv4/tcp_max_tw_buckets", "0");
        (0..2).for_each(|number| bed.join(number, 1));
        for turn in 0..40 {
            let mut connection = connect_from(&bed, 40_000);
            connection.converse().expect("it stands");
            if turn % 2 == 0 {
                // Both ends close.
                drop(connection);
            } else {
                let linger = nix::libc::linger {
                    l_onoff: 1,
                    l_linger: 0,
                };
                setsockopt(&connection.client, sockopt::Linger, &linger).expect("an option");
                drop(connection.client); // sends a reset
                let mut byte = [0];
                connection.server.read(&mut byte).expect_err("it is reset");
            }
        }
    }
}

/// What a client gets that is connected to the address, and one that is not.
#[test]
fn answers_before_after_and_twice_and_from_another_port() {
    for mode in MODES {
        let bed = Bed::new(mode, 1);
        let rule = format!("--dst {VIP} --port 80 --to-port 8080 --reply nat");
        bed.lan.add_backend(0, &rule);
        let server = socket(&bed.lan.servers[0], "172.17.0.2:8080");
        let other = socket(&bed.lan.servers[0], "172.17.0.2:8081");
        let client = socket(&bed.lan.vm, "192.168.122.10:40000");
        let (own, shown) = ("172.17.0.2:8080", &format!("{VIP}:80"));
        let says = |from: &std::net::UdpSocket, words: &str, seen: &str| {
            from.send_to(words.as_bytes(), "192.168.122.10:40000")
                .expect("it is sent");
            assert_eq!(
                receive(&client),
                (words.to_string(), seen.to_string()),
                "{mode}"
            );
        };
        says(&server, "before", own);
        client.send_to(b"question", (VIP, 80)).expect("it is sent");
        assert_eq!(receive(&server).0, "question");
        says(&server, "once", shown);
        says(&server, "twice", shown);
        says(&other, "from another port", "172.17.0.2:8081");
        // To another port of the client's.
        let elsewhere = socket(&bed.lan.vm, "192.168.122.10:40001");
        server
            .send_to(b"elsewhere", "192.168.122.10:40001")
            .expect("it is sent");
        assert_eq!(
            receive(&elsewhere),
            ("elsewhere".to_string(), own.to_string())
        );
        bed.lan.tool().ok("rule del --all");
        says(&server, "after the rule", own);
    }
}
