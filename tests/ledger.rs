//! What is lost after a redirect is counted: for a burst of known size, what was forwarded is what was
//! delivered and what failed, and what was delivered is what the receiver has.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use crate::fixture::capture::{Capture, objects};
use crate::fixture::guest;
use crate::fixture::lan::{ANYWHERE, Lan, socket};
use crate::fixture::packet::{Checksum, Frame};
use crate::fixture::run::{Loaded, XDP_REDIRECT};
use crate::fixture::tap::Tap;
use crate::fixture::{self, Ns, Pins, Tool};
use libbpf_rs::{MapCore, MapFlags};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, unshare};
use nix::unistd::Pid;
use serde_json::{Value, json};

const BURST: u64 = 1000;
/// Long enough to send a burst in.
const PAUSE: Duration = Duration::from_millis(100);

/// One server, and the interface `lan` attached.
fn lan(mode: &str) -> Lan {
    let lan = Lan::new(false, 1);
    lan.tool().ok(&format!("attach lan --mode {mode}"));
    lan.add_backend(0, "");
    lan
}

fn send(from: &UdpSocket, to: &str, frames: u64) {
    for number in 0..frames {
        from.send_to(&number.to_be_bytes(), to).expect("it is sent");
    }
}

/// So many frames to port 7999, and no more at a time than a slow machine's queues hold.
fn burst(lan: &Lan) {
    const HOLD: u64 = 100;
    let (from, tool) = (lan.vm_socket(), lan.tool());
    let before = row_now(&tool, 7999)["forward_packages"].as_u64().unwrap();
    for sent in (0..BURST).step_by(HOLD as usize) {
        send(&from, ANYWHERE, HOLD);
        row(&tool, 7999, before + sent + HOLD);
    }
}

/// The row of a port's only backend, once it has that many packets.
#[track_caller]
fn row(tool: &Tool, port: u16, packets: u64) -> Value {
    let end = Instant::now() + Duration::from_secs(10);
    while row_now(tool, port)["forward_packages"] != packets {
        let row = row_now(tool, port);
        assert!(Instant::now() < end, "not {packets} packets: {row}");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Losses are read before packets, so the row that had them all may lack losses.
    row_now(tool, port)
}

fn row_now(tool: &Tool, port: u16) -> Value {
    let stats = tool.json("stats");
    let mut rows = stats["rules"].as_array().unwrap().iter();
    rows.find(|row| row["port"] == port)
        .expect("the rule")
        .clone()
}

/// That of a burst all failed for one reason, and says so for people.
#[track_caller]
fn assert_all_lost(lan: &Lan, reason: &str, error: Option<&str>, words: &str) {
    let row = row(&lan.tool(), 7999, BURST);
    assert_eq!(row["delivered"], 0, "{row}");
    let mut expected = json!({
        "not_supported": 0, "mtu": 0, "link_down": 0, "no_device": 0, "queue_full": 0, "other": 0,
        "errors": {},
    });
    expected[reason] = BURST.into();
    if let Some(error) = error {
        expected["errors"][reason][error] = BURST.into();
    }
    assert_eq!(row["failures"], expected);
    let text = lan.tool().ok("stats").out;
    let line = text.lines().find(|line| line.contains("lost at wan0"));
    let line = line.unwrap_or_else(|| panic!("no word about it: {text}"));
    assert!(line.starts_with("1000 frames"), "{line}");
    assert!(line.contains(words), "{line}");
    let named = error.is_none_or(|error| line.contains(&format!(", errno {error}: ")));
    assert!(named, "{line}");
}

fn receive_all(server: &UdpSocket) -> u64 {
    server
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let mut datagrams = 0;
    while server.recv(&mut [0; 2048]).is_ok() {
        datagrams += 1;
    }
    datagrams
}

#[test]
fn all_that_arrives_is_delivered() {
    for mode in guest::modes() {
        let lan = lan(mode);
        let (vm, server) = (lan.vm_socket(), lan.server_socket(0));
        send(&vm, ANYWHERE, 100);
        let row = row(&lan.tool(), 7999, 100);
        assert_eq!(row["delivered"], 100, "{mode}: {row}");
        assert_eq!(receive_all(&server), 100, "{mode}");
        assert!(!lan.tool().ok("stats").out.contains("lost"), "{mode}");
    }
}

#[test]
fn a_peer_that_does_not_poll_loses_all_until_it_does() {
    let lan = lan("native");
    lan.servers[0].exec("ethtool -K eth0 gro off");
    burst(&lan);
    // Since 6.3 the kernel asks what the driver says of itself, and no longer the driver.
    let error = if guest::is_kernel(6, 3) {
        "EOPNOTSUPP"
    } else {
        "ENXIO"
    };
    assert_all_lost(
        &lan,
        "not_supported",
        Some(error),
        "GRO on at a veth's peer",
    );

    lan.servers[0].exec("ethtool -K eth0 gro on");
    let server = lan.server_socket(0);
    send(&lan.vm_socket(), ANYWHERE, 100);
    let row = row(&lan.tool(), 7999, BURST + 100);
    assert_eq!(row["delivered"], 100, "{row}");
    assert_eq!(receive_all(&server), 100);
}

#[test]
fn a_peer_that_is_down_loses_all() {
    let lan = lan("native");
    lan.servers[0].ip("link set eth0 down");
    burst(&lan);
    assert_all_lost(&lan, "link_down", Some("ENXIO"), "ip link set dev wan0 up");
}

/// As drivers do that have a queue for redirected frames only while a program runs there, or not on
/// every CPU.
#[test]
fn a_device_with_a_link_but_without_a_queue_takes_no_redirected_frames() {
    let lan = lan("native");
    let tool = lan.tool();
    let _tap = Tap::without_queues(&lan.host, "tap0");
    tool.ok("rule add --port 8000 --server 10.1.1.1 --mac 02:00:00:00:00:01 --dev tap0");
    send(&lan.vm_socket(), "11.22.33.44:8000", 20);
    let lost = row(&tool, 8000, 20);
    assert_eq!(lost["failures"]["not_supported"], 20, "{lost}");
    assert_eq!(lost["failures"]["link_down"], 0, "{lost}");
    assert_eq!(
        lost["failures"]["errors"]["not_supported"]["ENXIO"], 20,
        "{lost}"
    );

    let stats = tool.ok("stats").out;
    assert!(!stats.contains("ip link set dev tap0 up"), "{stats}");
    let findings = tool.json("doctor");
    let losses = findings.as_array().unwrap().iter();
    let losses: Vec<_> = losses.filter(|f| f["check"] == "losses").collect();
    assert_eq!(losses.len(), 1, "{findings}");
    let mend = losses[0]["mend"].as_str().unwrap();
    assert!(mend.contains("--mode skb"), "{findings}");
    let evidence = losses[0]["evidence"].as_str().unwrap();
    assert!(evidence.contains("errno ENXIO"), "{findings}");
}

#[test]
fn a_device_that_is_down_loses_all_in_either_mode() {
    for mode in ["native", "skb"] {
        let lan = lan(mode);
        lan.host.ip("link set wan0 down");
        burst(&lan);
        assert_all_lost(
            &lan,
            "link_down",
            Some("ENETDOWN"),
            "ip link set dev wan0 up",
        );
    }
}

#[test]
fn a_peer_with_a_smaller_mtu_leaves_frames_over() {
    let lan = lan("native");
    lan.servers[0].ip("link set eth0 mtu 600");
    let vm = lan.vm_socket();
    for _ in 0..BURST {
        vm.send_to(&[0; 1000], ANYWHERE).unwrap();
    }
    assert_all_lost(&lan, "queue_full", None, "its peer's MTU is smaller");
}

#[test]
fn a_full_queue_is_counted_for_the_backend_whose_frame_it_was() {
    for captured in [false, true] {
        fill_a_queue(captured);
    }
}

/// The frames of two backends lie in the same bulks, of which the device takes a part. A capture is told which those are.
fn fill_a_queue(captured: bool) {
    const PORTS: [u16; 2] = [7999, 8000];
    const ROUNDS: u64 = 10;
    // Less than the 256 that a veth holds.
    const FRAMES: u64 = 200;
    let lan = Lan::new(false, 0);
    let tool = lan.tool();
    let mut tap = Tap::new(&lan.host, "tap0", false);
    lan.host.ip("link set tap0 txqueuelen 100");
    tool.ok("attach lan --mode native");
    for (number, port) in PORTS.iter().enumerate() {
        tool.ok(&format!(
            "rule add --port {port} --server 172.17.0.{number} --mac 02:42:ac:11:00:02 --dev tap0"
        ));
    }
    arrive_together(&lan);
    let capture = captured.then(|| Capture::begin(&tool, "--proto udp --stage lost --json"));

    let vm = lan.vm_socket();
    let (mut sent, mut arrived) = ([0; 2], [0; 2]);
    let (mut numbers, mut known) = (0..ROUNDS * FRAMES, BTreeSet::new());
    for round in 1..=ROUNDS {
        for number in numbers.by_ref().take(FRAMES as usize) {
            let which = usize::from(fastrand::bool());
            sent[which] += 1;
            let to = format!("11.22.33.44:{}", PORTS[which]);
            vm.send_to(&number.to_be_bytes(), to).unwrap();
        }
        PORTS
            .iter()
            .zip(sent)
            .for_each(|(port, sent)| drop(row(&tool, *port, sent)));
        let room = if round < ROUNDS {
            fastrand::usize(1..100)
        } else {
            usize::MAX
        };
        for frame in std::iter::from_fn(|| tap.read()).take(room) {
            arrived[usize::from(frame[36..38] == PORTS[1].to_be_bytes())] += 1;
            let number = frame.last_chunk().expect("what was sent");
            assert!(known.insert(u64::from_be_bytes(*number)));
        }
    }
    for which in [0, 1] {
        let row = row(&tool, PORTS[which], sent[which]);
        let lost = row["failures"]["queue_full"].as_u64().unwrap();
        assert!(lost > 0, "{row}");
        assert_eq!(row["delivered"], arrived[which], "{row}");
        assert_eq!(arrived[which] + lost, sent[which], "{row}");
    }
    let Some(capture) = capture else { return };
    for lost in objects(&capture.interrupt()) {
        let frame = lost["frame"].as_str().expect("digits");
        let number = u64::from_str_radix(&frame[frame.len() - 16..], 16).expect("digits");
        assert!(known.insert(number), "{number} arrived, or was told before");
    }
    assert!(known.into_iter().eq(0..ROUNDS * FRAMES));
}

/// While frames of native mode wait, others of the same poll go up to the bridge, where generic mode redirects them.
#[test]
fn captures_in_native_and_in_generic_mode_tell_of_their_own_lost_packets() {
    const ROUNDS: u64 = 5;
    // Fewer than fill the device's queue, and more than wait for GRO.
    const LOST: u64 = 4;
    const PASSED: u64 = 20;
    let lan = Lan::new(true, 2);
    let tool = lan.tool();
    tool.ok("attach lan --mode native");
    tool.ok("attach virbr0 --mode skb");
    lan.add_backend(0, "--in lan --port 7999");
    lan.add_backend(1, "--in virbr0 --port 8000");
    lan.servers[0].ip("link set eth0 down");
    arrive_together(&lan);
    let captures = ["lan", "virbr0"].map(|interface| {
        let words = format!("{interface} --proto udp --stage left,lost --json");
        Capture::begin(&tool, &words)
    });
    let vm = lan.vm_socket();
    for round in 1..=ROUNDS {
        send(&vm, ANYWHERE, LOST);
        send(&vm, "11.22.33.44:8000", PASSED);
        row(&tool, 7999, round * LOST);
        row(&tool, 8000, round * PASSED);
    }
    let told = captures.map(|capture| {
        let seen = objects(&capture.interrupt());
        ["left", "lost"].map(|stage| seen.iter().filter(|seen| seen["stage"] == stage).count())
    });
    let expected = [[ROUNDS * LOST; 2], [ROUNDS * PASSED, 0]];
    assert_eq!(told.map(|told| told.map(|count| count as u64)), expected);
    let (lost, passed) = (row_now(&tool, 7999), row_now(&tool, 8000));
    assert_eq!(lost["failures"]["link_down"], ROUNDS * LOST, "{lost}");
    assert_eq!(passed["delivered"], ROUNDS * PASSED, "{passed}");
}

/// After the next frame, the device waits that long before it is polled again.
fn poll_seldom(ns: &Ns, device: &str, pause: Duration) {
    let pause = pause.as_nanos().to_string();
    let settings = [
        ("gro_flush_timeout", pause.as_str()),
        ("napi_defer_hard_irqs", "1"),
    ];
    set(ns, device, &settings);
}

/// The same for the interface, by a thread of its own. Otherwise the timer's poll runs on top of any task, and
/// the kernel of a sandbox may run no tracing programs on top of the sandbox's own tasks.
fn arrive_together(lan: &Lan) {
    poll_seldom(&lan.host, "lan", PAUSE);
    set(&lan.host, "lan", &[("threaded", "1")]);
}

/// Changes settings of a device that are files.
fn set(ns: &Ns, device: &str, settings: &[(&str, &str)]) {
    let sys = tempfile::tempdir().unwrap();
    let (path, nothing) = (sys.path(), None::<&str>);
    let write = || {
        // It shows the devices of the namespace that it is mounted from.
        mount(nothing, path, Some("sysfs"), MsFlags::empty(), nothing).expect("a sysfs");
        let device = path.join("class/net").join(device);
        let mut settings = settings.iter();
        let written =
            settings.try_for_each(|(name, value)| std::fs::write(device.join(name), value));
        umount2(path, MntFlags::MNT_DETACH).expect("it is mounted");
        written.expect("settings of the device");
    };
    ns.enter(write);
}

/// As on a kernel without BTF, which the tracing programs need to be loaded.
#[test]
fn where_the_kernel_cannot_trace_all_else_works() {
    const BTF: &str = "/sys/kernel/btf";
    let lan = Lan::new(false, 1);
    let (vm, server) = (lan.vm_socket(), lan.server_socket(0));
    let nothing = None::<&str>;
    let attached = lan.host.enter(|| {
        unshare(CloneFlags::CLONE_NEWNS).expect("mounts of its own");
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(nothing, "/sys", nothing, private, nothing).expect("nobody else sees it");
        mount(nothing, BTF, Some("tmpfs"), MsFlags::empty(), nothing).expect("an empty directory");
        let attached = lan.tool().run("attach lan");
        umount2(BTF, MntFlags::MNT_DETACH).expect("it is mounted");
        attached
    });
    let attached = attached.ok().out;
    assert!(attached.contains("no ledger of lost frames: "));
    assert!(attached.contains("links are not seen: "));
    let tool = lan.tool();
    let shown = tool.ok("status").out;
    assert!(
        shown.contains("lan: links are not seen: backends"),
        "{shown}"
    );
    assert_eq!(tool.json("status")["interfaces"][0]["sees_links"], false);
    assert_eq!(
        tool.json("status")["interfaces"][0]["ledger"],
        "unavailable"
    );
    assert!(tool.ok("status").out.contains("this kernel refused"));
    lan.add_backend(0, "");
    send(&vm, ANYWHERE, 10);
    assert_eq!(row(&tool, 7999, 10)["failures"], Value::Null);
    assert_eq!(receive_all(&server), 10);
}

#[test]
fn without_the_ledger_nothing_is_said_of_losses() {
    let lan = Lan::new(false, 1);
    let tool = lan.tool();
    tool.ok("attach lan --mode native --no-ledger");
    lan.add_backend(0, "");
    assert_eq!(tool.json("status")["interfaces"][0]["ledger"], "unwanted");
    assert!(
        tool.ok("status")
            .out
            .contains("lan: no ledger of lost frames")
    );
    lan.host.ip("link set wan0 down");
    send(&lan.vm_socket(), ANYWHERE, 10);
    let row = row(&tool, 7999, 10);
    assert_eq!(row["delivered"], Value::Null);
    assert_eq!(row["failures"], Value::Null);
}

/// A second interface of the host, and a socket of the VM that sends by it to 55.0.0.0/8.
fn second_interface(lan: &Lan) -> UdpSocket {
    lan.host.veth("lan1", &lan.vm, "eth1");
    lan.vm.ip("addr add 192.168.123.10/24 dev eth1");
    lan.vm.ip("route add 55.0.0.0/8 via 192.168.123.1 dev eth1");
    lan.vm.ip(&format!(
        "neigh add 192.168.123.1 lladdr {} dev eth1",
        fixture::lan::mac(&lan.host, "lan1")
    ));
    socket(&lan.vm, "192.168.123.10:0")
}

#[test]
fn losses_of_an_interface_without_a_ledger_are_counted_for_no_backend() {
    let lan = lan("native");
    let tool = lan.tool();
    let vm1 = second_interface(&lan);
    tool.ok("attach lan1 --mode native --no-ledger");
    lan.add_backend(0, "--port 8000");
    lan.servers[0].exec("ethtool -K eth0 gro off");
    send(&lan.vm_socket(), ANYWHERE, 10);
    send(&vm1, "55.1.1.1:8000", 20);
    // What is not counted is not said to have arrived.
    assert_eq!(row(&tool, 8000, 20)["delivered"], Value::Null);
    tool.ok("detach lan1");
    assert_eq!(row(&tool, 8000, 20)["failures"]["not_supported"], 0);
    assert_eq!(row(&tool, 7999, 10)["failures"]["not_supported"], 10);
}

/// Frames for each of them lie in the kernel at the same time.
#[test]
fn many_devices_in_one_poll_are_counted_apart() {
    const DEVICES: usize = 12;
    // Less than the 256 that a veth holds.
    const EACH: usize = 20;
    let lan = Lan::new(false, 0);
    let tool = lan.tool();
    tool.ok("attach lan --mode native");
    for number in 0..DEVICES {
        let (device, index) = (format!("out{number}"), 300 + 256 * number);
        lan.host.ip(&format!(
            "link add {device} index {index} type veth peer name {device}p"
        ));
        lan.host.ip(&format!("link set {device} up"));
        lan.host.ip(&format!("link set {device}p up"));
        lan.host.exec(&format!("ethtool -K {device}p gro on"));
        lan.host.ip(&format!("link set {device}p down"));
        tool.ok(&format!(
            "rule add --port {} --server 10.1.1.{number} --mac 02:00:00:00:00:01 --dev {device}",
            8000 + number
        ));
    }
    arrive_together(&lan);
    let vm = lan.vm_socket();
    for number in 0..DEVICES * EACH {
        let to = format!("11.22.33.44:{}", 8000 + number % DEVICES);
        vm.send_to(&[0; 8], to).unwrap();
    }
    for number in 0..DEVICES {
        let row = row(&tool, 8000 + number as u16, EACH as u64);
        assert_eq!(row["failures"]["link_down"], EACH, "{row}");
    }
}

/// With what was lost of backends that are gone, say.
fn fill_ledger(lan: &Lan) {
    const ROOM: u32 = 65536;
    let failures = fixture::run::pinned(&lan.pins, "failures");
    let one = 1u64.to_ne_bytes();
    let full = (0..ROOM).find(|number| {
        let [counter, reason] = [(1 << 30) + number, 0].map(u32::to_ne_bytes);
        let key = [counter, reason].concat();
        failures.update(&key, &one, MapFlags::ANY).is_err()
    });
    full.expect("the map has a limit");
}

#[test]
fn losses_that_find_no_room_are_not_silent() {
    let lan = lan("native");
    let tool = lan.tool();
    assert_eq!(tool.json("stats")["unattributed"]["link_down"], 0);
    fill_ledger(&lan);
    lan.servers[0].ip("link set eth0 down");
    burst(&lan);
    let lost = row(&tool, 7999, BURST);
    assert_eq!(lost["failures"]["link_down"], 0, "{lost}");
    assert_eq!(tool.json("stats")["unattributed"]["link_down"], BURST);
    let text = tool.ok("stats").out;
    let line = "1000 lost frames could not be attributed to a backend: a policy forwarded them, the ledger was full";
    assert!(text.contains(line), "{text}");
    tool.ok("rule del --all");
    assert!(tool.ok("stats").out.contains(line), "without a rule");
}

#[test]
fn a_new_backend_has_no_losses_of_one_that_was_deleted() {
    let lan = lan("native");
    lan.host.ip("link set wan0 down");
    send(&lan.vm_socket(), ANYWHERE, 10);
    assert_eq!(row(&lan.tool(), 7999, 10)["failures"]["link_down"], 10);
    lan.tool().ok("rule del --all");
    lan.add_backend(0, "");
    assert_eq!(row(&lan.tool(), 7999, 0)["failures"]["link_down"], 0);
}

#[test]
fn losses_of_another_set_of_rules_are_not_counted() {
    let mut lan = lan("native");
    let vm = second_interface(&lan);
    send(&lan.vm_socket(), ANYWHERE, 10);
    row(&lan.tool(), 7999, 10);
    let pins = std::mem::replace(&mut lan.pins, Pins::new());
    lan.tool().ok("attach lan1 --mode native");
    lan.add_backend(0, "");
    for (down, packets) in [(&lan.servers[0], 10), (&lan.host, 20)] {
        let device = if packets == 10 { "eth0" } else { "wan0" };
        down.ip(&format!("link set {device} down"));
        send(&vm, "55.1.1.1:7999", 10);
        let lost = row(&lan.tool(), 7999, packets);
        assert_eq!(lost["failures"]["link_down"], packets, "{lost}");
    }
    let first = Tool {
        ns: &lan.host,
        pins: &pins,
    };
    assert_eq!(row(&first, 7999, 10)["delivered"], 10);
}

#[test]
fn the_ledger_ends_with_the_last_interface_and_goes_on_with_the_next() {
    let lan = lan("native");
    let tool = lan.tool();
    lan.host.ip("link set wan0 down");
    send(&lan.vm_socket(), ANYWHERE, 10);
    row(&tool, 7999, 10);
    tool.ok("detach lan --keep-rules");
    let links = lan.pins.left();
    assert!(
        links.iter().all(|path| !path.ends_with("ledger")),
        "{links:?}"
    );
    tool.ok("attach lan --mode native");
    send(&lan.vm_socket(), ANYWHERE, 10);
    assert_eq!(row(&tool, 7999, 20)["failures"]["link_down"], 20);
}

/// Where a veth has a qdisc, the kernel stops its queue when its peer's is full (since 6.16; before
/// that, the veth drops by itself).
#[test]
fn in_generic_mode_frames_that_meet_a_stopped_queue_are_counted() {
    const PORTS: [u16; 2] = [7999, 8000];
    let lan = lan("skb");
    lan.add_backend(0, "--port 8000");
    let servers = PORTS.map(|port| socket(&lan.servers[0], &format!("0.0.0.0:{port}")));
    poll_seldom_behind_a_queue(&lan);
    let vm = lan.vm_socket();
    let (mut sent, mut arrived) = ([0; 2], [0; 2]);
    for _ in 0..BURST {
        let which = usize::from(fastrand::bool());
        sent[which] += 1;
        send(&vm, &format!("11.22.33.44:{}", PORTS[which]), 1);
    }
    for which in [0, 1] {
        let row = row(&lan.tool(), PORTS[which], sent[which]);
        arrived[which] += receive_all(&servers[which]);
        let lost = row["failures"]["queue_full"].as_u64().unwrap();
        assert!(lost > 0, "{row}");
        assert_eq!(row["delivered"], arrived[which], "{row}");
        assert_eq!(arrived[which] + lost, sent[which], "{row}");
    }
}

/// The ledger is each CPU's own: what one test sends is to be in the same.
fn stay_on_one_cpu() {
    let mut first = CpuSet::new();
    first.set(0).expect("there is a first CPU");
    sched_setaffinity(Pid::from_raw(0), &first).expect("this thread may run there");
}

fn frame(dport: u16) -> Vec<u8> {
    let frame = Frame {
        dport,
        ..Frame::default()
    };
    frame.bytes()
}

fn write(tap: &mut Tap, port: u16, frames: u64) {
    (0..frames).for_each(|_| tap.write(&frame(port), Checksum::Full));
}

/// A tap of the host, attached natively, that hands its frames over as generic mode does.
fn blocking_tap(lan: &Lan) -> Tap {
    let tap = Tap::new(&lan.host, "tap0", false);
    lan.tool().ok("attach tap0 --mode native");
    tap.write_blocking();
    tap
}

#[test]
fn frames_that_a_native_tap_hands_over_alone_are_not_taken_for_others() {
    stay_on_one_cpu();
    let lan = lan("native");
    let tool = lan.tool();
    let mut tap = blocking_tap(&lan);
    let mut native = Tap::new(&lan.host, "tap1", false);
    tool.ok("attach tap1 --mode native");
    lan.add_backend(0, "--port 8000");
    lan.add_backend(0, "--port 8001");
    write(&mut tap, 8000, 30);
    row(&tool, 8000, 30);

    lan.servers[0].ip("link set eth0 down");
    send(&lan.vm_socket(), ANYWHERE, 20);
    assert_eq!(row(&tool, 7999, 20)["failures"]["link_down"], 20);
    write(&mut tap, 8000, 600);
    write(&mut native, 8001, 5);
    burst(&lan);
    let (lost, packets) = (row(&tool, 7999, BURST + 20), BURST + 20);
    assert_eq!(lost["failures"]["link_down"], packets, "{lost}");
    assert_eq!(row(&tool, 8001, 5)["failures"]["link_down"], 5);
    assert_eq!(row(&tool, 8000, 630)["delivered"], 630);
    assert_eq!(tool.json("stats")["unattributed"]["link_down"], 0);
}

/// One device, whose frames take both ways.
#[test]
fn a_native_tap_loses_what_it_lost() {
    stay_on_one_cpu();
    let lan = lan("native");
    let tool = lan.tool();
    lan.add_backend(0, "--port 8000");
    lan.add_backend(0, "--port 8001");
    let mut tap = Tap::new(&lan.host, "tap0", false);
    tool.ok("attach tap0 --mode native");
    lan.servers[0].ip("link set eth0 down");
    for _ in 0..5 {
        tap.write_blocking();
        write(&mut tap, 8000, 3);
        tap.write_at_once();
        write(&mut tap, 8001, 2);
    }
    assert_eq!(row(&tool, 8000, 15)["delivered"], 15);
    assert_eq!(row(&tool, 8001, 10)["failures"]["link_down"], 10);
    tap.write_blocking();
    lan.host.ip("link set wan0 down");
    write(&mut tap, 8000, 7);
    assert_eq!(row(&tool, 8000, 22)["failures"]["link_down"], 7);
}

#[test]
fn a_native_tap_counts_what_meets_a_stopped_queue() {
    const PORTS: [u16; 2] = [8000, 8001];
    let lan = lan("native");
    let mut tap = blocking_tap(&lan);
    let servers = PORTS.map(|port| {
        lan.add_backend(0, &format!("--port {port}"));
        socket(&lan.servers[0], &format!("0.0.0.0:{port}"))
    });
    poll_seldom_behind_a_queue(&lan);
    let mut sent = [0; 2];
    for _ in 0..BURST {
        let which = usize::from(fastrand::bool());
        sent[which] += 1;
        write(&mut tap, PORTS[which], 1);
    }
    for which in [0, 1] {
        let row = row(&lan.tool(), PORTS[which], sent[which]);
        let lost = row["failures"]["queue_full"].as_u64().unwrap();
        assert!(lost > 0, "{row}");
        assert_eq!(receive_all(&servers[which]) + lost, sent[which], "{row}");
    }
}

/// What a veth's peer does not take in time stops the veth's queue.
fn poll_seldom_behind_a_queue(lan: &Lan) {
    guest::not_in_guests("a veth's queue never fills there, its peer polls all the while");
    lan.host.exec("tc qdisc add dev wan0 root pfifo");
    // Its peer polls for frames that don't come straight from a socket only so.
    lan.host.exec("ethtool -K wan0 tso off");
    poll_seldom(&lan.servers[0], "eth0", PAUSE);
}

#[test]
fn in_generic_mode_losses_of_others_are_not_counted() {
    stay_on_one_cpu();
    let mut lan = lan("skb");
    let vm1 = second_interface(&lan);
    lan.tool().ok("attach lan1 --mode skb --no-ledger");
    poll_seldom_behind_a_queue(&lan);
    send(&lan.vm_socket(), ANYWHERE, 1);
    row(&lan.tool(), 7999, 1);
    lan.add_backend(0, "--port 8000");
    send(&vm1, "55.1.1.1:8000", BURST);
    row(&lan.tool(), 8000, BURST);
    lan.tool().ok("detach lan1");
    assert_eq!(row(&lan.tool(), 8000, BURST)["failures"]["queue_full"], 0);
    assert_eq!(row(&lan.tool(), 7999, 1)["failures"]["queue_full"], 0);

    let first = std::mem::replace(&mut lan.pins, Pins::new());
    lan.tool().ok("attach lan1 --mode skb");
    lan.add_backend(0, "");
    send(&vm1, "55.1.1.1:7999", BURST);
    let lost = row(&lan.tool(), 7999, BURST);
    assert!(lost["failures"]["queue_full"].as_u64() > Some(0), "{lost}");
    let first = Tool {
        ns: &lan.host,
        pins: &first,
    };
    assert_eq!(row(&first, 7999, 1)["failures"]["queue_full"], 0);
}

/// A test run chooses a backend for a packet that is sent nowhere.
#[test]
fn test_runs_leave_nothing_behind() {
    stay_on_one_cpu();
    let lan = lan("native");
    let tool = lan.tool();
    lan.add_backend(0, "--port 8000");
    lan.servers[0].ip("link set eth0 down");
    for round in 1..=2 {
        let program = Loaded::on(&tool.json("status"), "lan");
        for _ in 0..15 {
            assert_eq!(program.run(&frame(8000)).0, XDP_REDIRECT);
        }
        if round == 2 {
            tool.ok("detach lan --keep-rules");
            tool.ok("attach lan --mode native");
        }
        send(&lan.vm_socket(), ANYWHERE, 10);
        let lost = row(&tool, 7999, 10 * round);
        assert_eq!(lost["failures"]["link_down"], 10 * round, "{lost}");
        let none = row(&tool, 8000, 15 * round);
        assert_eq!(none["failures"]["link_down"], 0, "{none}");
    }
}

#[test]
fn in_generic_mode_what_a_device_drops_shows_as_its_own() {
    let lan = lan("skb");
    lan.servers[0].ip("link set eth0 down");
    send(&lan.vm_socket(), ANYWHERE, 100);
    row(&lan.tool(), 7999, 100);
    let egress = &lan.tool().json("stats")["egress"][0];
    assert_eq!(egress["ifname"], "wan0");
    assert_eq!(egress["tx_dropped"], 100);
    let text = lan.tool().ok("stats").out;
    assert!(
        text.contains("wan0 dropped 100 frames of all that it was to send"),
        "{text}"
    );
}
