//! The program against an independent model, on random packets and random rules.
//!
//! `XDPREDIR_MODEL_SEED` repeats a run, `XDPREDIR_MODEL_PACKETS` sets the number of packets.

mod fixture;

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use fastrand::Rng;
use fixture::model::{Backend, Device, Mode, Rule, expect};
use fixture::packet::{Checksum, Frame, TCP, UDP};
use fixture::run::{Loaded, XDP_PASS, XDP_REDIRECT};
use fixture::{Ns, Pins, Tool};

const ROUNDS: usize = 12;
const PORTS: [u16; 4] = [7999, 53, 80, 65535];

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn the_program_agrees_with_the_model_on_every_packet() {
    let seed = from_env("XDPREDIR_MODEL_SEED", fastrand::u64(..));
    let packets = from_env("XDPREDIR_MODEL_PACKETS", 300_000);
    let mut rng = Rng::with_seed(seed);
    let (mut redirected, mut passed) = (0u64, 0u64);
    for round in 0..ROUNDS {
        let bed = Bed::new(&mut rng);
        // The program asks for the MTU of devices of the namespace that it is run in.
        bed.ns.enter(|| {
            for _ in 0..packets / ROUNDS as u64 {
                let packet = packet(&mut rng, &bed.rules);
                for mode in [Mode::Skb, Mode::Native] {
                    if bed.agree(mode, &packet, &format!("seed {seed}, round {round}")) {
                        redirected += 1;
                    } else {
                        passed += 1;
                    }
                }
            }
        });
    }
    println!("seed {seed}: {redirected} redirected, {passed} passed, no difference");
    assert!(
        redirected > packets / 4 && passed > packets / 4,
        "the packets test too little"
    );
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Random rules, in the kernel and in the model.
struct Bed {
    ns: Ns,
    _pins: Pins,
    rules: Vec<Rule>,
    skb: Loaded,
    native: Loaded,
}

impl Bed {
    fn new(rng: &mut Rng) -> Self {
        let (ns, pins) = (Ns::new("model"), Pins::new());
        for name in ["in0", "in1", "on", "off", "gone"] {
            ns.ip(&format!("link add {name} type veth peer name p{name}"));
            ns.ip(&format!("link set {name} up"));
            ns.ip(&format!("link set p{name} up"));
        }
        ns.exec("ethtool -K off tx off");
        let tool = Tool {
            ns: &ns,
            pins: &pins,
        };
        tool.ok("attach in0 --mode skb");
        tool.ok("attach in1 --mode native");

        let mut rules = Vec::new();
        for _ in 0..rng.usize(1..12) {
            add_rule(rng, &tool, &mut rules);
        }
        ns.ip("link del gone");
        let status = tool.json("status");
        let (skb, native) = (Loaded::on(&status, "in0"), Loaded::on(&status, "in1"));
        Bed {
            ns,
            _pins: pins,
            rules,
            skb,
            native,
        }
    }
}

impl Bed {
    /// Whether the packet is redirected, on which program and model must agree.
    fn agree(&self, mode: Mode, packet: &[u8], run: &str) -> bool {
        let program = match mode {
            Mode::Skb => &self.skb,
            Mode::Native => &self.native,
        };
        let (verdict, out) = program.run(packet);
        let expected = expect(&self.rules, mode, packet);
        let agree = match &expected {
            Some(expected) => verdict == XDP_REDIRECT && out == *expected,
            None => verdict == XDP_PASS && out == packet,
        };
        assert!(
            agree,
            "{run}, {mode:?}\npacket   {}\nprogram  {verdict} {}\nmodel    {}\nrules:\n{:#?}",
            hex(packet),
            hex(&out),
            expected.map_or("pass".into(), |bytes| hex(&bytes)),
            self.rules
        );
        expected.is_some()
    }
}

fn add_rule(rng: &mut Rng, tool: &Tool, rules: &mut Vec<Rule>) {
    let len = [0, 1, 8, 15, 24, 31, 32][rng.usize(..7)];
    let any = u32::from(Ipv4Addr::new(192, 168, rng.u8(120..124), rng.u8(..)));
    let src = Ipv4Addr::from((u64::from(any) >> (32 - len) << (32 - len)) as u32);
    let proto = if rng.u8(..3) == 0 { TCP } else { UDP };
    let port = PORTS[rng.usize(..PORTS.len())];
    if rules
        .iter()
        .any(|r| (r.src, r.len, r.proto, r.port) == (src, len, proto, port))
    {
        return;
    }
    let mut rule = Rule {
        src,
        len,
        proto,
        port,
        backends: Vec::new(),
        table: Default::default(),
    };
    let count = [1, 1, 2, 3, 7, 20][rng.usize(..6)];
    let first = rng.u8(..200);
    for i in 0..count {
        let name = ["on", "on", "off", "gone"][rng.usize(..4)];
        let server = Ipv4Addr::new(172, 17, rng.u8(..), first + i);
        let weight = if rng.bool() { 1 } else { rng.u32(1..100) };
        let mac = [2, 1, rng.u8(..), rng.u8(..), rng.u8(..), i];
        let word = if proto == UDP { "udp" } else { "tcp" };
        let mac_text = mac.map(|b| format!("{b:02x}")).join(":");
        tool.ok(&format!(
            "rule add --src {src}/{len} --proto {word} --port {port} --server {server} --mac {mac_text} --dev {name} --weight {weight}"
        ));
        let device = Device {
            mac: tool.ns.mac(name),
            completes: name != "off",
            gone: name == "gone",
        };
        rule.backends.push(Backend {
            server,
            mac,
            weight,
            device,
        });
    }
    rules.push(rule);
}

/// Mostly packets that nearly or just match, some of them damaged, some pure noise.
fn packet(rng: &mut Rng, rules: &[Rule]) -> Vec<u8> {
    if rng.u8(..50) == 0 {
        return (0..rng.usize(14..200)).map(|_| rng.u8(..)).collect();
    }
    let rule = &rules[rng.usize(..rules.len())];
    let mut bytes = likely(rng, rule).bytes();
    for _ in 0..[0, 0, 0, 0, 1, 1, 3][rng.usize(..7)] {
        damage(rng, &mut bytes);
    }
    bytes
}

fn likely(rng: &mut Rng, rule: &Rule) -> Frame {
    let mut src = u32::from(rule.src) | (u64::from(rng.u32(..)) >> rule.len) as u32;
    if rng.u8(..6) == 0 {
        src ^= 1 << rng.u32(..32);
    }
    let len = match rng.u8(..8) {
        0..4 => rng.usize(..40),
        4..7 => rng.usize(..1473),
        _ => rng.usize(1430..1500),
    };
    let checksum = match rng.u8(..10) {
        0..4 => Checksum::Full,
        4..8 => Checksum::Partial,
        8 => Checksum::Zero,
        _ => Checksum::Value([0, 1, 0xffff, 0xfffe, rng.u16(..)][rng.usize(..5)]),
    };
    Frame {
        dmac: [rng.u8(..); 6],
        src: src.into(),
        dst: rng.u32(..).into(),
        proto: rule.proto,
        sport: rng.u16(..),
        dport: if rng.u8(..6) == 0 {
            PORTS[rng.usize(..PORTS.len())]
        } else {
            rule.port
        },
        options: if rng.u8(..4) == 0 {
            vec![1; rng.usize(..11) * 4]
        } else {
            Vec::new()
        },
        fragment: match rng.u8(..20) {
            0 => 0x2000,
            1 => rng.u16(..0x2000),
            2 => 0,
            _ => 0x4000,
        },
        // Runs of one value make sums at the edges (0x0000, 0xffff) likely.
        payload: match rng.u8(..4) {
            0 => vec![0; len],
            1 => vec![0xff; len],
            _ => (0..len).map(|_| rng.u8(..)).collect(),
        },
        padding: if rng.u8(..4) == 0 { rng.usize(..60) } else { 0 },
        checksum,
        ..Frame::default()
    }
}

/// One change, mostly in the headers, as a broken sender or a hostile one makes it.
fn damage(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let headers = bytes.len().min(64);
    match rng.u8(..6) {
        0 => bytes.truncate(rng.usize(14..=bytes.len())),
        1 => bytes.extend((0..rng.usize(..40)).map(|i| i as u8)),
        2 => bytes[rng.usize(..headers)] = rng.u8(..),
        3 => bytes[rng.usize(..headers)] ^= 1 << rng.u8(..8),
        4 if bytes.len() > 18 => {
            let value = [0, 20, 28, 60, rng.u16(..), bytes.len() as u16 - 14][rng.usize(..6)];
            bytes[16..18].copy_from_slice(&value.to_be_bytes());
        }
        _ if bytes.len() > 40 => bytes[38..40].copy_from_slice(&rng.u16(..64).to_be_bytes()),
        _ => {}
    }
}
