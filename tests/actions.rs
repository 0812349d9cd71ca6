//! Rules that forward, pass and drop, on single packets. Needs root.

mod fixture;

use fixture::packet::{Checksum, Frame};
use fixture::run::{Loaded, XDP_PASS, XDP_REDIRECT};
use fixture::{Ns, Pins, Tool};

struct Bed {
    ns: Ns,
    pins: Pins,
}

impl Bed {
    fn new(mode: &str) -> Bed {
        let (ns, pins) = (Ns::new("actions"), Pins::new());
        for device in ["in", "out"] {
            ns.ip(&format!("link add {device} type veth peer name p{device}"));
            ns.ip(&format!("link set {device} up"));
            ns.ip(&format!("link set p{device} up"));
        }
        let bed = Bed { ns, pins };
        bed.tool().ok(&format!("attach in --mode {mode}"));
        bed
    }

    fn tool(&self) -> Tool<'_> {
        Tool {
            ns: &self.ns,
            pins: &self.pins,
        }
    }

    fn run(&self, packet: &[u8]) -> (u32, Vec<u8>) {
        let program = Loaded::on(&self.tool().json("status"), "in");
        let ifindex = self.ns.ifindex("in");
        self.ns.enter(|| program.run_at(ifindex, packet))
    }
}

/// In generic mode the skb goes on saying that the checksum is partial.
#[test]
fn a_partial_checksum_is_left_to_a_device_that_completes_it() {
    let frame = |checksum| {
        let frame = Frame {
            checksum,
            ..Frame::default()
        };
        frame.bytes()
    };
    let (partial, full) = (frame(Checksum::Partial), frame(Checksum::Full));
    assert_ne!(partial, full);
    for (mode, offload, expected) in [
        ("skb", "on", &partial),
        ("skb", "off", &full),
        ("native", "on", &full),
    ] {
        let bed = Bed::new(mode);
        bed.ns.exec(&format!("ethtool -K out tx {offload}"));
        bed.tool().ok("rule add --proto any --forward out");
        let out = bed.run(&partial);
        assert_eq!(out, (XDP_REDIRECT, expected.clone()), "{mode}, {offload}");
    }
}

#[test]
fn a_frame_is_never_forwarded_to_where_it_arrived() {
    let frame = Frame::default().bytes();
    for mode in ["skb", "native"] {
        let bed = Bed::new(mode);
        bed.tool().ok("rule add --proto any --forward in");
        assert_eq!(bed.run(&frame), (XDP_PASS, frame.clone()), "{mode}");
        let stats = bed.tool().json("stats");
        let outcomes = &stats["interfaces"][0]["outcomes"];
        assert_eq!(outcomes["no_device"]["packets"], 1, "{mode}: {outcomes}");
        assert_eq!(stats["rules"][0]["forward_packages"], 0);
    }
}

/// It is not the policy's: a rule matched it.
#[test]
fn a_frame_with_two_tags_that_its_rule_cannot_send_passes_whatever_the_policy_is() {
    let mut frame = Frame::default().bytes();
    frame.splice(12..12, [0x81, 0, 0, 5, 0x81, 0, 0, 7]);
    let bed = Bed::new("native");
    bed.tool().ok("policy in drop");
    bed.tool().ok(
        "rule add --vlan 5 --port 7999 --server 172.17.0.2 --mac 02:42:ac:11:00:02 --dev out --pop-vlan",
    );
    assert_eq!(bed.run(&frame), (XDP_PASS, frame.clone()));
}
