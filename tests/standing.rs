//! Connections that stand while rules change, and answers that are not as they should be: real sockets,
//! whose clients ask an address that nobody has.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd as _};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::fixture::lan::{Lan, receive, socket};
use crate::fixture::{self, Ns, eventually, kill};
use nix::sched::{CloneFlags, unshare};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, sockopt,
};

const VIP: &str = "203.0.113.53";
const MODES: [&str; 2] = ["skb", "native"];

/// A client, the host, and servers that route by it.
struct Bed {
    lan: Lan,
}

/// The client's end of a connection, and the number of the server that answers there.
struct Connection {
    client: TcpStream,
    number: u64,
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
        Bed { lan }
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

    /// Does something while the servers answer.
    fn serving(&self, work: impl FnOnce()) {
        let (ended, listening) = (
            AtomicBool::new(false),
            Barrier::new(1 + self.lan.servers.len()),
        );
        let (ended, listening) = (&ended, &listening);
        thread::scope(|scope| {
            for (number, server) in (0..).zip(&self.lan.servers) {
                scope.spawn(move || {
                    server.enter(|| serve(number, listening, ended).expect("it serves"))
                });
            }
            let _ended = Ended(ended);
            listening.wait();
            work();
        });
    }

    fn connect_many(&self, count: usize) -> Vec<Connection> {
        let connect = || (0..count).map(|_| TcpStream::connect((VIP, 80))).collect();
        let clients: Vec<io::Result<TcpStream>> = self.lan.vm.enter(connect);
        let clients = clients.into_iter();
        let mut all: Vec<_> = clients
            .map(|client| Connection::new(client.expect("a server takes it")))
            .collect();
        for connection in &mut all {
            connection.ask();
            connection.number = connection.answered().expect("a server answers");
        }
        all
    }
}

/// Ends the servers, however that comes about.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A process may have as few as 20,000 files: gives a thread, and those that it starts, files of their own.
fn own_files() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("there is a limit");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("all that it may have");
    let open = std::fs::read_dir("/proc/thread-self/fd").expect("its files");
    let numbers = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let numbers: Vec<i32> = numbers.filter(|&number| number > 2).collect();
    unshare(CloneFlags::CLONE_FILES).expect("files of its own");
    // Those of other tests, which would wait for their ends. That of the directory is closed already.
    for number in numbers {
        let _ = nix::unistd::close(number);
    }
}

/// Answers each question with a number, until the end.
fn serve(number: u64, listening: &Barrier, ended: &AtomicBool) -> io::Result<()> {
    own_files();
    let listener = listen();
    let epoll = Epoll::new(EpollCreateFlags::empty())?;
    let expect = |socket: &dyn AsFd, data| {
        epoll.add(socket.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, data))
    };
    expect(&listener, u64::MAX)?;
    listening.wait();
    let mut streams = Vec::new();
    let mut events = [EpollEvent::empty(); 64];
    while !ended.load(Ordering::Relaxed) {
        let count = epoll.wait(&mut events, 20u8)?;
        for event in &events[..count] {
            if event.data() == u64::MAX {
                while let Ok((stream, _)) = listener.accept() {
                    expect(&stream, streams.len() as u64)?;
                    streams.push(Some(stream));
                }
                continue;
            }
            let place = &mut streams[event.data() as usize];
            let mut question = [0; 8];
            let is_asked = place.as_mut().is_some_and(|stream| {
                stream.read_exact(&mut question).is_ok()
                    && stream.write_all(&number.to_ne_bytes()).is_ok()
            });
            if !is_asked {
                *place = None;
            }
        }
    }
    Ok(())
}

/// Who accepts there waits for nobody.
fn listen() -> TcpListener {
    let listener = TcpListener::bind("0.0.0.0:80").expect("nobody has the port");
    // As many as connect before one is accepted.
    nix::sys::socket::listen(&listener, Backlog::MAXCONN).expect("longer");
    listener.set_nonblocking(true).expect("a flag");
    listener
}

fn delete(number: usize) -> String {
    let addr = number + 2;
    format!("rule del --dst {VIP} --proto tcp --port 80 --server 172.17.0.{addr}")
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_nonblocking(false).expect("a flag");
    stream.set_nodelay(true).expect("an option");
    let wait = Some(Duration::from_secs(20));
    stream.set_read_timeout(wait).expect("an option");
    stream
}

impl Connection {
    fn new(client: TcpStream) -> Self {
        let (client, number) = (patient(client), u64::MAX);
        Connection { client, number }
    }

    fn ask(&mut self) {
        self.client.write_all(b"question").expect("it is taken");
    }

    fn answered(&mut self) -> io::Result<u64> {
        let mut number = [0; 8];
        self.client.read_exact(&mut number)?;
        Ok(u64::from_ne_bytes(number))
    }
}

/// Each of them is answered by the server that it began with.
#[track_caller]
fn all_stand(connections: &mut [Connection]) {
    // Few enough at once that no device's queue overflows.
    for some in connections.chunks_mut(100) {
        some.iter_mut().for_each(Connection::ask);
        for connection in some {
            let number = connection.answered().expect("the connection stands");
            assert_eq!(number, connection.number);
        }
    }
}

fn servers_of(connections: &[Connection]) -> Vec<u64> {
    let mut numbers: Vec<_> = connections.iter().map(|c| c.number).collect();
    numbers.sort();
    numbers.dedup();
    numbers
}

fn ten_thousand_connections_stand(mode: &str) {
    thread::scope(|scope| {
        scope.spawn(|| {
            own_files();
            let bed = Bed::new(mode, 4);
            bed.serving(|| stand(&bed));
        });
    });
}

fn stand(bed: &Bed) {
    (0..3).for_each(|number| bed.join(number, 1));
    // In turns, because a server has a queue for so many.
    let mut all: Vec<_> = (0..20).flat_map(|_| bed.connect_many(500)).collect();
    assert_eq!(servers_of(&all), [0, 1, 2]);
    all_stand(&mut all);

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
    let (gone, mut stay): (Vec<_>, Vec<_>) = all.into_iter().partition(|c| c.number == 0);
    all_stand(&mut stay);
    assert!(gone.len() > 2_000, "{}", gone.len());
    for mut connection in gone {
        let _ = connection.client.write(b"question");
        let error = connection.answered().expect_err("its server has left");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    all_stand(&mut stay);

    // It comes back.
    bed.join(0, 100);
    all_stand(&mut stay);
    assert!(servers_of(&bed.connect_many(100)).contains(&0));
    let stats = &bed.lan.tool().json("stats")["connections"];
    assert_eq!([&stats["evicted"], &stats["refused"]], [0, 0], "{stats}");
}

#[test]
fn ten_thousand_connections_stand_while_backends_join_leave_and_change_their_weights() {
    ten_thousand_connections_stand("skb");
}

#[test]
fn ten_thousand_connections_stand_in_native_mode() {
    ten_thousand_connections_stand("native");
}

/// New ones go to another server meanwhile.
#[test]
fn connections_stand_while_their_link_flaps() {
    for mode in MODES {
        let bed = Bed::new(mode, 2);
        bed.serving(|| flap(&bed));
    }
}

fn flap(bed: &Bed) {
    (0..2).for_each(|number| bed.join(number, 1));
    let mut all = bed.connect_many(100);
    assert_eq!(servers_of(&all), [0, 1]);
    let host = &bed.lan.host;
    host.ip("link set wan0 down");
    // The program looks at links once in a tick of the kernel's clock.
    thread::sleep(Duration::from_millis(30));
    let mut new = bed.connect_many(100);
    assert_eq!(servers_of(&new), [1]);
    all.iter_mut().for_each(Connection::ask);
    host.ip("link set wan0 up");
    // A device that goes down loses its routes.
    host.ip("route replace 172.17.0.2 dev wan0");
    for connection in &mut all {
        let number = connection.answered().expect("the connection stands");
        assert_eq!(number, connection.number);
    }
    all_stand(&mut all);
    all_stand(&mut new);
    assert_eq!(servers_of(&bed.connect_many(100)), [0, 1]);
}

#[test]
fn connections_stand_while_changes_are_killed() {
    let bed = Bed::new("skb", 3);
    bed.serving(|| stand_while_changes_are_killed(&bed));
}

fn stand_while_changes_are_killed(bed: &Bed) {
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
fn connect_from(client: &Ns, port: u16) -> nix::Result<TcpStream> {
    client.enter(|| {
        let kind = (AddressFamily::Inet, SockType::Stream, SockFlag::empty());
        let fd = nix::sys::socket::socket(kind.0, kind.1, kind.2, None)?;
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
        bind(fd.as_raw_fd(), &SockaddrIn::new(192, 168, 122, 10, port))?;
        let to = SocketAddrV4::new(VIP.parse().expect("an address"), 80);
        connect(fd.as_raw_fd(), &SockaddrIn::from(to))?;
        Ok(TcpStream::from(fd))
    })
}

/// The other end of the only connection that somebody begins.
fn accept(listeners: &[TcpListener]) -> TcpStream {
    let mut taken = None;
    eventually("a server has the connection", || {
        let mut all = listeners.iter();
        taken = all.find_map(|listener| listener.accept().ok());
        taken.is_some()
    });
    patient(taken.expect("it has").0)
}

#[test]
fn a_client_may_use_a_port_again_at_once() {
    for mode in MODES {
        let bed = Bed::new(mode, 2);
        let listeners: Vec<_> = bed.lan.servers.iter().map(|s| s.enter(listen)).collect();
        // So that the client's end does not keep the port.
        bed.lan.vm.sysctl("net/ipv4/tcp_max_tw_buckets", "0");
        (0..2).for_each(|number| bed.join(number, 1));
        for turn in 0..40 {
            let client = connect_from(&bed.lan.vm, 40_000).expect("a server takes it");
            let (mut client, mut server) = (patient(client), accept(&listeners));
            let mut got = [0; 8];
            client.write_all(b"question").expect("it is taken");
            server.read_exact(&mut got).expect("it arrives");
            server.write_all(b"answered").expect("it is taken");
            client.read_exact(&mut got).expect("it is answered");
            assert_eq!(&got, b"answered");
            if turn % 2 == 0 {
                // Both ends close.
                drop(client);
                drop(server);
                continue;
            }
            let linger = nix::libc::linger {
                l_onoff: 1,
                l_linger: 0,
            };
            setsockopt(&client, sockopt::Linger, &linger).expect("an option");
            drop(client); // sends a reset
            server.read(&mut [0]).expect_err("it is reset");
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
