//! The program against an independent model, on random packets and random rules that change while
//! packets come.
//!
//! `XDPREDIR_MODEL_SEED` repeats a run, `XDPREDIR_MODEL_PACKETS` sets the number of packets, and
//! `FUZZ_SECONDS` how long more of them are tried. Where they disagree, rules
//! and packets are made as few and as small as still show it.

mod bed;
mod case;
mod changes;
mod explained;
mod memory;
mod rules;
mod words;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::fixture::guest::is_kernel;
use crate::fixture::model::{Ingress, Mode, Model, Outcome, Policy};
use crate::fixture::run::{Loaded, XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX, pinned};
use crate::fixture::{Ns, Pins, Tool};
use bed::Bed;
use fastrand::Rng;
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use memory::Memory;

/// Few enough that no round takes the 30 s after which a fragment's datagram is forgotten unless
/// the test says so, or has the 8,192 fragmented datagrams after which the oldest is.
const PACKETS_PER_ROUND: u64 = 15_000;

/// After so many rounds, what is chosen by turns begins again.
const TURNS: usize = 30;
const CHANGES_PER_ROUND: u64 = 20;

/// By their numbers. All happen here, but for those of `ELSEWHERE`.
const OUTCOMES: [Outcome; 32] = [
    "redirected",
    "no_rule",
    "not_ip",
    "not_udp_tcp",
    "truncated",
    "malformed",
    "too_many_tags",
    "extension_headers",
    "fragment_without_first",
    "ttl_exceeded",
    "no_device",
    "too_long",
    "no_headroom",
    "late_first_fragment",
    "not_unicast",
    "policy_drop",
    "policy_forward",
    "policy_no_device",
    "policy_too_long",
    "forwarded",
    "passed_by_rule",
    "dropped_by_rule",
    "too_big_sent",
    "too_long_dropped",
    "answered",
    "answer_passed",
    "no_connection",
    "announced",
    "echo_answered",
    "no_source_port",
    "to_socket",
    "no_reader",
];

/// A lack of headroom, and of room in the table of connections: tests/flow_table.rs has that. Packets that are read:
/// tests/dump.rs.
const ELSEWHERE: [Outcome; 3] = ["no_headroom", "no_connection", "to_socket"];

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn the_program_agrees_with_the_model_on_every_packet() {
    let seed = from_env("XDPREDIR_MODEL_SEED", fastrand::u64(..));
    let packets = from_env("XDPREDIR_MODEL_PACKETS", 200_000);
    let mut rng = Rng::with_seed(seed);
    let first = rng.usize(..TURNS);
    let until = Instant::now() + Duration::from_secs(from_env("FUZZ_SECONDS", 0));
    let (mut total, mut long, mut errors) = (Tally::new(), 0, [0; 3]);
    let (mut round, mut came) = (0, 0);
    while came < packets || Instant::now() < until {
        let (ns, pins) = (Ns::new("model"), Pins::new());
        let run = format!("seed {seed}, round {round} of {packets} packets");
        let mut bed = Bed::new(&ns, &pins, &mut rng, run, first + round);
        let count = match packets.saturating_sub(came) {
            0 => PACKETS_PER_ROUND,
            left => PACKETS_PER_ROUND.min(left),
        };
        // The program asks for the MTU of devices of the namespace that it is run in.
        ns.enter(|| bed.round(&mut rng, count));
        (round, came) = (round + 1, came + count);
        bed.compare_statistics();
        long += bed.long;
        errors = std::array::from_fn(|kind| errors[kind] + bed.model.errors[kind]);
        for (outcome, count) in bed.tallies.into_iter().flatten() {
            let sum = total.entry(outcome).or_default();
            *sum = (sum.0 + count.0, sum.1 + count.1);
        }
    }
    println!("seed {seed}: {came} packets, no difference");
    for (outcome, (packets, _)) in &total {
        println!("{packets:>10} {outcome}");
    }
    println!("{long:>10} redirected in several buffers");
    println!("{errors:?} ICMP errors, to backends, to clients, and by the rules alone");
    for outcome in OUTCOMES
        .into_iter()
        .filter(|name| !ELSEWHERE.contains(name))
    {
        let count = total.get(outcome).map_or(0, |count| count.0);
        assert!(
            count >= packets / 20_000,
            "the packets test too little: {count} {outcome}"
        );
    }
    assert!(
        total["redirected"].0 > packets / 8,
        "too few are redirected"
    );
    assert!(long > packets / 20_000, "too few are long: {long}");
    assert!(
        errors.iter().all(|count| *count >= packets / 5_000),
        "too few ICMP errors are followed: {errors:?}"
    );
}

/// Packets and bytes by outcome.
type Tally = BTreeMap<Outcome, (u64, u64)>;

/// With a count in place of many zeros.
fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for run in bytes.chunk_by(|a, b| a == b) {
        let _ = match (run, run.len()) {
            ([0, ..], zeros @ 8..) => write!(text, "({zeros} zeros)"),
            _ => run.iter().try_for_each(|byte| write!(text, "{byte:02x}")),
        };
    }
    text
}

/// The third one's program takes frames in several buffers (xdp.frags).
const INTERFACES: [(&str, Mode, usize); 4] = [
    ("in0", Mode::Skb, 1500),
    ("in1", Mode::Native, 1500),
    ("in2", Mode::Native, 9000),
    ("in3", Mode::Tc, 1500),
];
/// Its device does not take frames that are redirected natively.
const UNREACHABLE: &str = "in1";
/// Bytes of a frame that any program takes.
const ONE_BUFFER: usize = 2048;
/// Bytes of the page that a buffer is part of.
const PAGE: usize = 4096;

/// Of ICMP errors; after that, they are limited to so many in a second.
const ANSWERS_AT_ONCE: usize = 50;

/// At least so many packets are kept for a case that fails.
const CAME: usize = 200;

/// Chosen at random for backends; the later two go away: one before the first packet, one between
/// packets.
const DEVICES: [&str; 4] = ["on", "off", "late", "gone"];

fn add_veth(ns: &Ns, name: &str, mtu: usize) {
    ns.ip(&format!("link add {name} type veth peer name p{name}"));
    for end in [name, &format!("p{name}")] {
        ns.ip(&format!("link set {end} mtu {mtu} up"));
    }
}

/// Where packets arrive.
struct Arrival {
    program: Loaded,
    ifindex: u32,
    outcomes: MapHandle,
    /// Packets by outcome so far, as the model has them.
    expected: Mutex<BTreeMap<Outcome, u64>>,
}

impl Arrival {
    fn run(&self, packet: &[u8]) -> (u32, Vec<u8>) {
        self.program.run_at(self.ifindex, packet)
    }

    /// Packets, of all CPUs.
    fn counted(&self, outcome: Outcome) -> u64 {
        let number = OUTCOMES.iter().position(|name| *name == outcome);
        let key = number.expect("it has a number") as u32;
        let counters = self
            .outcomes
            .lookup_percpu(&key.to_ne_bytes(), MapFlags::ANY);
        let counters = counters.expect("it is read").expect("it is there");
        let packets = |counter: &Vec<u8>| u64::from_ne_bytes(counter[..8].try_into().unwrap());
        counters.iter().map(packets).sum()
    }

    /// Whether one packet more is counted under this outcome.
    fn counts(&self, outcome: Outcome) -> bool {
        let mut expected = self.expected.lock().expect("nobody panicked");
        let before = expected.entry(outcome).or_default();
        let now = self.counted(outcome);
        std::mem::replace(before, now) + 1 == now
    }
}

/// Attaches to new devices of all interfaces.
fn attach(tool: &Tool) -> Vec<Arrival> {
    let attach = |(name, mode, mtu)| {
        add_veth(tool.ns, name, mtu);
        let gro = if name == UNREACHABLE { "off" } else { "on" };
        tool.ns.exec(&format!("ethtool -K p{name} gro {gro}"));
        let words = match mode {
            Mode::Native => "native",
            Mode::Skb => "skb",
            Mode::Tc => "tc",
        };
        tool.ok(&format!("attach {name} --mode {words}"));
        let ifindex = tool.ns.ifindex(name);
        Arrival {
            program: Loaded::on(&tool.json("status"), name),
            ifindex,
            outcomes: pinned(tool.pins, &format!("if-{ifindex}/outcomes")),
            expected: Mutex::default(),
        }
    };
    INTERFACES.into_iter().map(attach).collect()
}

/// Before 6.3, the kernel does not say what a veth takes.
fn ingress(interface: usize) -> Ingress {
    let (name, mode, mtu) = INTERFACES[interface];
    Ingress {
        name,
        mode,
        mtu,
        answers: mode != Mode::Native || (is_kernel(6, 3) && name != UNREACHABLE),
        reachable: is_kernel(6, 3) && name != UNREACHABLE,
    }
}

fn policy(policy: Policy) -> String {
    match policy {
        Policy::Pass => "pass".into(),
        Policy::Drop => "drop".into(),
        Policy::Forward(device) => format!("forward:{device}"),
    }
}

/// The model's outcome of a packet, the frame as the program left it, and where the program does another thing
/// than the model, what is different.
fn difference(
    at: Ingress,
    model: &mut Model,
    packet: &[u8],
    here: &Arrival,
    memory: Option<&Memory>,
) -> (Outcome, Vec<u8>, Option<String>) {
    let before = memory.and_then(|memory| memory.entry(packet));
    let (verdict, out) = here.run(packet);
    let hints = memory.map(|memory| memory.hints(packet, before));
    let (outcome, expected) = model.judge(at, packet, hints.unwrap_or_default());
    let action = match outcome {
        "redirected" | "forwarded" | "policy_forward" | "answered" => XDP_REDIRECT,
        "dropped_by_rule" | "too_long_dropped" | "no_source_port" => XDP_DROP,
        "policy_drop" | "policy_no_device" | "policy_too_long" => XDP_DROP,
        "too_big_sent" | "announced" | "echo_answered" if at.mode == Mode::Skb => XDP_TX,
        "too_big_sent" | "announced" | "echo_answered" => XDP_REDIRECT,
        _ => XDP_PASS,
    };
    let counts = here.counts(outcome);
    let text = || {
        let [packet, out, expected] = [packet, &out, &expected[..]].map(hex);
        let not = if counts { "" } else { "not " };
        format!(
            "packet   {packet}\nprogram  {verdict}, {not}counted under it, {out}\nmodel    {outcome} {expected}"
        )
    };
    let is_whole = out == expected || (at.mode == Mode::Tc && out == without_outer_tag(&expected));
    let same = (verdict, is_whole, counts) == (action, true, true);
    let difference = (!same).then(text);
    (outcome, out, difference)
}

/// A tc program puts tags beside the frame, where a test run does not show them.
fn without_outer_tag(frame: &[u8]) -> Vec<u8> {
    match frame.get(12..14) {
        Some([0x81, 0x00] | [0x88, 0xa8]) => [&frame[..12], &frame[16..]].concat(),
        _ => frame.to_vec(),
    }
}
