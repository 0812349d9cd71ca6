//! The program against an independent model, on random packets and random rules that change while
//! packets come.
//!
//! `XDPREDIR_MODEL_SEED` repeats a run, `XDPREDIR_MODEL_PACKETS` sets the number of packets, and
//! `FUZZ_SECONDS` how long more of them are tried. Where they disagree, rules
//! and packets are made as few and as small as still show it.

#[path = "../fixture/mod.rs"]
mod fixture;

mod case;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use case::Case;
use fastrand::Rng;
use fixture::guest::is_kernel;
use fixture::model::policy::Policy;
use fixture::model::{Backend, Device, Ingress, Mode, Model, Outcome, Rule};
use fixture::packet::{TCP, UDP};
use fixture::random::{PORTS, Packets, VLANS};
use fixture::run::{
    Loaded, XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX, age_fragments, age_passed, hash_key,
    renew_passed,
};
use fixture::{Ns, Pins, Tool};

/// Few enough that no round takes the 30 s after which a fragment's datagram is forgotten unless
/// the test says so, or has the 8,192 fragmented datagrams after which the oldest is.
const PACKETS_PER_ROUND: u64 = 25_000;
const CHANGES_PER_ROUND: u64 = 12;

/// Of all that can happen here; a lack of headroom can't.
const OUTCOMES: [Outcome; 19] = [
    "redirected",
    "no_rule",
    "not_ip",
    "not_udp_tcp",
    "not_unicast",
    "truncated",
    "malformed",
    "too_many_tags",
    "extension_headers",
    "fragment_without_first",
    "late_first_fragment",
    "ttl_exceeded",
    "no_device",
    "too_long",
    "too_big_sent",
    "policy_drop",
    "policy_forward",
    "policy_no_device",
    "policy_too_long",
];

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn the_program_agrees_with_the_model_on_every_packet() {
    let seed = from_env("XDPREDIR_MODEL_SEED", fastrand::u64(..));
    let packets = from_env("XDPREDIR_MODEL_PACKETS", 300_000);
    let mut rng = Rng::with_seed(seed);
    let until = Instant::now() + Duration::from_secs(from_env("FUZZ_SECONDS", 0));
    let (mut total, mut long) = (Tally::new(), 0);
    let (mut round, mut came) = (0, 0);
    while came < packets || Instant::now() < until {
        let (ns, pins) = (Ns::new("model"), Pins::new());
        let mut bed = Bed::new(&ns, &pins, &mut rng);
        bed.run = format!("seed {seed}, round {round} of {packets} packets");
        let count = match packets.saturating_sub(came) {
            0 => PACKETS_PER_ROUND,
            left => PACKETS_PER_ROUND.min(left),
        };
        // The program asks for the MTU of devices of the namespace that it is run in.
        ns.enter(|| bed.round(&mut rng, count));
        (round, came) = (round + 1, came + count);
        bed.compare_statistics();
        long += bed.long;
        for (outcome, count) in bed.interfaces.into_iter().flat_map(|i| i.tally) {
            let sum = total.entry(outcome).or_default();
            *sum = (sum.0 + count.0, sum.1 + count.1);
        }
    }
    println!("seed {seed}: {came} packets, no difference");
    for (outcome, (packets, _)) in &total {
        println!("{packets:>10} {outcome}");
    }
    println!("{long:>10} redirected in several buffers");
    for outcome in OUTCOMES {
        let count = total.get(outcome).map_or(0, |count| count.0);
        assert!(
            count >= packets / 10_000,
            "the packets test too little: {count} {outcome}"
        );
    }
    assert!(
        total["redirected"].0 > packets / 4,
        "too few are redirected"
    );
    assert!(long > packets / 1000, "too few are long: {long}");
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

/// Random rules, in the kernel and in the model.
struct Bed<'a> {
    ns: &'a Ns,
    tool: Tool<'a>,
    /// For messages.
    run: String,
    model: Model,
    interfaces: Vec<Interface>,
    /// The last packets, and at which interface each came.
    came: Vec<(usize, Vec<u8>)>,
    arrived: usize,
    /// Packets in several buffers that were redirected.
    long: u64,
}

struct Interface {
    name: &'static str,
    program: Loaded,
    policy: Policy,
    tally: Tally,
}

/// The last one's program takes frames in several buffers (xdp.frags).
const INTERFACES: [(&str, Mode, usize); 3] = [
    ("in0", Mode::Skb, 1500),
    ("in1", Mode::Native, 1500),
    ("in2", Mode::Native, 9000),
];
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

/// Attaches to new devices of all interfaces.
fn attach(tool: &Tool) -> Vec<Loaded> {
    let attach = |(name, mode, mtu)| {
        add_veth(tool.ns, name, mtu);
        tool.ns.exec(&format!("ethtool -K p{name} gro on"));
        let words = if mode == Mode::Skb { "skb" } else { "native" };
        tool.ok(&format!("attach {name} --mode {words}"));
        Loaded::on(&tool.json("status"), name)
    };
    INTERFACES.into_iter().map(attach).collect()
}

/// Before 6.3, the kernel does not say what a veth takes.
fn ingress(interface: usize, policy: Policy) -> Ingress {
    let (_, mode, mtu) = INTERFACES[interface];
    Ingress {
        mode,
        mtu,
        answers: mode == Mode::Skb || is_kernel(6, 3),
        policy,
    }
}

/// The outcome of a packet, and where verdict or bytes are not those of the model, what is different.
fn difference(
    at: Ingress,
    model: &mut Model,
    packet: &[u8],
    (verdict, out): &(u32, Vec<u8>),
) -> (Outcome, Option<String>) {
    let (outcome, expected) = model.judge(at, packet);
    let action = match outcome {
        "redirected" | "policy_forward" => XDP_REDIRECT,
        "policy_drop" | "policy_no_device" | "policy_too_long" => XDP_DROP,
        "too_big_sent" if at.mode == Mode::Skb => XDP_TX,
        "too_big_sent" => XDP_REDIRECT,
        _ => XDP_PASS,
    };
    let text = || {
        let [packet, out, expected] = [packet, out, &expected[..]].map(hex);
        format!("packet   {packet}\nprogram  {verdict} {out}\nmodel    {outcome} {expected}")
    };
    let same = (*verdict, out) == (action, &expected);
    (outcome, (!same).then(text))
}

impl<'a> Bed<'a> {
    fn new(ns: &'a Ns, pins: &'a Pins, rng: &mut Rng) -> Self {
        let mut model = Model::default();
        for name in DEVICES {
            let mtu = [1000, 1280, 1500, 9000][rng.usize(..4)];
            add_veth(ns, name, mtu);
            let device = Device {
                mac: ns.mac(name),
                mtu,
                completes: name != "off",
                gone: false,
            };
            model.devices.insert(name, device);
        }
        ns.exec("ethtool -K off tx off");
        let tool = Tool { ns, pins };
        let programs = attach(&tool);
        model.hash_key = hash_key(pins);
        let interfaces = INTERFACES
            .into_iter()
            .zip(programs)
            .map(|((name, ..), program)| Interface {
                name,
                program,
                policy: Policy::Pass,
                tally: Tally::new(),
            });
        let mut bed = Bed {
            ns,
            tool,
            run: String::new(),
            model,
            interfaces: interfaces.collect(),
            came: Vec::new(),
            arrived: 0,
            long: 0,
        };
        for _ in 0..rng.usize(2..12) {
            bed.add_rule(rng);
        }
        for at in 0..INTERFACES.len() {
            bed.set_policy(rng, at);
        }
        bed.remove_device("gone");
        bed
    }

    fn remove_device(&mut self, name: &str) {
        self.ns.ip(&format!("link del {name}"));
        self.model.devices.get_mut(name).unwrap().gone = true;
    }

    fn round(&mut self, rng: &mut Rng, count: u64) {
        let mut packets = Packets::new();
        let between = count.div_ceil(CHANGES_PER_ROUND).max(1);
        let late = rng.u64(count / 3..=count);
        for n in 0..count {
            let change = n % between == between - 1;
            if change {
                self.change(rng);
            }
            if n == late {
                self.remove_device("late");
            }
            if rng.u64(..between) == 0 {
                age_fragments(self.tool.pins, Duration::from_secs(31));
                age_passed(self.tool.pins, Duration::MAX);
                self.model.forget_fragments();
            }
            if rng.u64(..between) == 0 {
                age_passed(self.tool.pins, Duration::MAX);
                self.model.forget_passed();
            }
            // What the flow cache knows must not outlive that.
            if change || n == late {
                packets.recent().iter().for_each(|p| self.arrives(rng, p));
            }
            let packet = packets.next(rng, &self.model.rules);
            self.arrives(rng, &packet);
        }
    }

    /// At one interface or at two, in any order.
    fn arrives(&mut self, rng: &mut Rng, packet: &[u8]) {
        self.arrived += 1;
        if self.arrived.is_multiple_of(ANSWERS_AT_ONCE) {
            self.interfaces
                .iter()
                .for_each(|interface| interface.program.forget_answers());
        }
        let mut at: Vec<usize> = (0..INTERFACES.len()).collect();
        rng.shuffle(&mut at);
        at.truncate(if rng.u8(..4) == 0 { 1 } else { 2 });
        if packet.len() > ONE_BUFFER {
            at = vec![2];
        }
        at.into_iter().for_each(|at| self.agree(at, packet));
    }

    /// Panics unless program and model agree on the packet. On the outcome of one that passes they
    /// are compared by the statistics.
    fn agree(&mut self, at: usize, packet: &[u8]) {
        let Interface { name, policy, .. } = self.interfaces[at];
        if self.model.comes_late(packet) {
            // The model has no clock.
            renew_passed(self.tool.pins);
        }
        if self.came.len() == 2 * CAME {
            self.came.drain(..CAME);
        }
        self.came.push((at, packet.to_vec()));
        let out = self.interfaces[at].program.run(packet);
        let (outcome, difference) = difference(ingress(at, policy), &mut self.model, packet, &out);
        if let Some(difference) = difference {
            let case = Case {
                devices: self.model.devices.clone(),
                rules: self.model.rules.clone(),
                policies: self.interfaces.iter().map(|i| i.policy).collect(),
                packets: std::mem::take(&mut self.came),
            };
            let case = case.shrunk();
            let case = case.unwrap_or_else(|| format!("{difference}\n{}", self.circumstances()));
            panic!("{}, {name}\n{case}", self.run);
        }
        if packet.len() > PAGE && outcome == "redirected" {
            self.long += 1;
        }
        let count = self.interfaces[at].tally.entry(outcome).or_default();
        *count = (count.0 + 1, count.1 + packet.len() as u64);
    }

    fn circumstances(&self) -> String {
        let mut rules = self.model.rules.clone();
        rules
            .iter_mut()
            .for_each(|rule| rule.table = Default::default());
        format!("rules: {rules:#?}\ndevices: {:#?}", self.model.devices)
    }

    fn compare_statistics(&self) {
        let stats = self.tool.json("stats");
        for Interface { name, tally, .. } in &self.interfaces {
            let interfaces = stats["interfaces"].as_array().expect("interfaces");
            let interface = interfaces.iter().find(|i| i["ifname"] == *name).unwrap();
            let counted: BTreeMap<&str, (u64, u64)> = interface["outcomes"]
                .as_object()
                .expect("outcomes")
                .iter()
                .map(|(outcome, count)| {
                    let number = |key: &str| count[key].as_u64().expect("a number");
                    (outcome.as_str(), (number("packets"), number("bytes")))
                })
                .filter(|(_, count)| count.0 > 0)
                .collect();
            assert_eq!(counted, *tally, "{}: statistics of {name}", self.run);
        }
    }

    fn add_rule(&mut self, rng: &mut Rng) {
        let v4 = rng.bool();
        let (any, bits, lens) = if v4 {
            let any = Ipv4Addr::new(192, 168, rng.u8(120..124), rng.u8(..));
            (u128::from(u32::from(any)), 32, [0, 1, 8, 15, 24, 31, 32])
        } else {
            let any = 0x2001_0db8 << 96 | u128::from(rng.u8(..4)) << 64 | u128::from(rng.u8(..4));
            (any, 128, [0, 3, 32, 64, 65, 127, 128])
        };
        let len = match rng.u8(..3) {
            0 => rng.u32(..=bits),
            _ => lens[rng.usize(..7)],
        };
        let prefix = any.checked_shr(bits - len).unwrap_or(0);
        let prefix = prefix.checked_shl(bits - len).unwrap_or(0);
        let rule = Rule {
            src: if v4 {
                Ipv4Addr::from(prefix as u32).into()
            } else {
                Ipv6Addr::from(prefix).into()
            },
            len,
            proto: if rng.u8(..3) == 0 { TCP } else { UDP },
            port: PORTS[rng.usize(..PORTS.len())],
            vlan: VLANS[rng.usize(..VLANS.len())],
            snat: None,
            decrement_ttl: true,
            backends: Vec::new(),
            table: Default::default(),
        };
        let key = |r: &Rule| (r.src, r.len, r.proto, r.port, r.vlan);
        if self.model.rules.iter().any(|r| key(r) == key(&rule)) {
            return;
        }
        self.model.rules.push(rule);
        for _ in 0..[1, 1, 2, 3, 7, 20][rng.usize(..6)] {
            self.add_backend(rng, self.model.rules.len() - 1);
        }
    }

    fn add_backend(&mut self, rng: &mut Rng, rule: usize) {
        let v4 = self.model.rules[rule].src.is_ipv4();
        let server = host(rng, v4);
        if self.model.rules[rule]
            .backends
            .iter()
            .any(|b| b.server == server)
        {
            return;
        }
        let backend = Backend {
            server,
            mac: [0; 6],
            device: "on",
            weight: 1,
            to_port: None,
            keep_ip: false,
            push_vlan: None,
            pop_vlan: false,
        };
        let (weight, rewrite) = (rng.bool(), rng.bool());
        self.put_backend(rng, rule, backend, true, weight, rewrite);
    }

    /// Adds a backend or updates it: where it is, its weight, what becomes of its packets.
    fn put_backend(
        &mut self,
        rng: &mut Rng,
        rule: usize,
        mut backend: Backend,
        place: bool,
        weight: bool,
        rewrite: bool,
    ) {
        let rule = &mut self.model.rules[rule];
        let mut words = format!("rule add {} --server {}", words(rule), backend.server);
        if place {
            let there: Vec<&str> = DEVICES
                .into_iter()
                .filter(|name| !self.model.devices[name].gone)
                .collect();
            backend.device = there[rng.usize(..there.len())];
            backend.mac = [2, 1, rng.u8(..), rng.u8(..), rng.u8(..), rng.u8(..)];
            let mac = backend.mac.map(|b| format!("{b:02x}")).join(":");
            let _ = write!(words, " --dev {} --mac {mac}", backend.device);
        }
        if weight {
            backend.weight = if rng.bool() { 1 } else { rng.u16(1..100) };
            let _ = write!(words, " --weight {}", backend.weight);
        }
        rule.backends.retain(|b| b.server != backend.server);
        if rewrite {
            let told = rewriting(rng, rule, &mut backend);
            words.push_str(&told);
        }
        rule.backends.push(backend);
        rule.backends_changed();
        self.tool.ok(&words);
    }

    fn set_policy(&mut self, rng: &mut Rng, at: usize) {
        let there: Vec<&str> = DEVICES
            .into_iter()
            .filter(|name| !self.model.devices[name].gone)
            .collect();
        let policy = match rng.u8(..6) {
            0 => Policy::Drop,
            1 | 2 => Policy::Forward(there[rng.usize(..there.len())]),
            _ => Policy::Pass,
        };
        self.interfaces[at].policy = policy;
        self.tool.ok(&policy_words(at, policy));
    }

    /// What somebody does to the rules and policies while packets come.
    fn change(&mut self, rng: &mut Rng) {
        let rule = rng.usize(..self.model.rules.len());
        let backends = &self.model.rules[rule].backends;
        let backend = backends[rng.usize(..backends.len())].clone();
        let gone = self.model.devices[backend.device].gone;
        match rng.u8(..10) {
            8 | 9 => self.set_policy(rng, rule % INTERFACES.len()),
            0 => self.add_rule(rng),
            1 => self.add_backend(rng, rule),
            2 if self.model.rules.len() > 2 => {
                let all = words(&self.model.rules.remove(rule));
                self.tool.ok(&format!("rule del {all}"));
            }
            3 if backends.len() > 1 => {
                let rule = &mut self.model.rules[rule];
                rule.backends.retain(|b| b.server != backend.server);
                rule.backends_changed();
                let words = words(rule);
                let server = backend.server;
                self.tool.ok(&format!("rule del {words} --server {server}"));
            }
            4 if !gone => self.put_backend(rng, rule, backend, false, true, false),
            5 if !gone => self.put_backend(rng, rule, backend, false, true, true),
            6 => self.put_backend(rng, rule, backend, true, false, false),
            _ => self.put_backend(rng, rule, backend, true, true, true),
        }
    }
}

/// The command that sets an interface's policy.
fn policy_words(at: usize, policy: Policy) -> String {
    let words = match policy {
        Policy::Pass => "pass".into(),
        Policy::Drop => "drop".into(),
        Policy::Forward(device) => format!("forward:{device}"),
    };
    format!("policy {} {words}", INTERFACES[at].0)
}

/// The command that adds a backend of a rule as it is.
fn add_backend_words(rule: &Rule, backend: &Backend) -> String {
    let mac = backend.mac.map(|b| format!("{b:02x}")).join(":");
    let mut all = format!(
        "rule add {} --server {} --dev {} --mac {mac} --weight {}",
        words(rule),
        backend.server,
        backend.device,
        backend.weight
    );
    let mut told = |word: Option<String>| all.push_str(&word.unwrap_or_default());
    told(backend.to_port.map(|port| format!(" --to-port {port}")));
    told(backend.push_vlan.map(|vlan| format!(" --push-vlan {vlan}")));
    told(backend.pop_vlan.then(|| " --pop-vlan".into()));
    told(backend.keep_ip.then(|| " --keep-ip".into()));
    told((!rule.decrement_ttl).then(|| " --keep-ttl".into()));
    let snat = rule.snat.filter(|_| !backend.keep_ip);
    told(snat.map(|addr| format!(" --snat {addr}")));
    all
}

/// What a rule matches, on the command line.
fn words(rule: &Rule) -> String {
    let proto = if rule.proto == UDP { "udp" } else { "tcp" };
    let (src, len, port) = (rule.src, rule.len, rule.port);
    let vlan = match rule.vlan {
        0 => String::new(),
        vlan => format!(" --vlan {vlan}"),
    };
    format!("--src {src}/{len} --proto {proto} --port {port}{vlan}")
}

fn host(rng: &mut Rng, v4: bool) -> IpAddr {
    if v4 {
        Ipv4Addr::new(172, 17, rng.u8(..), rng.u8(..)).into()
    } else {
        Ipv6Addr::from(0xfd << 120 | rng.u128(..) >> 8).into()
    }
}

/// Chooses the rewriting of a backend that the rule doesn't have now, and gives it as words. Given
/// any, all of it is replaced, but for what the rule's other backends have in common.
fn rewriting(rng: &mut Rng, rule: &mut Rule, backend: &mut Backend) -> String {
    let mut words = String::new();
    let mut told = |one_in: u8, word: String| {
        let told = rng.u8(..one_in) == 0;
        if told {
            words.push_str(&word);
        }
        told
    };
    let keep_ip = told(5, " --keep-ip".into());

    let port = [7999, 53, 1, 65535, 4321][usize::from(backend.mac[3]) % 5];
    let to_port = (!keep_ip && told(3, format!(" --to-port {port}"))).then_some(port);
    let vlan = [1, 5, 4094][usize::from(backend.mac[3]) % 3];
    let push_vlan = told(4, format!(" --push-vlan {vlan}")).then_some(vlan);
    let pop_vlan = told(3, " --pop-vlan".into());
    let keep_ttl = told(4, " --keep-ttl".into());
    let decrement_ttl = !keep_ttl && told(4, " --decrement-ttl".into());
    let source = host(
        &mut Rng::with_seed(backend.mac[4].into()),
        rule.src.is_ipv4(),
    );
    let snat = (!keep_ip && told(3, format!(" --snat {source}"))).then_some(source);
    if words.is_empty() {
        return words;
    }
    backend.keep_ip = keep_ip;
    backend.to_port = to_port;
    backend.push_vlan = push_vlan;
    backend.pop_vlan = pop_vlan;
    let others = !rule.backends.is_empty();
    rule.snat = snat.or(rule.snat.filter(|_| rule.rewrites_addresses()));
    let kept = keep_ttl || (others && !rule.decrement_ttl && !decrement_ttl);
    rule.decrement_ttl = !kept;
    words
}
