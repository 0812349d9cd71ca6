//! The lab, by the shipped binary alone. Needs root, iproute2, util-linux and nftables.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};
use serde_json::{Value, json};

const XDPREDIR: &str = env!("CARGO_BIN_EXE_xdpredir");

/// The beds have fixed names: one test at a time, whichever file it is in. Starts and ends with no
/// lab up.
struct Lab {
    _lock: File,
}

impl Lab {
    fn alone() -> Lab {
        let lock = File::create("/tmp/xdpredir-lab.lock").expect("the lock can be made");
        lock.lock().expect("the lock can be taken");
        succeeds(xdpredir(&["lab", "down"]));
        Lab { _lock: lock }
    }

    fn with(bed: &str) -> Lab {
        let lab = Lab::alone();
        succeeds(xdpredir(&["lab", "up", bed]));
        lab
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = xdpredir(&["lab", "down"]).output();
    }
}

fn xdpredir(args: &[&str]) -> Command {
    let mut command = Command::new(XDPREDIR);
    command.args(args);
    command
}

fn output(mut command: Command) -> Output {
    command.output().expect("the command can be run")
}

fn succeeds(command: Command) -> String {
    let output = output(command);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("the output is text")
}

/// Fails with that code and says why on one line, which is returned.
fn fails(command: Command, code: i32) -> String {
    let output = output(command);
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    let stderr = String::from_utf8(output.stderr).expect("errors are text");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr
}

fn status() -> Value {
    let text = succeeds(xdpredir(&["lab", "status", "--json"]));
    serde_json::from_str(&text).expect("the status is JSON")
}

fn namespaces() -> Vec<String> {
    let Ok(dir) = fs::read_dir("/run/netns") else {
        return Vec::new();
    };
    let mut names: Vec<_> = dir
        .map(|entry| entry.expect("an entry").file_name().into_string().unwrap())
        .filter(|name| name.starts_with("xdpredir-"))
        .collect();
    names.sort();
    names
}

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

fn socket_on(host: &str, address: &str) -> UdpSocket {
    let address = address.to_string();
    let socket = on(host, move || UdpSocket::bind(address)).expect("the address is the host's");
    socket
        .set_read_timeout(Some(Duration::from_secs(3)))
        .expect("a timeout can be set");
    socket
}

/// Sends `size` bytes there and back, and returns the source that the far end saw.
fn echo(from: &str, to: &str, address: &str, size: usize) -> SocketAddr {
    let server = socket_on(to, &format!("{address}:7000"));
    let client = socket_on(from, "0.0.0.0:0");
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
    assert_eq!(seen.ip().to_string(), "172.17.0.2");
}

#[test]
fn the_pair_carries_frames_of_9000_bytes_whole() {
    let _lab = Lab::with("pair");
    let payload = 9000 - 20 - 8;
    echo("host", "xdp", "10.2.2.2", payload);
    echo("xdp", "host", "10.2.2.1", payload);
}

#[test]
fn in_the_gateway_bed_client_and_server_reach_each_other_through_xdp() {
    let _lab = Lab::with("gateway");
    let seen = echo("client", "server", "192.168.20.20", 64);
    assert_eq!(seen.ip().to_string(), "192.168.10.10");
    echo("server", "client", "192.168.10.10", 64);
    echo("client", "xdp", "192.168.10.2", 64);

    let stop = "echo 0 >/proc/sys/net/ipv4/ip_forward";
    succeeds(xdpredir(&["lab", "exec", "xdp", "--", "sh", "-c", stop]));
    assert!(is_silent("client", "server", "192.168.20.20"));
}

fn is_silent(from: &str, to: &str, address: &str) -> bool {
    let server = socket_on(to, &format!("{address}:7000"));
    server
        .set_read_timeout(Some(Duration::from_millis(300)))
        .expect("a timeout can be set");
    let client = socket_on(from, "0.0.0.0:0");
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
        assert_eq!(seen.ip().to_string(), "198.51.100.2", "from {inside}");
    }
}

#[test]
fn a_bed_that_is_up_is_left_as_it_is_by_a_second_up() {
    let _lab = Lab::with("redirect");
    let before = status();
    let said = succeeds(xdpredir(&["lab", "up", "redirect"]));
    assert!(said.contains("already up"), "{said}");
    assert!(!said.contains("+ "), "{said}");
    assert_eq!(status(), before);
}

#[test]
fn another_bed_is_refused_while_one_is_up() {
    let _lab = Lab::with("pair");
    let before = status();
    let why = fails(xdpredir(&["lab", "up", "gateway"]), 4);
    assert!(why.contains("pair") && why.contains("lab down"), "{why}");
    assert_eq!(status(), before);
}

#[test]
fn down_leaves_no_namespace_and_may_be_repeated() {
    let _lab = Lab::with("gateway");
    let said = succeeds(xdpredir(&["lab", "down"]));
    assert!(said.contains("+ ip netns del xdpredir-internet"), "{said}");
    assert_eq!(namespaces(), Vec::<String>::new());
    let said = succeeds(xdpredir(&["lab", "down"]));
    assert_eq!(said, "no lab is up\n");
}

#[test]
fn down_ends_the_processes_that_are_left_in_the_bed() {
    let _lab = Lab::with("pair");
    let mut stubborn = xdpredir(&["lab", "exec", "xdp", "--"])
        .args(["sh", "-c", "trap '' TERM; echo ready; exec sleep 60"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it can be started");
    let mut ready = String::new();
    BufReader::new(stubborn.stdout.take().expect("it is piped"))
        .read_line(&mut ready)
        .expect("it says when it is ready");
    succeeds(xdpredir(&["lab", "down"]));
    let ended = stubborn.try_wait().expect("it is our child");
    assert!(ended.is_some(), "it still runs");
}

#[test]
fn down_refuses_to_end_the_shell_it_was_called_from() {
    let _lab = Lab::with("pair");
    let why = fails(
        xdpredir(&["lab", "exec", "xdp", "--", XDPREDIR, "lab", "down"]),
        4,
    );
    assert!(why.contains("inside the lab's xdp"), "{why}");
    assert_eq!(status()["bed"], "pair");
}

#[test]
fn an_up_that_was_killed_half_way_is_made_good_by_the_next() {
    let _lab = Lab::alone();
    for commands in [1, 5, 12, 20] {
        kill_up_after(commands);
        let said = succeeds(xdpredir(&["lab", "up", "redirect"]));
        assert!(said.contains("incomplete"), "after {commands}: {said}");
        echo("vm", "udpserver", "172.17.0.2", 64);
        succeeds(xdpredir(&["lab", "down"]));
    }
}

/// Kills `lab up` when it announces the command after that many.
fn kill_up_after(commands: usize) {
    let mut up = xdpredir(&["lab", "up", "redirect"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it can be started");
    let lines = BufReader::new(up.stdout.take().expect("it is piped")).lines();
    assert_eq!(lines.take(commands + 1).count(), commands + 1);
    up.kill().expect("it still runs");
    up.wait().expect("it is our child");
}

#[test]
fn parts_of_another_bed_are_cleared_away_by_up() {
    let _lab = Lab::alone();
    let mut add = Command::new("ip");
    add.args(["netns", "add", "xdpredir-internet"]);
    succeeds(add);
    fs::write("/run/netns/xdpredir-host", "").expect("a name without a namespace can be made");
    succeeds(xdpredir(&["lab", "up", "pair"]));
    assert_eq!(namespaces(), ["xdpredir-host", "xdpredir-xdp"]);
}

#[test]
fn a_command_that_fails_is_named_and_what_was_made_is_removed() {
    let _lab = Lab::alone();
    let tools = tempfile::tempdir().expect("a directory can be made");
    let path = std::env::var("PATH").expect("there is a PATH");
    script(
        &tools.path().join("ip"),
        &format!(
            "case \"$*\" in *'addr add 172.17.0.1'*) echo no bridge today >&2; exit 2;; esac\n\
             PATH={path} exec ip \"$@\""
        ),
    );
    let mut up = xdpredir(&["lab", "up"]);
    up.env("PATH", format!("{}:{path}", tools.path().display()));
    let why = fails(up, 1);
    assert!(
        why.contains("ip addr add 172.17.0.1/16 dev docker0"),
        "{why}"
    );
    assert!(why.contains("no bridge today"), "{why}");
    assert_eq!(namespaces(), Vec::<String>::new());
}

fn script(path: &Path, body: &str) {
    fs::write(path, format!("#!/bin/sh\n{body}\n")).expect("a script can be written");
    make_executable(path);
}

fn make_executable(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("the file is ours");
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
        let mut up = xdpredir(&["lab", "up", "gateway"]);
        up.env("PATH", tools.path());
        let why = fails(up, 1);
        assert!(
            why.contains(&format!("`{program}`")) && why.contains(package),
            "{why}"
        );
        script(&tools.path().join(program), "exit 1");
    }
    assert_eq!(namespaces(), Vec::<String>::new());
}

#[test]
fn whoever_is_not_root_is_told_so_before_anything_is_touched() {
    let _lab = Lab::alone();
    let public = tempfile::tempdir().expect("a directory can be made");
    make_executable(public.path());
    let copy = public.path().join("xdpredir");
    fs::copy(XDPREDIR, &copy).expect("the binary can be copied");
    make_executable(&copy);
    let as_nobody = |args: &[&str]| {
        let mut command = Command::new(&copy);
        command.args(args).uid(65534).gid(65534);
        command
    };
    let why = fails(as_nobody(&["lab", "up"]), 5);
    assert!(why.contains("root"), "{why}");
    assert_eq!(namespaces(), Vec::<String>::new());
    let said = succeeds(as_nobody(&["lab", "status"]));
    assert!(said.contains("no lab is up"), "{said}");
}

#[test]
fn exec_passes_on_the_exit_code_of_the_command() {
    let _lab = Lab::with("pair");
    for code in [0, 1, 3, 42] {
        let exit = format!("exit {code}");
        let done = output(xdpredir(&["lab", "exec", "xdp", "--", "sh", "-c", &exit]));
        assert_eq!(done.status.code(), Some(code));
    }
}

#[test]
fn exec_names_a_command_that_is_not_there() {
    let _lab = Lab::with("pair");
    let why = fails(
        xdpredir(&["lab", "exec", "xdp", "--", "no-such-command"]),
        1,
    );
    assert!(why.contains("no-such-command"), "{why}");
}

#[test]
fn exec_enters_the_network_namespace_and_keeps_the_mounts() {
    let _lab = Lab::with("pair");
    let of = |kind: &str| format!("/proc/self/ns/{kind}");
    let read = |kind: &str| {
        let link = of(kind);
        succeeds(xdpredir(&["lab", "exec", "xdp", "--", "readlink", &link]))
    };
    let own = |kind: &str| fs::read_link(of(kind)).expect("/proc is there");
    assert_eq!(Path::new(read("mnt").trim()), own("mnt"));
    assert_ne!(Path::new(read("net").trim()), own("net"));
    let links = succeeds(xdpredir(&["lab", "exec", "xdp", "--", "ip", "link"]));
    assert!(links.contains("veth2@"), "{links}");
}

#[test]
fn exec_lists_the_hosts_when_there_is_no_such_host() {
    let _lab = Lab::with("redirect");
    let why = fails(xdpredir(&["lab", "exec", "client", "--", "true"]), 3);
    assert!(why.contains("host, vm, udpserver"), "{why}");
}

#[test]
fn exec_names_the_remedy_when_no_lab_is_up() {
    let _lab = Lab::alone();
    let why = fails(xdpredir(&["lab", "exec", "host", "--", "true"]), 3);
    assert!(why.contains("run `xdpredir lab up`"), "{why}");
}

#[test]
fn the_status_describes_the_bed() {
    let _lab = Lab::with("redirect");
    let mut status = status();
    let hosts = status["hosts"].as_array_mut().expect("hosts is an array");
    assert_eq!(
        hosts.iter().map(|host| &host["host"]).collect::<Vec<_>>(),
        ["host", "vm", "udpserver"]
    );
    let server = hosts.last_mut().expect("there are three");
    let addresses = server["devices"][0]["addresses"]
        .as_array_mut()
        .expect("an array");
    addresses.retain(|address| !address.to_string().contains(':'));
    assert_eq!(
        *server,
        json!({"host": "udpserver", "netns": "xdpredir-udpserver", "devices": [{
            "ifname": "eth0", "ifindex": 24, "mac": "02:42:ac:11:00:02", "mtu": 1500,
            "addresses": ["172.17.0.2/16"], "peer": "host:vethea881ef", "master": null}]})
    );
    let host = status["hosts"][0]["devices"].as_array().expect("an array");
    let port = host
        .iter()
        .find(|device| device["ifindex"] == 25)
        .expect("the design's ifindex");
    assert_eq!(
        (&port["ifname"], &port["peer"], &port["master"]),
        (
            &json!("vethea881ef"),
            &json!("udpserver:eth0"),
            &json!("docker0")
        )
    );
    assert_eq!(status["bed"], "redirect");
}

#[test]
fn the_status_shows_the_rule_to_add() {
    let _lab = Lab::with("redirect");
    let text = succeeds(xdpredir(&["lab", "status"]));
    assert!(
        text.contains(
            "rule add --src 192.168.122.10 --server 172.17.0.2 --mac 02:42:ac:11:00:02 --ifindex 25"
        ),
        "{text}"
    );
}

#[test]
fn the_status_of_no_lab_is_no_error() {
    let _lab = Lab::alone();
    assert_eq!(status(), json!({"bed": null, "hosts": []}));
    let text = succeeds(xdpredir(&["lab", "status"]));
    assert!(text.contains("no lab is up"), "{text}");
}

#[test]
fn with_json_up_and_down_print_the_status_and_nothing_else() {
    let _lab = Lab::alone();
    let up = succeeds(xdpredir(&["lab", "up", "pair", "--json"]));
    assert_eq!(
        serde_json::from_str::<Value>(&up).expect("it is JSON"),
        status()
    );
    let down = succeeds(xdpredir(&["lab", "down", "--json"]));
    assert_eq!(
        serde_json::from_str::<Value>(&down).expect("it is JSON"),
        json!({"bed": null, "hosts": []})
    );
}

/// The caller is put into a fresh namespace, so that nobody else changes what is compared.
#[test]
fn the_network_it_is_called_from_is_left_as_it_was() {
    let _lab = Lab::alone();
    let (before, during, after) = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a namespace can be made");
        let before = own_network();
        succeeds(xdpredir(&["lab", "up", "gateway"]));
        let during = own_network();
        succeeds(xdpredir(&["lab", "down"]));
        (before, during, own_network())
    })
    .join()
    .expect("the thread ends well");
    assert_eq!(during, before);
    assert_eq!(after, before);
}

/// Links, addresses, routes, packet filter and the sysctls that the beds set.
fn own_network() -> String {
    let mut look = Command::new("sh");
    look.args([
        "-ec",
        "ip addr; ip route; ip netns list-id; nft list ruleset; cd /proc/sys/net; \
         grep . ipv4/ip_forward ipv4/conf/*/rp_filter ipv6/conf/*/accept_dad",
    ]);
    succeeds(look)
}
