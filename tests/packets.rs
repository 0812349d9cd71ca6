//! The program, packet by packet: a table of what goes in and what must come out.

use std::thread;
use std::time::Duration;

use crate::fixture::packet::{Checksum, Frame, TCP};
use crate::fixture::run::{Loaded, XDP_PASS, XDP_REDIRECT};
use crate::fixture::{self, Ns, Pins, Tool};

const BACKEND_MAC: [u8; 6] = [2, 0x42, 0xac, 0x11, 0, 2];

/// What must become of a packet.
enum Out {
    /// Passed, not one byte changed.
    Same,
    /// Redirected to this server, with the L4 checksum in this form.
    To([u8; 4], Checksum),
}
use Out::{Same, To};

struct Case {
    what: &'static str,
    /// Words of `rule add`, without the MAC and the device.
    rules: &'static [&'static str],
    packet: Frame,
    /// Made of the packet's bytes, where its fields can't say it.
    mutate: fn(&mut Vec<u8>),
    out: Out,
}

impl Default for Case {
    fn default() -> Self {
        Case {
            what: "",
            rules: &["--server 172.17.0.2"],
            packet: Frame::default(),
            mutate: |_| {},
            out: Same,
        }
    }
}

fn frame() -> Frame {
    Frame::default()
}

fn cases() -> Vec<Case> {
    let server = [172, 17, 0, 2];
    vec![
        Case {
            what: "a match is redirected",
            out: To(server, Checksum::Full),
            ..Case::default()
        },
        Case {
            what: "without a rule it passes",
            rules: &[],
            ..Case::default()
        },
        Case {
            what: "another port passes",
            packet: Frame {
                dport: 8000,
                ..frame()
            },
            ..Case::default()
        },
        Case {
            what: "the source port doesn't count",
            packet: Frame {
                dport: 1,
                sport: 7999,
                ..frame()
            },
            ..Case::default()
        },
        Case {
            what: "TCP isn't UDP",
            packet: Frame {
                proto: TCP,
                ..frame()
            },
            ..Case::default()
        },
        Case {
            what: "TCP is matched by its own rule",
            rules: &["--proto tcp --port 80 --server 172.17.0.2"],
            packet: Frame {
                proto: TCP,
                dport: 80,
                ..frame()
            },
            out: To(server, Checksum::Full),
            ..Case::default()
        },
        Case {
            what: "another protocol passes",
            packet: Frame {
                proto: 47,
                ..frame()
            },
            ..Case::default()
        },
        Case {
            what: "another source passes",
            rules: &["--src 10.0.0.0/8 --server 172.17.0.2"],
            ..Case::default()
        },
        Case {
            what: "the longest source prefix wins",
            rules: &[
                "--server 172.17.0.9",
                "--src 192.168.0.0/16 --server 172.17.0.8",
                "--src 192.168.122.10 --server 172.17.0.2",
                "--src 192.168.122.0/24 --server 172.17.0.7",
            ],
            out: To(server, Checksum::Full),
            ..Case::default()
        },
        Case {
            what: "a shorter prefix serves where the longer ones don't match",
            rules: &[
                "--src 192.168.0.0/16 --server 172.17.0.2",
                "--src 192.168.122.11 --server 172.17.0.7",
            ],
            out: To(server, Checksum::Full),
            ..Case::default()
        },
        Case {
            what: "IP options don't hinder",
            packet: Frame {
                options: vec![1; 8],
                ..frame()
            },
            out: To(server, Checksum::Full),
            ..Case::default()
        },
        Case {
            what: "as many IP options as there can be",
            packet: Frame {
                options: vec![1; 40],
                ..frame()
            },
            out: To(server, Checksum::Full),
            ..Case::default()
        },
        Case {
            what: "an empty payload",
            packet: Frame {
                payload: vec![],
                padding: 18,
                ..frame()
            },
            out: To(server, Checksum::Full),
            ..Case::default()
        },
        Case {
            what: "an odd payload in a padded frame",
            packet: Frame {
                payload: vec![0xab; 7],
                padding: 11,
                ..frame()
            },
            out: To(server, Checksum::Full),
            ..Case::default()
        },
        Case {
            what: "no UDP checksum stays none",
            packet: Frame {
                checksum: Checksum::Zero,
                ..frame()
            },
            out: To(server, Checksum::Zero),
            ..Case::default()
        },
        Case {
            what: "a first fragment is redirected",
            packet: Frame {
                fragment: 0x2000,
                ..frame()
            },
            out: To(server, Checksum::Full),
            ..Case::default()
        },
        Case {
            what: "a later fragment whose first was not seen passes",
            packet: Frame {
                dst: [11, 22, 33, 45].into(),
                fragment: 0x0010,
                ..frame()
            },
            ..Case::default()
        },
        Case {
            what: "an Ethernet header alone passes",
            mutate: |b| b.truncate(14),
            ..Case::default()
        },
        Case {
            what: "a truncated IP header passes",
            mutate: |b| b.truncate(33),
            ..Case::default()
        },
        Case {
            what: "a truncated UDP header passes",
            mutate: |b| b.truncate(41),
            ..Case::default()
        },
        Case {
            what: "a truncated payload passes",
            mutate: |b| b.truncate(51),
            ..Case::default()
        },
        Case {
            what: "a UDP length beyond the packet passes",
            mutate: |b| b[39] += 1,
            ..Case::default()
        },
        Case {
            what: "a UDP length below its header passes",
            mutate: |b| b[39] = 7,
            ..Case::default()
        },
        // Read 4 bytes too early, its addresses and ports would be a segment that matches.
        Case {
            what: "an IP header shorter than 20 bytes passes",
            packet: Frame {
                dst: [11, 22, 31, 63].into(),
                sport: 14,
                ..frame()
            },
            mutate: |b| b[14] = 0x44,
            ..Case::default()
        },
        Case {
            what: "an IP header longer than the packet passes",
            mutate: |b| b[14] = 0x4f,
            ..Case::default()
        },
        Case {
            what: "another IP version passes",
            mutate: |b| b[14] = 0x65,
            ..Case::default()
        },
        Case {
            what: "IPv6 passes",
            mutate: |b| (b[12], b[13]) = (0x86, 0xdd),
            ..Case::default()
        },
        Case {
            what: "ARP passes",
            mutate: |b| (b[12], b[13]) = (8, 6),
            ..Case::default()
        },
        Case {
            what: "a VLAN tag passes",
            mutate: |b| {
                b.splice(12..12, [0x81, 0, 0, 5]);
            },
            ..Case::default()
        },
        Case {
            what: "a TCP header shorter than 20 bytes passes",
            rules: &["--proto tcp --server 172.17.0.2"],
            packet: Frame {
                proto: TCP,
                ..frame()
            },
            mutate: |b| b[46] = 0x40,
            ..Case::default()
        },
        Case {
            what: "a truncated TCP header passes",
            rules: &["--proto tcp --server 172.17.0.2"],
            packet: Frame {
                proto: TCP,
                payload: vec![],
                ..frame()
            },
            mutate: |b| {
                b.truncate(53);
                b[17] = 39;
            },
            ..Case::default()
        },
    ]
}

/// An interface in each mode, on one rule set; egress devices with and without tx checksum.
struct Bed {
    ns: Ns,
    pins: Pins,
    skb: Loaded,
    native: Loaded,
    out_mac: [u8; 6],
    plain_mac: [u8; 6],
}

impl Bed {
    fn new() -> Self {
        let (ns, pins) = (Ns::new("packets"), Pins::new());
        for (a, b) in [
            ("in0", "in0p"),
            ("in1", "in1p"),
            ("out", "outp"),
            ("plain", "plainp"),
        ] {
            ns.ip(&format!("link add {a} type veth peer name {b}"));
            ns.ip(&format!("link set {a} up"));
            ns.ip(&format!("link set {b} up"));
        }
        ns.exec("ethtool -K plain tx off");
        let tool = Tool {
            ns: &ns,
            pins: &pins,
        };
        tool.ok("attach in0 --mode skb");
        tool.ok("attach in1 --mode native");
        let status = tool.json("status");
        let (skb, native) = (Loaded::on(&status, "in0"), Loaded::on(&status, "in1"));
        let (out_mac, plain_mac) = (ns.mac("out"), ns.mac("plain"));
        Bed {
            ns,
            pins,
            skb,
            native,
            out_mac,
            plain_mac,
        }
    }

    fn tool(&self) -> Tool<'_> {
        Tool {
            ns: &self.ns,
            pins: &self.pins,
        }
    }

    fn set_rules(&self, rules: &[&str], device: &str) {
        self.tool().run("rule del --all --if-exists").ok();
        for rule in rules {
            self.tool().ok(&format!(
                "rule add {rule} --mac 02:42:ac:11:00:02 --dev {device}"
            ));
        }
    }

    /// The packet as a redirect leaves it, with one hop less to go.
    fn redirected(
        &self,
        packet: &Frame,
        server: [u8; 4],
        device: &str,
        checksum: Checksum,
    ) -> Vec<u8> {
        let smac = if device == "out" {
            self.out_mac
        } else {
            self.plain_mac
        };
        Frame {
            dst: server.into(),
            dmac: BACKEND_MAC,
            smac,
            ttl: packet.ttl - 1,
            checksum,
            ..packet.clone()
        }
        .bytes()
    }
}

/// Runs a test where the program's devices are, as the program asks for their MTU.
fn on_bed(test: impl FnOnce(&Bed) + Send) {
    let bed = Bed::new();
    bed.ns.enter(|| test(&bed));
}

#[test]
fn every_packet_of_the_table_comes_out_as_it_must() {
    on_bed(|bed| {
        for case in cases() {
            bed.set_rules(case.rules, "out");
            let mut packet = case.packet.bytes();
            (case.mutate)(&mut packet);
            let (verdict, expected) = match case.out {
                Same => (XDP_PASS, packet.clone()),
                To(server, checksum) => (
                    XDP_REDIRECT,
                    bed.redirected(&case.packet, server, "out", checksum),
                ),
            };
            for (mode, program) in [("skb", &bed.skb), ("native", &bed.native)] {
                assert_eq!(
                    program.run(&packet),
                    (verdict, expected.clone()),
                    "{mode}: {}",
                    case.what
                );
            }
        }
    });
}

/// Each form of checksum that can arrive, and the form that the receiver needs.
/// As those of one client mostly are.
#[test]
fn flows_from_ports_in_a_row_are_shared_evenly() {
    const FLOWS: u16 = 1200;
    on_bed(|bed| {
        let servers = ["172.17.0.2", "172.17.0.3", "172.17.0.4"];
        let rules = servers.map(|server| format!("--server {server}"));
        bed.set_rules(&rules.each_ref().map(String::as_str), "out");
        let mut shares = [0.0; 3];
        for sport in 40_000..40_000 + FLOWS {
            let packet = Frame { sport, ..frame() };
            let (verdict, out) = bed.skb.run(&packet.bytes());
            assert_eq!(verdict, XDP_REDIRECT);
            shares[usize::from(out[33]) - 2] += 1.0;
        }
        let expected = f64::from(FLOWS) / 3.0;
        let squares = shares.map(|share: f64| (share - expected).powi(2) / expected);
        // Chi-squared with two degrees of freedom: more than that by chance once in three million times.
        assert!(squares.iter().sum::<f64>() < 30.0, "{shares:?}");
    });
}

#[test]
fn a_partial_checksum_is_completed_where_nobody_else_does() {
    on_bed(|bed| {
        let forms = [
            // device, what generic mode sends on, what native mode sends on
            ("out", Checksum::Partial, Checksum::Full),
            ("plain", Checksum::Full, Checksum::Full),
        ];
        for (device, in_skb, in_native) in forms {
            bed.set_rules(
                &["--server 172.17.0.2", "--proto tcp --server 172.17.0.2"],
                device,
            );
            for proto in [fixture::packet::UDP, TCP] {
                for len in (0..600).chain([1023, 1024, 1025, 1447, 1460]) {
                    let payload = (0..len).map(|i| (i * 7) as u8).collect();
                    let packet = Frame {
                        proto,
                        payload,
                        checksum: Checksum::Partial,
                        padding: len % 5,
                        ..frame()
                    };
                    for (program, form) in [(&bed.skb, in_skb), (&bed.native, in_native)] {
                        let expected = bed.redirected(&packet, [172, 17, 0, 2], device, form);
                        assert_eq!(
                            program.run(&packet.bytes()),
                            (XDP_REDIRECT, expected),
                            "{device} {proto} {len}"
                        );
                    }
                }
            }
        }
    });
}

/// A full checksum that equals the pseudo-header's sum looks like a partial one: one in 65,536.
#[test]
fn a_full_checksum_that_looks_partial_stays_full() {
    on_bed(|bed| {
        bed.set_rules(&["--server 172.17.0.2"], "out");
        let (packet, _) = (0..=u16::MAX)
            .map(|word| Frame {
                payload: word.to_be_bytes().to_vec(),
                ..frame()
            })
            .map(|full| {
                let partial = Frame {
                    checksum: Checksum::Partial,
                    ..full.clone()
                };
                (full.bytes() == partial.bytes(), full)
            })
            .find(|(same, _)| *same)
            .map(|(same, full)| (full, same))
            .expect("one of all 16-bit payloads has that checksum");
        let expected = bed.redirected(&packet, [172, 17, 0, 2], "out", Checksum::Full);
        for program in [&bed.skb, &bed.native] {
            assert_eq!(
                program.run(&packet.bytes()),
                (XDP_REDIRECT, expected.clone())
            );
        }
    });
}

/// The program remembers an MTU for one tick of the kernel's clock, 10 ms at most.
#[test]
fn an_egress_device_whose_mtu_changes_is_asked_again() {
    on_bed(|bed| {
        bed.set_rules(&["--server 172.17.0.2"], "out");
        let packet = Frame {
            payload: vec![1; 1400],
            fragment: 0, // one that its sender is not told of
            ..frame()
        };
        let too_long = packet.payload.len() + 28 - 1;
        for (mtu, expected) in [
            (1500, XDP_REDIRECT),
            (too_long, XDP_PASS),
            (too_long + 1, XDP_REDIRECT),
            (68, XDP_PASS),
            (65535, XDP_REDIRECT),
        ] {
            bed.ns.ip(&format!("link set out mtu {mtu}"));
            thread::sleep(Duration::from_millis(50));
            for program in [&bed.skb, &bed.native] {
                for _ in 0..3 {
                    assert_eq!(program.run(&packet.bytes()).0, expected, "MTU {mtu}");
                }
            }
        }
    });
}

/// Among all sums are those that come to zero, which UDP sends as 0xffff (RFC 768).
#[test]
fn every_sum_is_right() {
    on_bed(|bed| {
        bed.set_rules(&["--server 172.17.0.2"], "plain");
        for word in 0..=u16::MAX {
            let payload = word.to_be_bytes().to_vec();
            for checksum in [Checksum::Full, Checksum::Partial] {
                let packet = Frame {
                    payload: payload.clone(),
                    checksum,
                    ..frame()
                };
                let expected = bed.redirected(&packet, [172, 17, 0, 2], "plain", Checksum::Full);
                for program in [&bed.skb, &bed.native] {
                    assert_eq!(
                        program.run(&packet.bytes()),
                        (XDP_REDIRECT, expected.clone())
                    );
                }
            }
        }
    });
}

/// A wrong checksum must stay wrong, so that the receiver still finds the damage.
#[test]
fn a_wrong_checksum_is_not_made_right() {
    on_bed(|bed| {
        bed.set_rules(&["--server 172.17.0.2"], "out");
        let good = bed.redirected(&frame(), [172, 17, 0, 2], "out", Checksum::Full);
        let mut packet = frame().bytes();
        packet[40] ^= 0x10;
        for program in [&bed.skb, &bed.native] {
            let (verdict, out) = program.run(&packet);
            assert_eq!(verdict, XDP_REDIRECT);
            assert_ne!(out[40..42], good[40..42]);
        }
    });
}

/// Where they are in an untagged frame.
const TTL: usize = 22;
const HOP_LIMIT: usize = 21;

/// A packet that has reached its last hop passes, and the host's stack says so to its sender.
#[test]
fn each_redirect_is_a_hop_unless_the_ttl_is_to_be_kept() {
    on_bed(|bed| {
        for (option, kept) in [
            ("", false),
            ("--keep-ttl", true),
            ("--decrement-ttl", false),
        ] {
            for (server, place, packet) in [
                ("172.17.0.2", TTL, frame().bytes()),
                ("fd00::2", HOP_LIMIT, ipv6(&[])),
            ] {
                bed.set_rules(&[&format!("--server {server} {option}")], "out");
                for ttl in [255, 64, 2, 1, 0] {
                    let mut packet = packet.clone();
                    packet[place] = ttl;
                    let (verdict, left) = match ttl {
                        0 | 1 if !kept => (XDP_PASS, ttl),
                        _ if kept => (XDP_REDIRECT, ttl),
                        _ => (XDP_REDIRECT, ttl - 1),
                    };
                    for program in [&bed.skb, &bed.native] {
                        let (got, out) = program.run(&packet);
                        let what = format!("{server} {option}: {ttl}");
                        assert_eq!((got, out[place]), (verdict, left), "{what}");
                    }
                }
            }
        }
        let stats = bed.tool().json("stats");
        for interface in stats["interfaces"].as_array().unwrap() {
            let count = &interface["outcomes"]["ttl_exceeded"]["packets"];
            assert_eq!(*count, 8, "{stats}");
        }
    });
}

/// An IPv6 packet with these fragment headers, for port 7999, without a UDP checksum.
fn ipv6(fragment_headers: &[[u8; 8]]) -> Vec<u8> {
    let mut after = vec![44; fragment_headers.len()];
    after.push(17);
    let mut chain = fragment_headers.concat();
    for (header, next) in chain.chunks_mut(8).zip(&after[1..]) {
        header[0] = *next;
    }
    let udp = [0x9c, 0x40, 0x1f, 0x3f, 0, 16, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    let mut packet = [[2; 12].as_slice(), &[0x86, 0xdd, 0x60, 0, 0, 0, 0]].concat();
    packet.extend([(chain.len() + udp.len()) as u8, after[0], 64]);
    packet.extend([[0xfd; 16], [0x20; 16]].concat());
    packet.extend(chain);
    packet.extend(udp);
    packet
}

/// No sender makes two: neither RFC 8200, section 4.5, nor RFC 6946 knows of such a packet.
#[test]
fn an_ipv6_packet_with_two_fragment_headers_passes() {
    const ATOMIC: [u8; 8] = [0; 8];
    const FIRST: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 7];
    const LATER: [u8; 8] = [0, 0, 0, 16, 0, 0, 0, 7];
    on_bed(|bed| {
        bed.set_rules(&["--server fd00::2"], "out");
        let redirected = |packet: &[u8]| {
            let mut out = [&BACKEND_MAC, &bed.out_mac, &packet[12..]].concat();
            out[HOP_LIMIT] -= 1;
            out[38..54].copy_from_slice(&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
            (XDP_REDIRECT, out)
        };
        let one: [&[[u8; 8]]; 4] = [&[], &[ATOMIC], &[FIRST], &[LATER]];
        let two: [&[[u8; 8]]; 5] = [
            &[ATOMIC, ATOMIC],
            &[ATOMIC, FIRST],
            &[ATOMIC, LATER],
            &[FIRST, ATOMIC],
            &[FIRST, LATER],
        ];
        for program in [&bed.skb, &bed.native] {
            for headers in one {
                let packet = ipv6(headers);
                assert_eq!(program.run(&packet), redirected(&packet), "{headers:?}");
            }
            for headers in two {
                let packet = ipv6(headers);
                assert_eq!(program.run(&packet), (XDP_PASS, packet), "{headers:?}");
            }
        }
        let stats = bed.tool().json("stats");
        for interface in stats["interfaces"].as_array().unwrap() {
            let count = &interface["outcomes"]["extension_headers"]["packets"];
            assert_eq!(*count, two.len(), "{stats}");
        }
    });
}
