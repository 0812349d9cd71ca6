//! `capture`: packets as they arrive and as they leave, while they go their way as without it.

use std::io::Read;
use std::net::UdpSocket;
use std::ops::Range;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::fixture::capture::{Capture, lines, objects};
use crate::fixture::foreign::Foreign;
use crate::fixture::guest;
use crate::fixture::lan::{ANYWHERE, Lan, mac, receive, socket};
use crate::fixture::packet::{Checksum, Frame, TCP};
use crate::fixture::run::Loaded;
use crate::fixture::tap::Tap;
use crate::fixture::{Run, Tool, command, eventually};
use libbpf_rs::{Link, MapCore, MapFlags};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::Signal;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::UdpGsoSegment;
use nix::unistd::Pid;
use serde_json::{Value, json};

const RULE: &str = "dst 11.22.33.0/24 src 0.0.0.0/0 udp port 7999";

/// A server behind `wan0`, and the interface `lan` attached.
fn lan(mode: &str) -> Lan {
    let lan = Lan::new(false, 1);
    lan.tool().ok(&format!("attach lan --mode {mode}"));
    lan.add_backend(0, "--dst 11.22.33.0/24");
    lan
}

/// The fields of each frame of a capture file, as Wireshark's dissectors read it; none is malformed.
#[track_caller]
fn dissected(file: &str, fields: &[&str]) -> Vec<Vec<String>> {
    let read = |more: &[&str]| {
        let mut args = vec!["-r", file, "-o", "ip.check_checksum:TRUE"];
        args.extend(more);
        command("tshark", &args)
    };
    assert_eq!(
        read(&["-Y", "_ws.malformed || ip.checksum.status == 0"]),
        ""
    );
    let mut args = vec!["-T", "fields", "-E", "separator=|"];
    args.extend(fields.iter().flat_map(|field| ["-e", field]));
    let rows = read(&args);
    let row = |row: &str| row.split('|').map(String::from).collect();
    rows.lines().map(row).collect()
}

fn temporary(name: &str) -> String {
    let directory = std::env::temp_dir();
    let file = directory.join(format!("xdpt-{}-{name}", std::process::id()));
    file.to_str().expect("text").into()
}

#[test]
fn a_packet_is_shown_as_it_arrives_and_as_it_leaves() {
    for (mode, _kernel) in guest::modes_and_kernels() {
        let lan = lan(mode);
        let (vm, server) = (lan.vm_socket(), lan.server_socket(0));
        let capture = Capture::begin(&lan.tool(), "lan --proto udp --count 1 --json");
        vm.send_to(b"hello", ANYWHERE).expect("it is sent");
        let run = capture.end();
        let [arrived, left] = &objects(&run)[..] else {
            panic!("{mode}: {run:?}");
        };
        for (seen, stage, dst, ttl) in [
            (arrived, "arrived", "11.22.33.44", 64),
            (left, "left", "172.17.0.2", 63),
        ] {
            assert_eq!(seen["stage"], stage, "{mode}");
            for (key, value) in [
                ("packet", json!(1)),
                ("in", json!("lan")),
                ("egress", json!("wan0")),
                ("outcome", json!("redirected")),
                ("action", json!("redirect")),
                ("rule", json!(RULE)),
                ("server", json!("172.17.0.2")),
                ("len", json!(47)),
            ] {
                assert_eq!(seen[key], value, "{mode}: {key}");
            }
            let ip = &seen["parsed"]["ip"];
            assert_eq!((&ip["dst"], &ip["ttl"]), (&json!(dst), &json!(ttl)));
            assert_eq!(seen["frame"].as_str().unwrap().len(), 2 * 47);
        }
        assert!(run.err.contains("captured 1 packet\n"), "{run:?}");
        assert_eq!(receive(&server).0, "hello");
        // Nothing of it is left.
        vm.send_to(b"again", ANYWHERE).expect("it is sent");
        assert_eq!(receive(&server).0, "again");
        assert_eq!(lan.forwarded(0).0, 2);
    }
}

#[test]
fn lines_say_what_became_of_packets() {
    let lan = lan("skb");
    let vm = lan.vm_socket();
    lan.tool().ok("rule add --port 9 --drop");
    lan.tool().ok("rule add --port 8 --forward wan0");
    let capture = Capture::begin(&lan.tool(), "--proto udp --count 4");
    for to in [ANYWHERE, "11.22.33.44:8", "11.22.33.44:9", "11.22.33.44:10"] {
        vm.send_to(b"hello", to).expect("it is sent");
    }
    let run = capture.end().ok();
    let port = vm.local_addr().expect("an address").port();
    let from = format!("192.168.122.10.{port}");
    let expected = [
        format!(
            "arrived lan IP {from} > 11.22.33.44.7999: UDP, length 5; redirected to 172.17.0.2 by wan0"
        ),
        format!(
            "left    wan0 IP {from} > 172.17.0.2.7999: UDP, length 5; redirected to 172.17.0.2 by wan0"
        ),
        format!("arrived lan IP {from} > 11.22.33.44.8: UDP, length 5; forwarded: leaves by wan0"),
        format!("left    wan0 IP {from} > 11.22.33.44.8: UDP, length 5; forwarded: leaves by wan0"),
        format!("arrived lan IP {from} > 11.22.33.44.9: UDP, length 5; dropped by rule"),
        format!("arrived lan IP {from} > 11.22.33.44.10: UDP, length 5; no rule: passed"),
    ];
    let shown: Vec<&str> = run.out.lines().collect();
    assert_eq!(shown.len(), expected.len(), "{run:?}");
    for (line, expected) in shown.iter().zip(expected) {
        let (time, rest) = line.split_once(' ').expect("a time");
        assert!(time.ends_with('Z') && time.len() == 16, "{line}");
        assert_eq!(rest, expected);
    }
}

/// At the tc hook, the kernel has taken the tag out of the frame.
#[test]
fn wireshark_reads_capture_files_and_shows_what_became_of_packets() {
    guest::not_in_guests("they have no Wireshark");
    let file = temporary("stages.pcapng");
    let tagged = frames()
        .into_iter()
        .find(|(name, _)| *name == "tag")
        .expect("a frame");
    for (mode, _kernel) in guest::modes_and_kernels() {
        let lan = Lan::new(false, 1);
        let mut tap = Tap::new(&lan.host, "nic", false);
        lan.tool().ok(&format!("attach nic --mode {mode}"));
        lan.add_backend(0, "--dst 11.22.33.0/24");
        lan.add_backend(0, "--vlan 5 --pop-vlan");
        let capture = Capture::begin(
            &lan.tool(),
            &format!("--proto udp --count 2 --write {file}"),
        );
        tap.write(&Frame::default().bytes(), Checksum::Full);
        tap.write(&tagged.1, Checksum::Full);
        let run = capture.end().ok();
        assert_eq!(run.out, "");
        let fields = ["frame.interface_name", "ip.dst", "vlan.id", "frame.comment"];
        let rows = dissected(&file, &fields);
        let to = "redirected to 172.17.0.2 by wan0";
        let vlan = "src 0.0.0.0/0 udp port 7999 vlan 5";
        let expected = [
            [
                "nic arrived",
                "11.22.33.44",
                "",
                &format!("arrived: {to}; rule {RULE}; packet 1"),
            ],
            [
                "wan0 left",
                "172.17.0.2",
                "",
                &format!("left: {to}; rule {RULE}; arrived at nic; packet 1"),
            ],
            [
                "nic arrived",
                "11.22.33.44",
                "5",
                &format!("arrived: {to}; rule {vlan}; packet 2"),
            ],
            [
                "wan0 left",
                "172.17.0.2",
                "",
                &format!("left: {to}; rule {vlan}; arrived at nic; packet 2"),
            ],
        ];
        assert_eq!(rows, expected, "{mode}");
    }
    std::fs::remove_file(file).expect("it is there");
}

#[test]
fn a_capture_file_can_be_read_while_it_is_written() {
    guest::not_in_guests("they have no Wireshark");
    let lan = lan("skb");
    let mut child = lan
        .tool()
        .command("capture --proto udp --count 2 --write -");
    let mut capture = child
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it runs");
    let reader = std::process::Command::new("tshark")
        .args(["-r", "-", "-T", "fields", "-e", "ip.dst"])
        .stdin(capture.stdout.take().expect("a pipe"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("tshark runs");
    let vm = lan.vm_socket();
    let sent = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !sent.load(Ordering::Relaxed) {
                vm.send_to(b"hello", ANYWHERE).expect("it is sent");
                thread::sleep(Duration::from_millis(20));
            }
        });
        assert!(capture.wait().expect("it ends").success());
        sent.store(true, Ordering::Relaxed);
    });
    let output: Run = reader.wait_with_output().expect("it ends").into();
    let [there, here] = ["11.22.33.44\n", "172.17.0.2\n"];
    assert_eq!(output.ok().out, [there, here, there, here].concat());
}

#[test]
fn what_the_kernel_loses_is_shown_once_more() {
    let native = [("native", None)].into_iter();
    for (mode, _kernel) in native.chain(guest::kernels_at_tc().map(|kernel| ("tc", kernel))) {
        let lan = lan(mode);
        let (tool, vm) = (lan.tool(), lan.vm_socket());
        lan.servers[0].ip("link set eth0 down");
        let capture = Capture::begin(&tool, "--proto udp --count 3 --json");
        for _ in 0..3 {
            vm.send_to(b"hello", ANYWHERE).expect("it is sent");
        }
        let seen = objects(&capture.end());
        let lost: Vec<_> = seen.iter().filter(|seen| seen["stage"] == "lost").collect();
        assert_eq!(lost.len(), 3, "{mode}: {seen:?}");
        let error = match mode {
            "native" => json!("ENXIO"),
            _ => json!(null),
        };
        for (number, lost) in lost.iter().enumerate() {
            assert_eq!(lost["packet"], number + 1);
            assert_eq!(
                (&lost["reason"], &lost["error"]),
                (&json!("link_down"), &error),
                "{mode}"
            );
            assert_eq!(lost["parsed"]["ip"]["dst"], "172.17.0.2");
        }
        // The ledger counts as without a capture.
        let rows = tool.json("stats")["rules"].clone();
        assert_eq!(rows[0]["failures"]["link_down"], 3, "{mode}: {rows}");
        // And what is lost can be all that is wanted, also of what no rule took.
        tool.ok("policy lan forward:wan0");
        let capture = Capture::begin(&tool, "--stage lost --proto udp --count 2 --json");
        for to in [ANYWHERE, "11.22.44.1:9"] {
            vm.send_to(b"hello", to).expect("it is sent");
        }
        let seen = objects(&capture.end());
        assert!(seen.iter().all(|seen| seen["stage"] == "lost"), "{seen:?}");
        let outcomes: Vec<_> = seen.iter().map(|seen| &seen["outcome"]).collect();
        assert_eq!(outcomes, ["redirected", "policy_forward"], "{mode}");
        let stats = tool.json("stats");
        assert_eq!(
            stats["rules"][0]["failures"]["link_down"], 4,
            "{mode}: {stats}"
        );
        assert!(
            stats["unattributed"]["link_down"].as_u64() >= Some(1),
            "{stats}"
        );
    }
}

/// The last byte of each frame that was seen.
fn last_bytes(seen: &[Value]) -> Vec<u8> {
    let last = |seen: &Value| {
        let frame = seen["frame"].as_str().expect("digits");
        u8::from_str_radix(&frame[frame.len() - 2..], 16).expect("a byte")
    };
    seen.iter().map(last).collect()
}

/// A full tap drops them, or the queue in front of it, which may write into its packets. Every fifth one after the
/// first 25, which fill the tap, comes as ten segments, and the kernel drops each.
#[test]
fn behind_the_tc_hook_each_lost_packet_is_told_once_and_no_other() {
    for discipline in [None, Some("pfifo"), Some("fq_codel"), Some("fq")] {
        let lan = Lan::new(false, 0);
        let tool = lan.tool();
        let Some(mut tap) = Tap::with_short_queue(&lan.host, "tap0", discipline) else {
            continue;
        };
        tool.ok("attach lan --mode tc");
        tool.ok("rule add --port 7999 --server 172.17.0.2 --mac 02:42:ac:11:00:02 --dev tap0");
        let capture = Capture::begin(&tool, "--stage lost --json");
        let vm = lan.vm_socket();
        setsockopt(&vm, UdpGsoSegment, &1000).expect("a length of segments");
        for number in 0..100 {
            let is_large = discipline.is_none() && number >= 25 && number % 5 == 0;
            let len = if is_large { 10_000 } else { 64 };
            vm.send_to(&vec![number; len], ANYWHERE)
                .expect("it is sent");
        }
        let arrived = std::iter::from_fn(|| tap.read());
        let arrived = arrived.filter(|frame| frame.get(36..38) == Some(&7999u16.to_be_bytes()));
        let mut all: Vec<u8> = arrived.map(|frame| *frame.last().expect("bytes")).collect();
        assert!(!all.is_empty(), "{discipline:?}");
        let seen = objects(&capture.interrupt());
        for seen in &seen {
            assert_eq!(seen["reason"], "queue_full", "{discipline:?}: {seen}");
            assert!(seen["error"].is_string(), "{discipline:?}: {seen}");
        }
        all.extend(last_bytes(&seen));
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<u8>>(), "{discipline:?}");
    }
}

/// Skbs are used again by packets that are not taken. Both servers get as many, by turns that nobody foresees.
#[test]
fn what_arrives_and_what_is_not_taken_is_not_told_as_lost() {
    for mode in ["native", "skb", "tc"] {
        some_are_lost_of_some(mode);
    }
}

fn some_are_lost_of_some(mode: &str) {
    let lan = Lan::new(false, 2);
    let tool = lan.tool();
    tool.ok(&format!("attach lan --mode {mode}"));
    lan.add_backend(0, "--dst 11.22.33.0/24");
    lan.add_backend(1, "--dst 11.22.44.0/24");
    // Generic XDP doesn't hear from a veth that its peer has no link.
    match mode {
        "skb" => lan.host.ip("link set wan1 down"),
        _ => lan.servers[1].ip("link set eth0 down"),
    };
    let capture = Capture::begin(&tool, "--proto udp --sample 1/3 --stage left,lost --json");
    let vm = lan.vm_socket();
    for _ in 0..600 {
        let net = if fastrand::bool() { 33 } else { 44 };
        let to = format!("11.22.{net}.1:7999");
        vm.send_to(b"hello", to).expect("it is sent");
    }
    let seen = objects(&capture.interrupt());
    let packets = |stage: &str, server: &str| -> Vec<u64> {
        let mut seen = seen.clone();
        seen.retain(|seen| seen["stage"] == stage && seen["server"] == server);
        let packets = seen.iter().map(|seen| seen["packet"].as_u64());
        packets.map(|packet| packet.expect("a number")).collect()
    };
    assert!(packets("left", "172.17.0.2").len() > 30, "{mode}");
    assert!(packets("left", "172.17.0.3").len() > 30, "{mode}");
    assert!(packets("lost", "172.17.0.2").is_empty(), "{mode}: {seen:?}");
    let (lost, left) = (packets("lost", "172.17.0.3"), packets("left", "172.17.0.3"));
    assert_eq!(lost, left, "{mode}");
}

/// That of another interface runs, and would count them if they were for it.
#[test]
fn lost_packets_are_told_without_a_ledger_and_not_counted_then() {
    for mode in ["native", "tc"] {
        let (lan, sockets) = two_interfaces(mode);
        let tool = lan.tool();
        tool.ok("detach lan --keep-rules");
        tool.ok(&format!("attach lan --mode {mode} --no-ledger"));
        lan.servers[0].ip("link set eth0 down");
        let capture = Capture::begin(&tool, "--proto udp --stage lost --json");
        for number in 0..10 {
            for (socket, to) in sockets.iter().zip([BY_LAN, BY_LAN1]) {
                socket.send_to(&[number], to).expect("it is sent");
            }
        }
        let seen = objects(&capture.interrupt());
        for interface in ["lan", "lan1"] {
            let seen = seen.iter().filter(|seen| seen["in"] == interface);
            let seen = last_bytes(&seen.cloned().collect::<Vec<_>>());
            assert_eq!(seen, (0..10).collect::<Vec<u8>>(), "{mode} {interface}");
        }
        // What was counted before would be shown with a ledger.
        tool.ok("detach lan --keep-rules");
        tool.ok(&format!("attach lan --mode {mode}"));
        let stats = tool.json("stats");
        assert_eq!(stats["rules"][0]["forward_packages"], 20, "{mode}: {stats}");
        assert_eq!(
            stats["rules"][0]["failures"]["link_down"], 10,
            "{mode}: {stats}"
        );
    }
}

/// With `lan1` attached besides, and a socket of the VM behind each. Packets of one CPU are told apart by less than
/// others.
fn two_interfaces(mode: &str) -> (Lan, [UdpSocket; 2]) {
    let mut cpus = CpuSet::new();
    cpus.set(0).expect("a number");
    sched_setaffinity(Pid::from_raw(0), &cpus).expect("there is one");
    let lan = lan(mode);
    lan.host.veth("lan1", &lan.vm, "eth1");
    lan.tool().ok(&format!("attach lan1 --mode {mode}"));
    lan.vm.ip("addr add 192.168.123.10/24 dev eth1");
    lan.vm.ip("route add 11.22.33.64/26 dev eth1");
    let mac = mac(&lan.host, "lan1");
    lan.vm
        .ip(&format!("neigh add 11.22.33.64 lladdr {mac} dev eth1"));
    let sockets = ["192.168.122.10:0", "192.168.123.10:0"].map(|from| socket(&lan.vm, from));
    (lan, sockets)
}

/// To either of them.
const BY_LAN: &str = "11.22.33.44:7999";
const BY_LAN1: &str = "11.22.33.64:7999";

/// Packets of the first one wait in a queue, which is given up when those of the other one have come.
#[test]
fn behind_the_tc_hook_lost_packets_of_two_interfaces_are_told_apart() {
    let (lan, [first, other]) = two_interfaces("tc");
    let tool = lan.tool();
    let _tap = Tap::new(&lan.host, "tap0", false);
    lan.host
        .exec("tc qdisc replace dev tap0 root tbf rate 80kbit burst 1600 limit 100000");
    tool.ok("rule add --dst 11.22.33.44 --server 172.17.1.1 --mac 02:42:ac:11:00:02 --dev tap0");
    let capture = Capture::begin(&tool, "--proto udp --stage lost --json");
    for number in 0..20 {
        first.send_to(&[number; 1000], BY_LAN).expect("it is sent");
    }
    for number in 100..120 {
        other.send_to(&[number], BY_LAN1).expect("it is sent");
    }
    eventually("all have left", || lan.forwarded(0).0 == 20);
    lan.host.ip("link set tap0 down");
    let seen = objects(&capture.interrupt());
    let mut lost = last_bytes(&seen);
    lost.sort_unstable();
    let waited = 20 - lost.len() as u8..20;
    assert!(lost.len() >= 5, "{seen:?}");
    assert_eq!(lost, waited.collect::<Vec<u8>>());
    for seen in &seen {
        let devices = (&seen["in"], &seen["egress"]);
        assert_eq!(devices, (&json!("lan"), &json!("tap0")));
        assert_eq!(seen["reason"], "link_down", "{seen}");
    }
}

/// And once the one that began first has ended, or was killed, the other one goes on.
#[test]
fn a_capture_tells_of_its_own_lost_packets() {
    for (mode, end) in [
        ("native", Signal::SIGINT),
        ("native", Signal::SIGKILL),
        ("tc", Signal::SIGINT),
    ] {
        let (lan, sockets) = two_interfaces(mode);
        let tool = lan.tool();
        lan.servers[0].ip("link set eth0 down");
        let captures = ["lan", "lan1"].map(|interface| {
            let words = format!("{interface} --proto udp --stage lost --json");
            Capture::begin(&tool, &words)
        });
        let send = |numbers: Range<u8>| {
            for number in numbers {
                for (socket, to) in sockets.iter().zip([BY_LAN, BY_LAN1]) {
                    socket.send_to(&[number], to).expect("it is sent");
                }
            }
        };
        send(0..10);
        let [first, other] = captures;
        // Read by then: what a killed one has not read is gone.
        thread::sleep(Duration::from_secs(1));
        first.signal(end);
        let run = first.end();
        assert_eq!(
            last_bytes(&lines(&run)),
            (0..10).collect::<Vec<u8>>(),
            "{mode}"
        );
        send(10..20);
        let run = other.interrupt();
        assert_eq!(
            last_bytes(&objects(&run)),
            (0..20).collect::<Vec<u8>>(),
            "{mode}"
        );
        let stats = tool.json("stats");
        assert_eq!(
            stats["rules"][0]["failures"]["link_down"], 40,
            "{mode}: {stats}"
        );
    }
}

/// The kernel does that for a capture that was killed, a moment later: the next one may have begun by then.
#[test]
fn lost_packets_are_told_again_when_the_ledger_has_forgotten_whom_it_tells() {
    let lan = lan("native");
    lan.servers[0].ip("link set eth0 down");
    let capture = Capture::begin(&lan.tool(), "--proto udp --stage lost --json");
    let link = lan.pins.namespace().join("state/ledger/devmap_xmit");
    let link = Link::open(link).expect("it is pinned").info();
    let slots = Loaded::by_id(link.expect("it is there").prog_id).map("devmap_xmit_to");
    let has_teller = || {
        let occupant = slots.lookup(&[0; 4], MapFlags::ANY);
        occupant.expect("it can be read").is_some()
    };
    assert!(has_teller());
    slots.delete(&[0; 4]).expect("it was there");
    eventually("it is told again", has_teller);
    let vm = lan.vm_socket();
    vm.send_to(&[7], ANYWHERE).expect("it is sent");
    assert_eq!(last_bytes(&objects(&capture.interrupt())), [7]);
}

/// Frames of which each differs from the first one in what a filter looks at.
fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let frame = |change: fn(&mut Frame)| {
        let mut frame = Frame::default();
        change(&mut frame);
        frame.bytes()
    };
    let tagged = |frame: Vec<u8>| [&frame[..12], &[0x81, 0, 0, 5], &frame[12..]].concat();
    vec![
        ("plain", frame(|_| ())),
        ("dst", frame(|f| f.dst = [11, 22, 34, 1].into())),
        ("src", frame(|f| f.src = [10, 0, 0, 1].into())),
        ("tcp", frame(|f| f.proto = TCP)),
        ("port", frame(|f| f.dport = 53)),
        ("tag", tagged(frame(|_| ()))),
        ("ttl", frame(|f| f.ttl = 1)),
        (
            "arp",
            [&[0xff; 6][..], &[2, 0, 0, 0, 0, 1, 8, 6], &[0; 46]].concat(),
        ),
    ]
}

/// A frame that is not shown would be the first of these where it came too soon, so each filter sees all of them.
#[test]
fn filters_choose_frames() {
    let lan = Lan::new(false, 1);
    let tool = lan.tool();
    let mut tap = Tap::new(&lan.host, "nic", false);
    tool.ok("attach nic --mode skb");
    lan.add_backend(0, "--dst 11.22.33.0/24");
    tool.ok("rule add --proto tcp --dst 11.22.33.0/24 --port any --pass");
    let frames = frames();
    let all: Vec<&str> = frames.iter().map(|(name, _)| *name).collect();
    for (words, expected) in [
        ("", &all[..]),
        ("--dst 11.22.34.0/24", &["dst"]),
        ("--src 10.0.0.1", &["src"]),
        ("--proto tcp", &["tcp"]),
        ("--port 50-60", &["port"]),
        ("--vlan 5", &["tag"]),
        ("--outcome ttl_exceeded,not_ip", &["ttl", "arp"]),
        ("--rule --proto tcp", &["tcp"]),
        ("--rule --server 172.17.0.2", &["plain", "src", "ttl"]),
        (
            "--dst 11.22.33.44 --src 192.168.0.0/16 --proto udp --port 7999",
            &["plain", "tag", "ttl"],
        ),
    ] {
        let capture = Capture::begin(&tool, &format!("nic --stage arrived --json {words}"));
        for (_, frame) in &frames {
            tap.write(frame, Checksum::Full);
        }
        // The tap hands frames over before a write returns, and an interrupt is heard at the next tick.
        let seen = objects(&capture.interrupt());
        let name = |seen: &Value| {
            let is = |bytes: &[u8]| seen["frame"] == hex(bytes).as_str();
            let found = frames.iter().find(|(_, frame)| is(frame));
            found.map(|(name, _)| *name).expect("one of the frames")
        };
        let names: Vec<&str> = seen.iter().map(name).collect();
        assert_eq!(names, expected, "{words}");
    }
    let capture = Capture::begin(&tool, "--snaplen 20 --count 1 --json");
    tap.write(&frames[0].1, Checksum::Full);
    let seen = &objects(&capture.end())[1];
    assert_eq!(seen["frame"].as_str().unwrap().len(), 40);
    assert_eq!(seen["len"], frames[0].1.len());
    let capture = Capture::begin(&tool, "--sample 1/10 --stage left --json");
    for _ in 0..2000 {
        tap.write(&frames[0].1, Checksum::Full);
    }
    let seen = objects(&capture.interrupt()).len();
    assert!((100..=320).contains(&seen), "{seen} of 2000");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sends until it is told to stop; how many.
fn flood(socket: &UdpSocket, stop: &AtomicBool, payload: &[u8]) -> u64 {
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        sent += u64::from(socket.send_to(payload, ANYWHERE).is_ok());
    }
    sent
}

/// How many blocks a capture file has. The last one may be cut where the run was killed.
fn whole_blocks(file: &str) -> usize {
    let bytes = std::fs::read(file).expect("a file");
    let (mut rest, mut blocks) = (&bytes[..], 0);
    while let Some(length) = rest.get(4..8) {
        let length = u32::from_le_bytes(length.try_into().expect("four bytes"));
        assert!((12..2000).contains(&length), "no block has {length} bytes");
        rest = rest.get(length as usize..).unwrap_or_default();
        blocks += 1;
    }
    blocks
}

/// The interface's outcomes that have counted anything.
fn outcomes(tool: &Tool) -> Vec<(String, u64)> {
    let stats = tool.json("stats");
    let all = stats["interfaces"][0]["outcomes"]
        .as_object()
        .expect("outcomes");
    let packets = |(name, counter): (&String, &Value)| {
        (name.clone(), counter["packets"].as_u64().expect("a number"))
    };
    all.iter()
        .map(packets)
        .filter(|(_, packets)| *packets > 0)
        .collect()
}

#[test]
fn a_capture_that_is_killed_under_traffic_loses_no_packet_and_passes_none() {
    let file = temporary("killed.pcapng");
    for (mode, _kernel) in guest::modes_and_kernels() {
        let lan = Lan::new(false, 1);
        let here = mac(&lan.host, "lan");
        lan.vm.ip(&format!(
            "neigh replace 192.168.122.1 lladdr {here} dev eth0 nud permanent"
        ));
        lan.tool().ok(&format!("attach lan --mode {mode}"));
        lan.add_backend(0, "--dst 11.22.33.0/24");
        let (tool, socket) = (lan.tool(), lan.vm_socket());
        let stop = AtomicBool::new(false);
        let sent = thread::scope(|scope| {
            let sender = scope.spawn(|| flood(&socket, &stop, b"flood"));
            for packets in ["--sample 1/2", "--dst 11.22.33.0/24", ""] {
                let mut capture = Capture::begin(&tool, &format!("{packets} --write {file}"));
                thread::sleep(Duration::from_millis(150));
                capture.signal(Signal::SIGKILL);
                capture.child.wait().expect("it has ended");
            }
            stop.store(true, Ordering::Relaxed);
            sender.join().expect("it has sent")
        });
        eventually("all packets are counted", || lan.forwarded(0).0 == sent);
        assert_eq!(
            outcomes(&tool),
            [("redirected".to_string(), sent)],
            "{mode}"
        );
        assert!(whole_blocks(&file) > 100, "{mode}");
        // The next one finds its place free.
        let capture = Capture::begin(&tool, "--count 1");
        socket.send_to(b"again", ANYWHERE).expect("it is sent");
        capture.end().ok();
    }
    std::fs::remove_file(file).expect("it is there");
}

#[test]
fn connections_stand_while_some_of_their_packets_are_captured() {
    for mode in ["native", "skb", "tc"] {
        let lan = Lan::new(false, 1);
        let tool = lan.tool();
        // So that a native program can redirect answers into its veth.
        lan.vm.exec("ethtool -K eth0 gro on");
        lan.host.ip("addr add 172.17.0.1/16 dev wan0");
        lan.servers[0].ip("route add default via 172.17.0.1");
        tool.ok(&format!("attach lan wan0 --mode {mode}"));
        lan.add_backend(0, "--dst 11.22.33.0/24 --reply nat");
        let (vm, server) = (lan.vm_socket(), lan.server_socket(0));
        vm.connect(ANYWHERE).expect("an address");
        let capture = Capture::begin(&tool, "--sample 1/4 --stage arrived --json");
        for _ in 0..200 {
            vm.send(b"question").expect("it is sent");
            let (question, from) = receive(&server);
            assert_eq!(question, "question", "{mode}");
            server.send_to(b"answer", from).expect("it is sent");
            assert_eq!(receive(&vm).0, "answer", "{mode}");
        }
        let seen = objects(&capture.interrupt());
        for outcome in ["redirected", "answered"] {
            let mut captured = seen.clone();
            captured.retain(|seen| seen["outcome"] == outcome);
            let captured = captured.len();
            assert!((20..=90).contains(&captured), "{mode}: {captured}");
        }
        let stats = tool.json("stats");
        let interfaces = stats["interfaces"].as_array().expect("interfaces");
        for (name, outcome) in [("lan", "redirected"), ("wan0", "answered")] {
            let interface = interfaces.iter().find(|row| row["ifname"] == name);
            let outcomes = &interface.expect("it is attached")["outcomes"];
            assert_eq!(outcomes[outcome]["packets"], 200, "{mode}: {outcomes}");
        }
    }
}

/// The ring buffer holds 32 MiB.
#[test]
fn what_comes_faster_than_it_is_read_is_counted() {
    let lan = lan("skb");
    let (tool, socket) = (lan.tool(), lan.vm_socket());
    let mut capture = Capture::begin(&tool, "--proto udp --write -");
    let payload = [0; 1400];
    let sent = (0..20_000)
        .filter(|_| socket.send_to(&payload, ANYWHERE).is_ok())
        .count();
    let mut out = capture.child.stdout.take().expect("a pipe");
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        out.read_to_end(&mut bytes).map(|_| bytes.len())
    });
    capture.signal(Signal::SIGINT);
    let run = capture.end().ok();
    assert!(run.err.contains(" came too fast to be shown"), "{run:?}");
    assert!(reader.join().expect("it ends").expect("bytes") > 10 << 20);
    assert_eq!(lan.forwarded(0).0, sent as u64);
}

#[test]
fn a_capture_whose_reader_has_gone_ends() {
    let lan = lan("skb");
    let mut capture = Capture::begin(&lan.tool(), "--proto udp");
    drop(capture.child.stdout.take());
    let socket = lan.vm_socket();
    eventually("it ends", || {
        socket.send_to(b"hello", ANYWHERE).expect("it is sent");
        capture.child.try_wait().expect("it is ours").is_some()
    });
}

#[test]
fn a_capture_ends_with_its_interface() {
    let device = "lan: it was detached, or its device is gone, so that its capture ends";
    for (mode, end, said) in [
        ("native", "detach lan", device),
        ("tc", "detach lan", device),
        ("skb", "link", device),
        (
            "skb",
            "apply",
            "lan: its program was replaced, so that its capture ends",
        ),
    ] {
        let lan = lan(mode);
        let file = temporary("ended.pcapng");
        let capture = Capture::begin(&lan.tool(), &format!("lan --write {file}"));
        match end {
            "link" => drop(lan.host.ip("link del lan")),
            "apply" => {
                let wanted = temporary("wanted.toml");
                let text = "[[interface]]\nname = \"lan\"\nmode = \"skb\"\nledger = false\n";
                std::fs::write(&wanted, text).expect("a file");
                lan.tool().ok(&format!("apply {wanted}"));
                std::fs::remove_file(wanted).expect("it is there");
            }
            words => drop(lan.tool().ok(words)),
        }
        let run = capture.end();
        assert_eq!(run.code, 1, "{mode} {end}: {run:?}");
        assert!(run.err.contains(said), "{run:?}");
        assert!(std::fs::metadata(&file).expect("a file").len() >= 28);
        std::fs::remove_file(file).expect("it is there");
    }
}

#[test]
fn rules_can_change_during_a_capture() {
    let lan = lan("skb");
    let (tool, vm) = (lan.tool(), lan.vm_socket());
    let capture = Capture::begin(&tool, "--rule --json");
    vm.send_to(b"hello", ANYWHERE).expect("it is sent");
    tool.ok("rule add --port 53 --pass");
    // It looks for changes ten times a second.
    thread::sleep(Duration::from_millis(500));
    vm.send_to(b"hello", "11.22.33.44:53").expect("it is sent");
    let seen = objects(&capture.interrupt());
    let rules: Vec<&str> = seen
        .iter()
        .map(|seen| seen["rule"].as_str().unwrap())
        .collect();
    assert_eq!(rules, [RULE, RULE, "src 0.0.0.0/0 udp port 53"]);
}

/// The program that is attached is the entry of the chain then.
#[test]
fn behind_a_chain_what_others_pass_is_captured_and_what_is_lost() {
    let lan = lan("native");
    let vm = lan.vm_socket();
    let pin = lan.pins.dir().with_file_name("foreign");
    Foreign::of_port("foreign", 9, 1).pin(&pin);
    lan.tool().ok(&format!("chain add lan {}", pin.display()));
    lan.host.ip("link set wan0 down");
    let capture = Capture::begin(&lan.tool(), "--proto udp --count 1");
    for to in ["11.22.33.44:9", ANYWHERE] {
        vm.send_to(b"hello", to).expect("it is sent");
    }
    let run = capture.end().ok();
    assert!(!run.out.contains("11.22.33.44.9:"), "{run:?}");
    let stages = ["arrived lan", "left    wan0", "lost    wan0"];
    let lines: Vec<&str> = run.out.lines().collect();
    assert_eq!(lines.len(), stages.len(), "{run:?}");
    for (line, stage) in lines.iter().zip(stages) {
        assert!(line.contains(stage), "{line}");
    }
    let rows = lan.tool().json("rule list");
    assert_eq!(rows[0]["failures"]["link_down"], 1, "{rows:#}");
}

#[test]
fn there_is_one_capture_at_an_interface() {
    let lan = lan("skb");
    let tool = lan.tool();
    let capture = Capture::begin(&tool, "");
    tool.run("capture lan").fails(
        4,
        &[
            "lan: another run looks at its packets",
            "end that one first",
        ],
    );
    let status = tool.json("status");
    assert_eq!(status["interfaces"][0]["mode"], "skb", "{status}");
    capture.interrupt().ok();
    Capture::begin(&tool, "lan").interrupt().ok();
}

#[test]
fn what_cannot_be_captured_is_refused() {
    let lan = Lan::new(false, 1);
    let tool = lan.tool();
    tool.run("capture").fails(3, &["not attached"]);
    tool.ok("attach lan --mode skb");
    for (words, code, said) in [
        ("wan0", 3, "wan0: not attached"),
        ("la\u{1b}n", 3, "la\\x1bn: not attached"),
        ("--rule --port 9", 3, "no such rule or backend"),
        ("--src 10.0.0.1 --dst fd00::1", 2, "--dst fd00::1"),
        ("--proto icmp --port 5", 2, "--port 5"),
        ("--sample 0", 2, "one packet of how many?"),
        ("--snaplen 13", 2, "--snaplen"),
        ("--count 0", 2, "--count"),
        ("--outcome nonsense", 2, "no_rule"),
        ("--server 10.0.0.1", 2, "--rule"),
        ("--write /", 1, "cannot write /: Is a directory"),
        (
            "--write /nowhere/file",
            1,
            "cannot write /nowhere/file: No such file or directory",
        ),
    ] {
        tool.run(&format!("capture {words}")).fails(code, &[said]);
    }
    let file = temporary("refused.pcapng");
    let words = format!("capture wan0 --write {file}");
    tool.run(&words).fails(3, &["wan0: not attached"]);
    assert!(std::fs::metadata(&file).is_err(), "no file was made");
    std::fs::write(&file, "kept").expect("a file");
    tool.run(&words).fails(3, &["wan0: not attached"]);
    assert_eq!(std::fs::read(&file).expect("it is there"), b"kept");
    std::fs::remove_file(file).expect("it is there");
}
