//! Clients and servers as people use them: `dig` with dnsmasq, a TCP conversation by socat. Needs
//! root and the Debian packages bind9-dnsutils, dnsmasq-base and socat.

mod fixture;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use fixture::{Ns, Pins, Tool};

const MODES: [&str; 2] = ["skb", "native"];
/// How long a program has to start, or to say what is waited for.
const SOON: Duration = Duration::from_secs(10);

/// The addresses of one IP version.
struct Family {
    /// The client's own.
    client: &'static str,
    /// The server's own.
    server: &'static str,
    /// An address that no host has, unless a server takes it as one more of its own.
    elsewhere: &'static str,
    /// A prefix length for one address alone.
    host_length: u8,
}

const V4: Family = Family {
    client: "192.168.122.10",
    server: "172.17.0.2",
    elsewhere: "203.0.113.7",
    host_length: 32,
};

const V6: Family = Family {
    client: "fd00:122::10",
    server: "fd00:17::2",
    elsewhere: "2001:db8:113::7",
    host_length: 128,
};

/// `client eth0 -- lan host wan -- eth0 server`, with IPv4 and IPv6. The host routes between the two.
struct Bed {
    host: Ns,
    client: Ns,
    server: Ns,
    pins: Pins,
}

impl Bed {
    fn new(mode: &str) -> Bed {
        let bed = Bed {
            host: Ns::dual_stack("host"),
            client: Ns::dual_stack("client"),
            server: Ns::dual_stack("server"),
            pins: Pins::new(),
        };
        bed.host.veth("lan", &bed.client, "eth0");
        bed.host.veth("wan", &bed.server, "eth0");
        for (ns, device, v4, v6) in [
            (&bed.host, "lan", "192.168.122.1/24", "fd00:122::1/64"),
            (&bed.client, "eth0", "192.168.122.10/24", "fd00:122::10/64"),
            (&bed.host, "wan", "172.17.0.1/16", "fd00:17::1/64"),
            (&bed.server, "eth0", "172.17.0.2/16", "fd00:17::2/64"),
        ] {
            ns.ip(&format!("addr add {v4} dev {device}"));
            ns.ip(&format!("addr add {v6} dev {device}"));
        }
        bed.client.ip("route add default via 192.168.122.1");
        bed.client.ip("route add default via fd00:122::1");
        bed.server.ip("route add default via 172.17.0.1");
        bed.server.ip("route add default via fd00:17::1");
        bed.host.sysctl("net/ipv4/ip_forward", "1");
        bed.host.sysctl("net/ipv6/conf/all/forwarding", "1");
        if mode == "native" {
            // A veth takes natively redirected frames only if its peer polls.
            bed.server.exec("ethtool -K eth0 gro on");
        } else {
            // In generic mode a large segment would be one frame that no device carries.
            bed.client.exec("ethtool -K eth0 tso off gso off");
        }
        bed.tool().ok(&format!("attach lan --mode {mode}"));
        bed
    }

    fn tool(&self) -> Tool<'_> {
        Tool {
            ns: &self.host,
            pins: &self.pins,
        }
    }

    /// The packets that rules have redirected.
    fn forwarded(&self) -> u64 {
        let rows = self.tool().json("rule list");
        let packets = |row: &serde_json::Value| row["forward_packages"].as_u64().expect("a count");
        rows.as_array().expect("rows").iter().map(packets).sum()
    }
}

/// A program in a namespace, with no input, ended by force after a minute.
fn program(ns: &Ns, words: &str) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net={}", ns.path().display()))
        .args("timeout -k 1 60".split(' '))
        .args(words.split_whitespace())
        .stdin(Stdio::null());
    command
}

/// A running server, ended with its owner.
struct Server {
    child: Child,
    said: Receiver<String>,
    log: Vec<String>,
}

impl Server {
    fn start(ns: &Ns, words: &str) -> Server {
        let mut child = program(ns, words)
            .stderr(Stdio::piped())
            .spawn()
            .expect("nsenter can be run");
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let (send, said) = mpsc::channel();
        thread::spawn(move || {
            let lines = stderr.lines().map_while(Result::ok);
            lines
                .take_while(|line| send.send(line.clone()).is_ok())
                .count()
        });
        Server {
            child,
            said,
            log: Vec::new(),
        }
    }

    /// Waits until the log has these words.
    #[track_caller]
    fn await_words(&mut self, words: &str) {
        let deadline = Instant::now() + SOON;
        while !self.log.iter().any(|line| line.contains(words)) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.said.recv_timeout(left) {
                Ok(line) => self.log.push(line),
                Err(_) => panic!("{words:?} is not in the log: {:#?}", self.log),
            }
        }
    }
}

impl Drop for Server {
    /// `timeout` passes SIGTERM on to the server.
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

fn dns_server(ns: &Ns) -> Server {
    let mut server = Server::start(
        ns,
        "dnsmasq --keep-in-foreground --conf-file=/dev/null --pid-file= --user=root --no-resolv \
         --no-hosts --local=/#/ --log-queries --log-facility=-",
    );
    server.await_words("started");
    server
}

/// The answer would come from another address than was asked, if it came: what counts is that the
/// query arrives.
fn dig(bed: &Bed, family: &Family, words: &str) -> Output {
    let dig = format!("dig -r @{} +tries=1 +time=1 {words}", family.elsewhere);
    program(&bed.client, &dig).output().expect("dig can be run")
}

fn queries_reach_the_dns_server(family: &Family) {
    for mode in MODES {
        let bed = Bed::new(mode);
        let mut server = dns_server(&bed.server);
        let rule = format!("rule add --port 53 --server {}", family.server);
        bed.tool().ok(&rule);
        for (kind, name) in [
            ("A", "hello.example"),
            ("AAAA", "a-much-longer-name-of-an-odd-length.hello.example"),
            ("TXT", "x.example"),
        ] {
            dig(&bed, family, &format!("{name} {kind}"));
            server.await_words(&format!("query[{kind}] {name} from {}", family.client));
        }
        assert_eq!(bed.forwarded(), 3, "{mode}");
    }
}

#[test]
fn a_dns_query_to_an_address_that_nobody_has_reaches_the_dns_server() {
    queries_reach_the_dns_server(&V4);
}

#[test]
fn a_dns_query_over_ipv6_to_an_address_that_nobody_has_reaches_the_dns_server() {
    queries_reach_the_dns_server(&V6);
}

/// Some megabytes that don't repeat at any power of two.
fn data() -> Vec<u8> {
    (0..5_000_001u32)
        .map(|i| ((i % 65_521 * 31) >> 5) as u8)
        .collect()
}

fn a_tcp_conversation_is_whole(family: &Family) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("data");
    fs::write(&file, data()).expect("a file can be written");
    for mode in MODES {
        let bed = Bed::new(mode);
        let elsewhere = family.elsewhere;
        let own = format!("addr add {elsewhere}/{} dev lo", family.host_length);
        bed.server.ip(&own);
        let server = family.server;
        let rule = format!("rule add --proto tcp --port 7000 --server {server} --keep-ip");
        bed.tool().ok(&rule);

        let _echo = echo_server(&bed.server, server);
        let from = fs::File::open(&file).expect("the file is there");
        let output = program(&bed.client, &socat_to(elsewhere))
            .stdin(from)
            .output()
            .expect("socat can be run");
        assert!(output.status.success(), "{mode}: {output:?}");
        assert!(output.stdout == data(), "{mode}: other bytes came back");
        assert_eq!(tcp_checksum_errors(&bed.server), 0, "{mode}");
        assert_eq!(tcp_checksum_errors(&bed.client), 0, "{mode}");
        // A full segment has fewer than 1,500 bytes.
        let least = data().len() as u64 / 1500;
        assert!(bed.forwarded() > least, "{mode}: {}", bed.forwarded());
    }
}

/// After the end of its input the client waits for the rest of the answer.
fn socat_to(address: &str) -> String {
    let is_v6 = address.contains(':');
    let to = if is_v6 {
        format!("[{address}]")
    } else {
        address.to_string()
    };
    format!("socat -t 30 STDIO TCP:{to}:7000,connect-timeout=10")
}

/// Sends back what it gets, on any of the namespace's addresses.
fn echo_server(ns: &Ns, address: &str) -> Server {
    let listen = "socat -t 30 TCP6-LISTEN:7000,ipv6only=0,reuseaddr,fork EXEC:cat";
    let server = Server::start(ns, listen);
    let to = (address.parse::<IpAddr>().expect("an address"), 7000);
    let deadline = Instant::now() + SOON;
    while ns.enter(|| TcpStream::connect(to)).is_err() {
        assert!(Instant::now() < deadline, "socat does not listen");
        thread::sleep(Duration::from_millis(20));
    }
    server
}

fn tcp_checksum_errors(ns: &Ns) -> u64 {
    let snmp = ns.enter(|| fs::read_to_string("/proc/thread-self/net/snmp"));
    let snmp = snmp.expect("the kernel counts");
    let mut lines = snmp.lines().filter(|line| line.starts_with("Tcp:"));
    let mut words = || lines.next().expect("a line of TCP").split(' ');
    let (names, values) = (words(), words());
    let mut columns = names.zip(values);
    let (_, value) = columns
        .find(|(name, _)| *name == "InCsumErrors")
        .expect("it is counted");
    value.parse().expect("a number")
}

#[test]
fn a_tcp_conversation_with_a_server_that_has_the_address_is_whole() {
    a_tcp_conversation_is_whole(&V4);
}

#[test]
fn a_tcp_conversation_over_ipv6_with_a_server_that_has_the_address_is_whole() {
    a_tcp_conversation_is_whole(&V6);
}
