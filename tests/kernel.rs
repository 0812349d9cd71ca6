//! What a kernel must do for the program, whatever its version: load each variant, redirect whole
//! packets in each mode, count what is lost. `make test` runs this binary on other kernels, too
//! (scripts/kernels).

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::fixture::foreign::{Foreign, XDP};
use crate::fixture::guest::{self, is_kernel};
use crate::fixture::packet::{ETHERNET, TCP, UDP, assert_checksums};
use crate::fixture::run::{on_interface, verified_insns};
use crate::fixture::tap::Tap;
use crate::fixture::{self, Ns, Pins, Run, Tool};

const LEDGER: [(&str, &str); 2] = [("ledger", ""), ("no-ledger", "--no-ledger")];
const SERVER_MAC: [u8; 6] = [2, 0x42, 0xac, 0x11, 0, 2];
/// A veth whose frames are longer than a page takes native programs for several buffers only.
const JUMBO: &str = "9000";

/// What the gate compares with what is recorded: scripts/kernels/verified.
fn report(program: &str, variant: &str, insns: u32) {
    assert!(insns > 0, "{program} {variant}");
    println!("VERIFIED {program} {variant} {insns}");
}

struct Host {
    ns: Ns,
    pins: Pins,
}

impl Host {
    fn new() -> Self {
        Host {
            ns: Ns::dual_stack("host"),
            pins: Pins::new(),
        }
    }

    fn tool(&self) -> Tool<'_> {
        Tool {
            ns: &self.ns,
            pins: &self.pins,
        }
    }

    fn attach(&self, device: &str, mode: &str, words: &str) -> Run {
        let words = format!("attach {device} --mode {mode} {words}");
        self.tool().run(&words)
    }

    /// What the verifier walked of the program that is attached, which is then detached.
    fn report(&self, device: &str, variant: &str) {
        let id = on_interface(&self.tool().json("status"), device);
        report("xdpredir", variant, verified_insns(id));
        self.tool().ok("detach --all");
    }
}

/// The one that each kernel can run that has no device of its own but `lo`.
#[test]
fn the_program_loads_in_generic_mode_on_lo() {
    let host = Host::new();
    for (ledger, words) in LEDGER {
        host.attach("lo", "skb", words).ok();
        host.report("lo", &format!("skb,{ledger}"));
    }
    // The verifier took it, and the driver says no.
    host.attach("lo", "native", "")
        .fails(6, &["lo cannot run XDP in native mode"]);
}

/// Whatever its length, the entry of a chain is walked once for each program.
#[test]
fn the_entry_of_a_chain_loads() {
    let host = Host::new();
    host.ns.veth("lan", &host.ns, "peer");
    let pin = host.pins.dir().with_file_name("pass");
    Foreign::returning("pass", 2, XDP).pin(&pin);
    for mode in ["skb", "native"] {
        host.attach("lan", mode, "").ok();
        for _ in 0..2 {
            let add = format!("chain add lan {}", pin.display());
            host.tool().ok(&add);
        }
        let id = on_interface(&host.tool().json("status"), "lan");
        report("xdpredir_chain", mode, verified_insns(id));
        host.tool().ok("detach --all");
    }
}

/// Before 6.6, it is attached by a filter.
#[test]
fn the_program_loads_at_the_tc_hook() {
    let host = Host::new();
    for (ledger, words) in LEDGER {
        host.attach("lo", "tc", words).ok();
        let link = host.tool().json("status")["interfaces"][0]["link_id"].clone();
        assert_eq!(link.is_u64(), is_kernel(6, 6), "{link}");
        host.report("lo", &format!("tc,{ledger}"));
    }
}

#[test]
fn the_program_loads_in_native_mode() {
    let host = Host::new();
    host.ns.veth("lan", &host.ns, "peer");
    for (ledger, words) in LEDGER {
        host.attach("lan", "native", words).ok();
        host.report("lan", &format!("native,{ledger}"));
    }
}

/// What a rule has attached for answers alone is longer: it asks whether rules take packets there.
#[test]
fn the_program_loads_for_answers_alone() {
    let host = Host::new();
    host.ns.veth("lan", &host.ns, "peer");
    // Before 6.3, the kernel does not say that lan takes frames that are redirected natively.
    host.ns.exec("ethtool -K peer gro on");
    host.attach("lan", "native", "").ok();
    host.ns.ip("link add br0 type bridge");
    let mode = if is_kernel(6, 3) { "native" } else { "skb" };
    for (device, mode) in [("peer", mode), ("br0", "skb")] {
        let backend = "--server 10.1.1.2 --mac 2:0:0:0:0:2";
        let added = host
            .tool()
            .ok(&format!("rule add {backend} --dev {device} --reply nat"));
        let said = format!("attached to {device} ({mode}) for the answers");
        assert!(added.out.contains(&said), "{added:?}");
    }
}

/// Kernels that redirect no frames in several buffers (before 6.3) need not take it.
#[test]
fn the_program_loads_for_frames_in_several_buffers() {
    let host = Host::new();
    host.ns.veth("lan", &host.ns, "peer");
    for device in ["lan", "peer"] {
        host.ns.ip(&format!("link set {device} mtu {JUMBO}"));
    }
    for (ledger, words) in LEDGER {
        let tried = host.attach("lan", "native", words);
        if tried.code != 6 || knows_netdev_family() {
            tried.ok();
            host.report("lan", &format!("native,frags,{ledger}"));
        }
    }
}

/// Whether drivers say what they do with XDP, as they do since 6.3.
fn knows_netdev_family() -> bool {
    fixture::command("genl", &["ctrl", "list"]).contains("Name: netdev")
}

#[test]
fn the_ledgers_programs_load() {
    let xdp = ["redirect_err", "devmap_xmit", "exception"];
    let all = [
        ("skb", "ledger", &xdp[..]),
        ("tc", "ledger-tc", &["skb_dropped"]),
    ];
    for (mode, directory, programs) in all {
        let host = Host::new();
        host.attach("lo", mode, "").ok();
        for program in programs {
            let pin = format!("{directory}/{program}");
            let mut links = host.pins.left().into_iter();
            let link = links.find(|path| path.ends_with(&pin));
            let link = libbpf_rs::Link::open(link.expect("its link is pinned")).unwrap();
            let id = link.info().unwrap().prog_id;
            report(program, "ledger", verified_insns(id));
        }
    }
}

/// A sender whose kernel leaves checksums to its device, and a tap whose reader wants them whole.
struct Bed {
    host: Host,
    vm: Ns,
    tap: Tap,
}

const FAMILIES: [Family; 2] = [
    Family {
        source: "192.168.122.10:40000",
        to: "11.22.33.44:7999",
        server: "172.17.0.2",
        ethertype: [0x08, 0x00],
    },
    Family {
        source: "[fd00:122::10]:40000",
        to: "[fd00:99::1]:7999",
        server: "fd00:17::2",
        ethertype: [0x86, 0xdd],
    },
];

struct Family {
    source: &'static str,
    to: &'static str,
    server: &'static str,
    ethertype: [u8; 2],
}

impl Bed {
    fn new() -> Self {
        let (host, vm) = (Host::new(), Ns::dual_stack("vm"));
        host.ns.veth("lan", &vm, "eth0");
        for (gateway, own) in [
            ("192.168.122.1", "192.168.122.10/24"),
            ("fd00:122::1", "fd00:122::10/64"),
        ] {
            let length = own.split_once('/').expect("a length").1;
            host.ns.ip(&format!("addr add {gateway}/{length} dev lan"));
            vm.ip(&format!("addr add {own} dev eth0"));
            vm.ip(&format!("route add default via {gateway}"));
            // No packet waits for the neighbour.
            let mac = fixture::lan::mac(&host.ns, "lan");
            vm.ip(&format!("neigh replace {gateway} lladdr {mac} dev eth0"));
        }
        let tap = Tap::new(&host.ns, "tap0", false);
        Bed { host, vm, tap }
    }

    /// What comes out of the tap for the server: the host itself says things there, too.
    fn arrived(&mut self, what: &str) -> Vec<u8> {
        std::iter::from_fn(|| self.tap.read())
            .find(|frame| frame[..6] == SERVER_MAC)
            .unwrap_or_else(|| panic!("{what} never arrived"))
    }

    fn delivered(&self, packets: u64) -> serde_json::Value {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let stats = self.host.tool().json("stats");
            let rows = stats["rules"].as_array().expect("rules");
            let sum = |key: &str| rows.iter().filter_map(|row| row[key].as_u64()).sum::<u64>();
            if sum("forward_packages") == packets {
                return rows[0]["delivered"]
                    .is_u64()
                    .then(|| sum("delivered"))
                    .into();
            }
            assert!(Instant::now() < end, "not {packets} packets: {stats}");
        }
    }
}

#[test]
fn packets_are_redirected_whole_in_each_mode() {
    for (mode, _kernel) in guest::modes_and_kernels() {
        for (ledger, words) in LEDGER {
            let mut bed = Bed::new();
            let tool = bed.host.tool();
            tool.ok(&format!("attach lan --mode {mode} {words}"));
            let mac = SERVER_MAC.map(|byte| format!("{byte:02x}")).join(":");
            for Family { server, .. } in &FAMILIES {
                for proto in ["udp", "tcp"] {
                    tool.ok(&format!(
                        "rule add --proto {proto} --server {server} --mac {mac} --dev tap0"
                    ));
                }
            }
            for Family {
                source,
                to,
                ethertype,
                ..
            } in &FAMILIES
            {
                let what = format!("{mode}, {ledger}, {to}");
                let socket = bed.vm.enter(|| UdpSocket::bind(source)).expect("a socket");
                socket.send_to(b"hello ebpf", to).expect("it is sent");
                let frame = bed.arrived(&what);
                assert_eq!(frame[12..14], *ethertype, "{what}");
                assert_eq!(proto_of(&frame), UDP, "{what}");
                assert_checksums(&frame);
                assert!(frame.ends_with(b"hello ebpf"), "{what}: {frame:02x?}");

                let to: SocketAddr = to.parse().expect("an address");
                bed.vm
                    .enter(|| TcpStream::connect_timeout(&to, Duration::from_millis(1)).ok());
                let frame = bed.arrived(&what);
                assert_eq!(proto_of(&frame), TCP, "{what}");
                assert_checksums(&frame);
            }
            let counted = if ledger == "ledger" {
                4.into()
            } else {
                serde_json::Value::Null
            };
            assert_eq!(bed.delivered(4), counted, "{mode}, {ledger}");
        }
    }
}

/// While packets are captured, another program stands in for the one that is attached.
#[test]
fn packets_are_captured_in_each_mode() {
    for (mode, _kernel) in guest::modes_and_kernels() {
        let mut bed = Bed::new();
        let tool = bed.host.tool();
        tool.ok(&format!("attach lan --mode {mode}"));
        tool.ok("rule add --server 172.17.0.2 --mac 2:42:ac:11:0:2 --dev tap0");
        let mut capture = tool.spawn("capture lan --proto udp --count 2");
        let mut said = String::new();
        let mut messages = BufReader::new(capture.stderr.take().expect("a pipe"));
        messages.read_line(&mut said).expect("a line");
        assert!(said.starts_with("capturing at lan"), "{mode}: {said}");
        let Family { source, to, .. } = &FAMILIES[0];
        let socket = bed.vm.enter(|| UdpSocket::bind(source)).expect("a socket");
        socket.send_to(b"hello ebpf", to).expect("it is sent");
        assert!(bed.arrived(mode).ends_with(b"hello ebpf"));
        bed.host.ns.ip("link set tap0 down");
        socket.send_to(b"hello ebpf", to).expect("it is sent");
        let run: Run = capture.wait_with_output().expect("it ends").into();
        let stages: Vec<_> = run.ok().out.lines().map(stage_of).collect();
        let leaves = ["arrived lan", "left tap0"];
        assert_eq!(
            stages,
            [&leaves[..], &leaves, &["lost tap0"]].concat(),
            "{mode}"
        );
        assert_eq!(bed.delivered(2), 1, "{mode}");
    }
}

/// By a program of its own where nothing is attached, by a stand-in beside ours, and by a rule.
#[test]
fn frames_are_taken_in_each_mode() {
    for (attach, dump) in [
        ("", "--mode native"),
        ("", "--mode skb"),
        ("native", ""),
        ("skb", ""),
        ("skb", "--rules"),
    ] {
        let bed = Bed::new();
        let tool = bed.host.tool();
        if !attach.is_empty() {
            tool.ok(&format!("attach lan --mode {attach}"));
            tool.ok("rule add --port 7999 --socket");
        }
        let port = if dump == "--rules" { "" } else { "--port 7999" };
        let mut run = tool.spawn(&format!("dump lan {dump} {port} --count 1"));
        let mut said = String::new();
        let mut messages = BufReader::new(run.stderr.take().expect("a pipe"));
        messages.read_line(&mut said).expect("a line");
        assert!(said.starts_with("taking frames from lan"), "{said}");
        let Family { source, to, .. } = &FAMILIES[0];
        let socket = bed.vm.enter(|| UdpSocket::bind(source)).expect("a socket");
        socket.send_to(b"hello ebpf", to).expect("it is sent");
        let taken: Run = run.wait_with_output().expect("it ends").into();
        let taken = taken.ok().out;
        assert!(taken.contains("UDP, length 10"), "{attach} {dump}: {taken}");
    }
}

/// The stage and the device of a line.
fn stage_of(line: &str) -> String {
    let words: Vec<_> = line.split_whitespace().skip(1).take(2).collect();
    words.join(" ")
}

/// What the kernel calls the reason differs from kernel to kernel.
#[test]
fn what_a_device_drops_behind_the_tc_hook_is_counted() {
    let bed = Bed::new();
    let tool = bed.host.tool();
    tool.ok("attach lan --mode tc");
    tool.ok("rule add --server 172.17.0.2 --mac 2:0:0:0:0:2 --dev tap0");
    bed.host.ns.ip("link set tap0 down");
    let Family { source, to, .. } = &FAMILIES[0];
    let socket = bed.vm.enter(|| UdpSocket::bind(source)).expect("a socket");
    socket.send_to(b"hello ebpf", to).expect("it is sent");
    assert_eq!(bed.delivered(1), 0);
    let failures = &tool.json("stats")["rules"][0]["failures"];
    assert_eq!(failures["link_down"], 1, "{failures}");
    let errors = &failures["errors"]["link_down"];
    assert_eq!(*errors, serde_json::json!({ "QDISC_DROP": 1 }));
}

fn proto_of(frame: &[u8]) -> u8 {
    let at = if frame[12..14] == [0x86, 0xdd] { 6 } else { 9 };
    frame[ETHERNET + at]
}

/// The program finds where this kernel keeps whether a device has a link.
#[test]
fn new_flows_go_past_a_backend_whose_link_is_down() {
    const FLOWS: u16 = 32;
    for (mode, _kernel) in guest::modes_and_kernels() {
        let bed = Bed::new();
        let (tool, host) = (bed.host.tool(), &bed.host.ns);
        host.ip("tuntap add tap1 mode tap");
        let reader = Tap::new(host, "tap1", false);
        tool.ok(&format!("attach lan --mode {mode}"));
        for number in [0, 1] {
            tool.ok(&format!(
                "rule add --server 172.17.0.{number} --mac 02:42:ac:11:00:02 --dev tap{number}"
            ));
        }
        // How many packets each backend has got.
        let counts = || {
            let rows = tool.json("stats")["rules"].clone();
            let row = |server: &str| {
                let mut rows = rows.as_array().expect("rows").iter();
                let row = rows.find(|row| row["server"] == server);
                row.expect("it is listed")["forward_packages"].as_u64()
            };
            ["172.17.0.0", "172.17.0.1"].map(|server| row(server).expect("a number"))
        };
        // What each backend gets of the flows.
        let shares = || {
            let before = counts();
            for port in 0..FLOWS {
                let source = format!("192.168.122.10:{}", 40_000 + port);
                let socket = bed.vm.enter(|| UdpSocket::bind(source)).expect("a socket");
                socket
                    .send_to(b"hello", FAMILIES[0].to)
                    .expect("it is sent");
            }
            let mut now = counts();
            fixture::eventually("all flows are counted", || {
                now = counts();
                now.iter().sum::<u64>() == before.iter().sum::<u64>() + u64::from(FLOWS)
            });
            [now[0] - before[0], now[1] - before[1]]
        };
        let (all, both) = (u64::from(FLOWS), shares());
        assert!(both.iter().all(|share| *share > 0), "{mode}: {both:?}");
        // The program looks at links once in a tick of the kernel's clock.
        let wait = || std::thread::sleep(Duration::from_millis(30));
        drop(reader);
        wait();
        assert_eq!(shares(), [all, 0], "{mode}: nobody reads from tap1");
        let _reader = Tap::new(host, "tap1", false);
        wait();
        assert_eq!(shares(), both, "{mode}: somebody does again");
        host.ip("link set tap0 down");
        wait();
        assert_eq!(shares(), [0, all], "{mode}: tap0 is down");
        host.ip("link set tap0 up");
        wait();
        assert_eq!(shares(), both, "{mode}: tap0 is up again");
    }
}
