//! Frames with two VLAN tags: which rules take them, and what is left of the tags.

mod fixture;

use fixture::packet::Frame;
use fixture::run::{Loaded, XDP_PASS, XDP_REDIRECT};
use fixture::{Ns, Pins, Tool};

/// 802.1ad, priority 3, VLAN 5.
const OUTER: [u8; 4] = [0x88, 0xa8, 0x60, 5];
/// 802.1Q, priority 1, VLAN 7.
const INNER: [u8; 4] = [0x81, 0, 0x20, 7];
const MAC: [u8; 6] = [2, 0x42, 0xac, 0x11, 0, 2];

fn tagged(frame: &[u8], tags: &[[u8; 4]]) -> Vec<u8> {
    [&frame[..12], &tags.concat(), &frame[12..]].concat()
}

struct Bed {
    ns: Ns,
    pins: Pins,
}

impl Bed {
    fn new() -> Bed {
        let (ns, pins) = (Ns::new("tags"), Pins::new());
        for device in ["in0", "in1", "out"] {
            ns.ip(&format!("link add {device} type veth peer name p{device}"));
            ns.ip(&format!("link set {device} up"));
            ns.ip(&format!("link set p{device} up"));
        }
        let bed = Bed { ns, pins };
        bed.tool().ok("attach in0 --mode skb");
        bed.tool().ok("attach in1 --mode native");
        bed
    }

    fn tool(&self) -> Tool<'_> {
        Tool {
            ns: &self.ns,
            pins: &self.pins,
        }
    }

    fn set_rule(&self, words: &str) {
        self.tool().run("rule del --all --if-exists").ok();
        self.tool().ok(&format!(
            "rule add --server 172.17.0.2 --mac 02:42:ac:11:00:02 --dev out --keep-ip --keep-ttl {words}"
        ));
    }

    /// What becomes of a frame with both tags, in both modes: the tags that it leaves with.
    fn assert_leaves(&self, words: &str, tags: Option<&[[u8; 4]]>) {
        let plain = Frame::default().bytes();
        let came = tagged(&plain, &[OUTER, INNER]);
        let status = self.tool().json("status");
        for name in ["in0", "in1"] {
            let out = self.ns.enter(|| Loaded::on(&status, name).run(&came));
            let expected = match tags {
                None => (XDP_PASS, came.clone()),
                Some(tags) => {
                    let sent = [&MAC, &self.ns.mac("out"), &plain[12..]].concat();
                    (XDP_REDIRECT, tagged(&sent, tags))
                }
            };
            assert_eq!(out, expected, "{name} {words}");
        }
    }
}

/// A tag with another VLAN in it.
fn with_vlan(mut tag: [u8; 4], vlan: u8) -> [u8; 4] {
    tag[3] = vlan;
    tag
}

#[test]
fn a_rule_that_names_both_tags_takes_away_as_many_as_it_says() {
    let bed = Bed::new();
    let in_nine: [&[[u8; 4]]; 3] = [
        &[[0x81, 0, 0, 9], OUTER, INNER],
        &[with_vlan(OUTER, 9), INNER],
        &[with_vlan(INNER, 9)],
    ];
    for (words, tags) in [
        ("", &[OUTER, INNER][..]),
        ("--pop-vlan", &[INNER]),
        ("--pop-vlan --pop-vlan", &[]),
        ("--push-vlan 9", in_nine[0]),
        ("--pop-vlan --push-vlan 9", in_nine[1]),
        ("--pop-vlan --pop-vlan --push-vlan 9", in_nine[2]),
    ] {
        bed.set_rule(&format!("--vlan 5 --inner-vlan 7 {words}"));
        bed.assert_leaves(words, Some(tags));
    }
    bed.set_rule("--vlan 5 --inner-vlan 8");
    bed.assert_leaves("another inner tag", None);
}

/// Otherwise the inner tag would go along, and the server drop the frame.
#[test]
fn a_rule_that_names_the_outer_tag_alone_sends_both_or_neither() {
    let bed = Bed::new();
    bed.set_rule("--vlan 5");
    bed.assert_leaves("both", Some(&[OUTER, INNER]));
    for words in ["--pop-vlan", "--pop-vlan --pop-vlan"] {
        bed.set_rule(&format!("--vlan 5 {words}"));
        bed.assert_leaves(words, None);
    }
    for interface in bed.tool().json("stats")["interfaces"].as_array().unwrap() {
        let passed = &interface["outcomes"]["too_many_tags"]["packets"];
        assert_eq!(*passed, 2, "{interface}");
    }
}
