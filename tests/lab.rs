//! The lab, by the shipped binary alone. Needs root, iproute2, util-linux and nftables.

use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixture::bed::{Lab, exec, lab, namespaces, run, status, xdpredir};
use crate::fixture::terminal::shows;
use crate::fixture::{BINARY, Pins, Run, chmod, command};

/// Runs the closure on a thread of its own in the host's network namespace.
fn on<T: Send + 'static>(host: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let namespace = File::open(format!("/run/netns/xdpredir-{host}")).expect("the host is there");
    thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).expect("the namespace can be entered");
        work()
    })
    .join()
    .expect("the thread ends well")
}

fn socket_on(host: &str, address: IpAddr, port: u16) -> UdpSocket {
    let socket = on(host, move || UdpSocket::bind((address, port)));
    let socket = socket.expect("the address is the host's");
    socket
        .set_read_timeout(Some(Duration::from_secs(3)))
        .expect("a timeout can be set");
    socket
}

/// A socket that can send to the address.
fn client_on(host: &str, to: IpAddr) -> UdpSocket {
    let any = match to {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    socket_on(host, any, 0)
}

fn ip(address: &str) -> IpAddr {
    address.parse().expect("it is an address")
}

/// Sends `size` bytes there and back, and returns the source that the far end saw.
fn echo(from: &str, to: &str, address: &str, size: usize) -> SocketAddr {
    let server = socket_on(to, ip(address), 0);
    let client = client_on(from, ip(address));
    let sent = vec![7; size];
    let mut received = vec![0; size + 1];

    let there = server.local_addr().expect("it is bound");
    client.send_to(&sent, there).expect("the route is there");
    let (length, seen) = server
        .recv_from(&mut received)
        .unwrap_or_else(|error| panic!("{from} does not reach {to} at {address}: {error}"));
    assert_eq!(received[..length], sent);
    server
        .send_to(&sent, seen)
        .unwrap_or_else(|error| panic!("{to} has no way to {seen}: {error}"));
    let (length, answering) = client
        .recv_from(&mut received)
        .unwrap_or_else(|error| panic!("{to} does not reach {from} at {seen}: {error}"));
    assert_eq!((&received[..length], answering), (&sent[..], there));
    seen
}

#[test]
fn in_the_redirect_bed_all_hosts_reach_each_other() {
    let _lab = Lab::with("redirect");
    echo("vm", "host", "192.168.122.1", 64);
    echo("vm", "udpserver", "172.17.0.2", 64);
    echo("udpserver", "host", "172.17.0.1", 64);
    let seen = echo("udpserver", "vm", "192.168.122.10", 64);
    assert_eq!(seen.ip(), ip("172.17.0.2"));

    echo("vm", "host", "fd00:122::1", 64);
    echo("vm", "udpserver", "fd00:17::2", 64);
    echo("udpserver", "host", "fd00:17::1", 64);
    let seen = echo("udpserver", "vm", "fd00:122::10", 64);
    assert_eq!(seen.ip(), ip("fd00:17::2"));
}

#[test]
fn the_pair_carries_frames_of_9000_bytes_whole() {
    let _lab = Lab::with("pair");
    let payload = 9000 - 20 - 8;
    echo("host", "xdp", "10.2.2.2", payload);
    echo("xdp", "host", "10.2.2.1", payload);
    let payload = 9000 - 40 - 8;
    echo("host", "xdp", "fd00:2::2", payload);
    echo("xdp", "host", "fd00:2::1", payload);
}

#[test]
fn in_the_gateway_bed_client_and_server_reach_each_other_through_xdp() {
    let _lab = Lab::with("gateway");
    let seen = echo("client", "server", "192.168.20.20", 64);
    assert_eq!(seen.ip(), ip("192.168.10.10"));
    echo("server", "client", "192.168.10.10", 64);
    echo("client", "xdp", "192.168.10.2", 64);

    let seen = echo("client", "server", "fd00:20::20", 64);
    assert_eq!(seen.ip(), ip("fd00:10::10"));
    echo("server", "client", "fd00:10::10", 64);
    echo("client", "xdp", "fd00:10::2", 64);

    let stop = "cd /proc/sys/net; echo 0 | tee ipv4/ip_forward >ipv6/conf/all/forwarding";
    exec("xdp", &["sh", "-c", stop]).ok();
    assert!(is_silent("client", "server", "192.168.20.20"));
    assert!(is_silent("client", "server", "fd00:20::20"));
}

#[test]
fn in_the_gateway_bed_xdp_redirects_what_the_client_sends_to_the_internet() {
    let _lab = Lab::with("gateway");
    let pins = Pins::new();
    follow_first_steps(&pins);
    let server = socket_on("server", ip("192.168.20.20"), 7999);
    let internet = ip("198.51.100.1");
    let client = client_on("client", internet);
    client
        .send_to(b"hello ebpf", (internet, 7999))
        .expect("the route is there");
    let mut heard = [0; 16];
    let length = server.recv(&mut heard).expect("the server hears it");
    assert_eq!(&heard[..length], b"hello ebpf");
    down_with(&pins);
}

fn is_silent(from: &str, to: &str, address: &str) -> bool {
    let server = socket_on(to, ip(address), 0);
    server
        .set_read_timeout(Some(Duration::from_millis(300)))
        .expect("a timeout can be set");
    let client = client_on(from, ip(address));
    let there = server.local_addr().expect("it is bound");
    client.send_to(b"hello", there).expect("the route is there");
    let heard = server.recv_from(&mut [0; 16]);
    heard.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn in_the_gateway_bed_the_client_reaches_the_internet_behind_the_hosts_address() {
    let _lab = Lab::with("gateway");
    for inside in ["client", "server", "xdp"] {
        let seen = echo(inside, "internet", "198.51.100.1", 64);
        assert_eq!(seen.ip(), ip("198.51.100.2"), "from {inside}");
        let seen = echo(inside, "internet", "2001:db8:100::1", 64);
        assert_eq!(seen.ip(), ip("2001:db8:100::2"), "from {inside}");
    }
}

#[test]
fn a_bed_that_is_up_is_left_as_it_is_by_a_second_up() {
    let _lab = Lab::with("redirect");
    let before = status();
    let said = lab(&["up", "redirect"]).ok().out;
    assert_eq!(said, "the bed redirect is already up\n");
    assert_eq!(status(), before);
}

#[test]
fn up_ends_with_what_to_try_and_warns_where_nothing_can_be_pinned() {
    let _lab = Lab::alone();
    let pins = Pins::new();
    let mut up = xdpredir(&["lab", "up", "redirect", "--pin-dir"]);
    let run = run(up.arg(pins.dir())).ok();
    let last = run.out.lines().last().expect("a line");
    let step = "xdpredir lab exec host -- xdpredir attach virbr0";
    assert!(
        last.starts_with("now try ") && last.contains(step),
        "{run:?}"
    );
    assert!(last.contains("`xdpredir lab status`"), "{run:?}");
    assert_eq!(run.err, "");
    lab(&["down"]).ok();
    let run = lab(&["up", "pair", "--pin-dir", "/tmp/nothing-is-mounted-here"]).ok();
    let words = ["warning", "/tmp/nothing-is-mounted-here", "no bpffs"];
    assert!(words.iter().all(|word| run.err.contains(word)), "{run:?}");
}

/// A device's or an address' name is a word, however long.
#[test]
fn what_up_says_is_broken_between_words_on_a_terminal() {
    let _lab = Lab::alone();
    let mut up = xdpredir(&["lab", "up"]);
    up.stderr(std::process::Stdio::inherit());
    let shown = shows(up, 60);
    let long = shown.lines().find(|line| line.len() > 60);
    assert_eq!(long, None, "{shown}");
    assert!(shown.contains("\n  "), "{shown}");
    let whole = shown.replace("\n  ", " ");
    assert!(whole.contains("now try `xdpredir lab"), "{shown}");
}

#[test]
fn another_bed_is_refused_while_one_is_up() {
    let _lab = Lab::with("pair");
    let before = status();
    lab(&["up", "gateway"]).fails(4, &["pair", "lab down"]);
    assert_eq!(status(), before);
}

#[test]
fn down_leaves_no_namespace_and_may_be_repeated() {
    let _lab = Lab::with("gateway");
    let said = lab(&["down"]).ok().out;
    assert!(said.contains("+ ip netns del xdpredir-internet"), "{said}");
    assert_eq!(namespaces(), Vec::<String>::new());
    assert_eq!(lab(&["down"]).ok().out, "no lab is up\n");
}

#[test]
fn down_detaches_what_is_attached_in_the_bed() {
    let _lab = Lab::with("redirect");
    let pins = Pins::new();
    let dir = pins.dir();
    let dir = dir.to_str().expect("the path is text");
    let attach = [BINARY, "--pin-dir", dir, "attach", "virbr0"];
    exec("host", &attach).ok();
    assert_ne!(pins.left(), Vec::<PathBuf>::new());
    let said = down_with(&pins).out;
    assert!(said.contains("virbr0: detached"), "{said}");
}

#[test]
fn down_ends_the_processes_that_are_left_in_the_bed() {
    let _lab = Lab::with("pair");
    let stubborn = "trap '' TERM; echo ready; exec sleep 60";
    let mut stubborn = xdpredir(&["lab", "exec", "xdp", "--", "sh", "-c", stubborn])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it can be started");
    let mut ready = String::new();
    BufReader::new(stubborn.stdout.take().expect("it is piped"))
        .read_line(&mut ready)
        .expect("it says when it is ready");
    lab(&["down"]).ok();
    let ended = stubborn.try_wait().expect("it is our child");
    assert!(ended.is_some(), "it still runs");
}

#[test]
fn down_refuses_to_end_the_shell_it_was_called_from() {
    let _lab = Lab::with("pair");
    exec("xdp", &[BINARY, "lab", "down"]).fails(4, &["inside the lab's xdp"]);
    assert_eq!(status()["bed"], "pair");
}

#[test]
fn an_up_that_was_killed_half_way_is_made_good_by_the_next() {
    let _lab = Lab::alone();
    for at in [
        "link set lo up",
        "link add virbr0",
        "addr add 172.17.0.1",
        "link set lo alias",
    ] {
        kill_up_at(at);
        let said = lab(&["up", "redirect"]).ok().out;
        assert!(said.contains("incomplete"), "at {at}: {said}");
        echo("vm", "udpserver", "172.17.0.2", 64);
        lab(&["down"]).ok();
    }
}

/// Kills `lab up` in the middle of that command, which is made to hang.
fn kill_up_at(at: &str) {
    let tools = instead_of_ip(at, "touch \"${0%/*}/hangs\"; exec sleep 10");
    let mut up = xdpredir(&["lab", "up", "redirect"])
        .env("PATH", path_with(&tools))
        .stdout(Stdio::null())
        .spawn()
        .expect("it can be started");
    let deadline = Instant::now() + Duration::from_secs(5);
    while !tools.path().join("hangs").exists() {
        assert!(Instant::now() < deadline, "it does not get to {at}");
        thread::sleep(Duration::from_millis(5));
    }
    up.kill().expect("it is our child");
    up.wait().expect("it is our child");
}

/// A directory with an `ip` that does something else when its words contain those given.
fn instead_of_ip(words: &str, other: &str) -> TempDir {
    let tools = tempfile::tempdir().expect("a directory can be made");
    let path = env::var("PATH").expect("there is a PATH");
    let body = format!("case \"$*\" in *'{words}'*) {other};; esac\nPATH={path} exec ip \"$@\"");
    script(&tools.path().join("ip"), &body);
    tools
}

fn path_with(tools: &TempDir) -> String {
    let path = env::var("PATH").expect("there is a PATH");
    format!("{}:{path}", tools.path().display())
}

fn script(path: &Path, body: &str) {
    fs::write(path, format!("#!/bin/sh\n{body}\n")).expect("a script can be written");
    chmod(path, 0o755);
}

#[test]
fn a_bed_that_lost_a_host_is_made_good_by_the_next_up() {
    let _lab = Lab::with("pair");
    command("ip", &["netns", "del", "xdpredir-xdp"]);
    assert_eq!(status()["bed"], Value::Null);
    lab(&["up", "pair"]).ok();
    echo("host", "xdp", "10.2.2.2", 64);
}

#[test]
fn parts_of_another_bed_are_cleared_away_by_up() {
    let _lab = Lab::alone();
    command("ip", &["netns", "add", "xdpredir-internet"]);
    fs::write("/run/netns/xdpredir-host", "").expect("a name without a namespace can be made");
    lab(&["up", "pair"]).ok();
    assert_eq!(namespaces(), ["xdpredir-host", "xdpredir-xdp"]);
}

#[test]
fn a_command_that_fails_is_named_and_what_was_made_is_removed() {
    let _lab = Lab::alone();
    let tools = instead_of_ip("addr add 172.17.0.1", "echo no bridge today >&2; exit 2");
    run(xdpredir(&["lab", "up"]).env("PATH", path_with(&tools))).fails(
        1,
        &["ip addr add 172.17.0.1/16 dev docker0", "no bridge today"],
    );
    assert_eq!(namespaces(), Vec::<String>::new());
}

#[test]
fn a_missing_program_is_named_with_its_package_before_anything_is_touched() {
    let _lab = Lab::alone();
    let tools = tempfile::tempdir().expect("a directory can be made");
    for (program, package) in [
        ("ip", "iproute2"),
        ("nsenter", "util-linux"),
        ("nft", "nftables"),
    ] {
        run(xdpredir(&["lab", "up", "gateway"]).env("PATH", tools.path()))
            .fails(1, &[&format!("`{program}`"), package]);
        script(&tools.path().join(program), "exit 1");
    }
    assert_eq!(namespaces(), Vec::<String>::new());
}

#[test]
fn whoever_is_not_root_is_told_so_before_anything_is_touched() {
    let _lab = Lab::alone();
    let public = tempfile::tempdir().expect("a directory can be made");
    chmod(public.path(), 0o755);
    let copy = public.path().join("xdpredir");
    fs::copy(BINARY, &copy).expect("the binary can be copied");
    let as_nobody = |verb| {
        run(Command::new(&copy)
            .args(["lab", verb])
            .uid(65534)
            .gid(65534))
    };
    as_nobody("up").fails(5, &["root"]);
    as_nobody("tmux").fails(5, &["root"]);
    assert_eq!(namespaces(), Vec::<String>::new());
    let said = as_nobody("status").ok().out;
    assert!(said.contains("no lab is up"), "{said}");
}

#[test]
fn exec_passes_on_the_exit_code_of_the_command() {
    let _lab = Lab::with("pair");
    for code in [0, 1, 3, 42] {
        let exit = format!("exit {code}");
        assert_eq!(exec("xdp", &["sh", "-c", &exit]).code, code);
    }
}

#[test]
fn exec_names_a_command_that_is_not_there() {
    let _lab = Lab::with("pair");
    exec("xdp", &["no-such-command"]).fails(1, &["no-such-command"]);
}

#[test]
fn exec_enters_the_network_namespace_and_keeps_the_mounts() {
    let _lab = Lab::with("pair");
    let of = |kind: &str| format!("/proc/self/ns/{kind}");
    let own = |kind| fs::read_link(of(kind)).expect("/proc is there");
    let seen = |kind| PathBuf::from(exec("xdp", &["readlink", &of(kind)]).ok().out.trim());
    assert_eq!(seen("mnt"), own("mnt"));
    assert_ne!(seen("net"), own("net"));
    let links = exec("xdp", &["ip", "link"]).ok().out;
    assert!(links.contains("veth2@"), "{links}");
}

#[test]
fn exec_lists_the_hosts_when_there_is_no_such_host() {
    let _lab = Lab::with("redirect");
    exec("client", &["true"]).fails(3, &["client", "host, vm, udpserver"]);
}

#[test]
fn exec_names_the_remedy_when_no_lab_is_up() {
    let _lab = Lab::alone();
    exec("host", &["true"]).fails(3, &["run `xdpredir lab up`"]);
}

#[test]
fn the_status_describes_the_bed() {
    let _lab = Lab::with("redirect");
    let status = status();
    assert_eq!(status["bed"], "redirect");
    let hosts = status["hosts"].as_array().expect("hosts is an array");
    let names: Vec<_> = hosts.iter().map(|host| &host["host"]).collect();
    assert_eq!(names, ["host", "vm", "udpserver"]);
    assert_eq!(hosts[2]["netns"], "xdpredir-udpserver");
    assert_eq!(
        device(&hosts[2], "eth0"),
        json!({"ifname": "eth0", "ifindex": 24, "mac": "02:42:ac:11:00:02", "mtu": 1500,
               "addresses": ["172.17.0.2/16", "fd00:17::2/64"],
               "peer": "host:vethea881ef", "master": null})
    );
    assert_eq!(
        device(&hosts[0], "vethea881ef"),
        json!({"ifname": "vethea881ef", "ifindex": 25, "mac": "ee:1d:d4:fd:50:55", "mtu": 1500,
               "addresses": [], "peer": "udpserver:eth0", "master": "docker0"})
    );
}

/// A device of a host of the status, without its link-local addresses.
fn device(host: &Value, name: &str) -> Value {
    let devices = host["devices"].as_array().expect("devices is an array");
    let found = devices.iter().find(|device| device["ifname"] == name);
    let mut device = found.expect("the device is there").clone();
    device["addresses"]
        .as_array_mut()
        .expect("addresses is an array")
        .retain(|address| !address.to_string().contains("fe80:"));
    device
}

#[test]
fn the_status_has_a_line_for_each_address() {
    let _lab = Lab::with("redirect");
    let text = lab(&["status"]).ok().out;
    let below_its_v4 = |v6: &str| {
        let mut lines = text
            .lines()
            .skip_while(|line| !line.contains("172.17.0.2/16"));
        lines.nth(1).is_some_and(|line| line.trim() == v6)
    };
    assert!(below_its_v4("fd00:17::2/64"), "{text}");
    assert!(!text.contains("fe80:"), "{text}");
}

/// Who answers a greeting over TCP.
fn answering(from: &str, address: &str, port: u16) -> String {
    let words = format!(
        "exec socat -T3 - TCP:{}:{port},connect-timeout=3,retry=50,interval=0.1",
        bracketed(address)
    );
    exec(from, &["sh", "-c", &words])
        .ok()
        .out
        .trim()
        .to_string()
}

fn bracketed(address: &str) -> String {
    match address.contains(':') {
        true => format!("[{address}]"),
        false => address.into(),
    }
}

/// A server in one of the bed's hosts.
struct Server(Child);

impl Server {
    /// Says who it is to everybody who connects.
    fn on(host: &str, port: u16) -> Self {
        let listen = format!("TCP6-LISTEN:{port},ipv6only=0,fork,reuseaddr");
        let mut server = xdpredir(&["lab", "exec", host, "--", "socat", &listen]);
        server.arg(format!("SYSTEM:echo {host}"));
        Server(server.spawn().expect("socat can be run"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn in_the_wire_bed_all_but_ssh_crosses_the_host() {
    let _lab = Lab::with("wire");
    let pins = Pins::new();
    let places = [
        ("host", 22),
        ("host", 80),
        ("guest", 22),
        ("guest", 80),
        ("client", 80),
    ];
    let _servers = places.map(|(host, port)| Server::on(host, port));
    // Before the first step, the host answers itself.
    for port in [22, 80] {
        assert_eq!(answering("client", "10.3.3.2", port), "host");
    }
    follow_first_steps(&pins);
    for (client, guest) in [("10.3.3.1", "10.3.3.2"), ("fd00:3::1", "fd00:3::2")] {
        assert_eq!(answering("client", guest, 80), "guest");
        assert_eq!(answering("client", guest, 22), "host");
        assert_eq!(answering("guest", client, 80), "client");
        echo("client", "guest", guest, 1400);
        echo("guest", "client", client, 1400);
    }
    down_with(&pins);
}

#[test]
fn the_status_shows_the_rule_to_add() {
    let _lab = Lab::with("redirect");
    let text = lab(&["status"]).ok().out;
    let rule =
        "rule add --src 192.168.122.10 --server 172.17.0.2 --mac 02:42:ac:11:00:02 --ifindex 25";
    assert!(text.contains(rule), "{text}");
}

#[test]
fn what_the_status_says_to_try_works_as_it_stands() {
    for bed in ["redirect", "pair", "gateway", "wire"] {
        let _lab = Lab::with(bed);
        let pins = Pins::new();
        follow_first_steps(&pins);
        down_with(&pins);
    }
}

fn follow_first_steps(pins: &Pins) {
    let text = lab(&["status"]).ok().out;
    let (_, steps) = text.split_once("Now try:\n").expect("it has first steps");
    for step in steps.lines() {
        first_step(step, pins);
    }
}

/// Runs `xdpredir lab exec HOST -- xdpredir …` with this binary and pins of its own.
fn first_step(step: &str, pins: &Pins) {
    let words: Vec<_> = step.split_whitespace().collect();
    assert_eq!(words[4..6], ["--", "xdpredir"], "{step}");
    run(xdpredir(&words[1..5])
        .arg(BINARY)
        .arg("--pin-dir")
        .arg(pins.dir())
        .args(&words[6..]))
    .ok();
}

fn down_with(pins: &Pins) -> Run {
    let down = run(xdpredir(&["lab", "down", "--pin-dir"]).arg(pins.dir())).ok();
    assert_eq!(pins.left(), Vec::<PathBuf>::new());
    down
}

#[test]
fn the_status_of_no_lab_is_no_error() {
    let _lab = Lab::alone();
    assert_eq!(status(), json!({"bed": null, "hosts": []}));
    let text = lab(&["status"]).ok().out;
    assert!(text.contains("no lab is up"), "{text}");
}

#[test]
fn with_json_up_and_down_print_the_status_and_nothing_else() {
    let _lab = Lab::alone();
    let up = lab(&["up", "pair", "--json"]).ok().json();
    assert_eq!(up, status());
    let down = lab(&["down", "--json"]).ok().json();
    assert_eq!(down, json!({"bed": null, "hosts": []}));
}

/// The caller is put into a fresh namespace, so that nobody else changes what is compared.
#[test]
fn the_network_it_is_called_from_is_left_as_it_was() {
    let _lab = Lab::alone();
    let (before, during, after) = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a namespace can be made");
        let before = own_network();
        lab(&["up", "gateway"]).ok();
        let during = own_network();
        lab(&["down"]).ok();
        (before, during, own_network())
    })
    .join()
    .expect("the thread ends well");
    assert_eq!(during, before);
    assert_eq!(after, before);
}

/// Links, addresses, routes, packet filter and the sysctls that the beds set.
fn own_network() -> String {
    let look = "ip addr; ip route; ip -6 route; ip netns list-id; nft list ruleset; \
                cd /proc/sys/net; grep . ipv4/ip_forward ipv4/conf/*/rp_filter \
                ipv6/conf/*/forwarding ipv6/conf/*/disable_ipv6 ipv6/conf/*/accept_dad";
    command("sh", &["-ec", look])
}
