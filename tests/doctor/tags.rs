//! VLAN tags that the program sees or does not see.

use std::os::fd::OwnedFd;

use super::bed::{Bed, SERVER};
use crate::fixture::foreign::{Foreign, TC};
use crate::fixture::lan::{Lan, mac};
use crate::fixture::packet::{Checksum, Frame};
use crate::fixture::tap::Tap;
use crate::fixture::{Ns, guest};
use libbpf_rs::libbpf_sys;

/// Puts all that leaves by a device in a VLAN, as a VLAN device above it does, while it is open.
fn tag_all(ns: &Ns, device: &str, vlan: i32) -> OwnedFd {
    // r2 = 802.1Q in network order; r3 = vlan; bpf_skb_vlan_push(r1, r2, r3); r0 = TCX_PASS; exit
    let instruction = |code: u8, register: u8, value: i32| {
        let mut bytes = [code, register, 0, 0, 0, 0, 0, 0];
        bytes[4..].copy_from_slice(&value.to_ne_bytes());
        bytes
    };
    let program = [
        instruction(0xb7, 2, 0x8100u16.to_be().into()),
        instruction(0xb7, 3, vlan),
        instruction(0x85, 0, libbpf_sys::BPF_FUNC_skb_vlan_push as i32),
        instruction(0xb7, 0, 0),
        instruction(0x95, 0, 0),
    ];
    Foreign::load("tag_all", &program, TC).at_tcx(ns, device, libbpf_sys::BPF_TCX_EGRESS)
}

/// Without asking, in a VLAN where nobody answers.
fn knows_its_router(bed: &Bed, device: &str) {
    let mac = mac(bed.host(), device);
    let neighbour = format!("neigh add 192.168.122.1 lladdr {mac} dev eth0");
    bed.lan.vm.ip(&neighbour);
}

#[test]
fn a_rule_for_a_vlan_whose_tags_travel_beside_the_frames_is_a_problem() {
    guest::needs_kernel(6, 6, "tcx");
    for mode in ["native", "skb"] {
        let bed = Bed::bare();
        knows_its_router(&bed, "lan");
        let _tagged = tag_all(&bed.lan.vm, "eth0", 7);
        bed.tool().ok(&format!("attach lan --mode {mode}"));
        // A rule for what has no tag takes what has one.
        bed.tool().ok(&format!("rule add --server {SERVER}"));
        bed.finds_nothing();
        bed.arrives();
        assert_eq!(bed.backend()["forward_packages"], 1);
        bed.tool().ok("rule del --all");

        let rule = format!("rule add --vlan 7 --server {SERVER} --pop-vlan");
        let run = bed.tool().ok(&rule);
        assert!(run.err.contains("txvlan is on"), "{run:?}");
        assert!(!bed.arrives());
        let words = ["eth0 in", &bed.lan.vm.name, "beside the frames"];
        let finding = bed.finds("vlan-offload", "problem", &words);
        assert_eq!(finding["subject"], "lan");
        // Its own feature changes nothing.
        bed.host().exec("ethtool -K lan rxvlan off");
        assert!(!bed.arrives());
        bed.finds("vlan-offload", "problem", &words);
        bed.paste(&finding);
        assert!(bed.arrives(), "{mode}");
        bed.finds_nothing();
    }
}

#[test]
fn a_bridge_and_a_macvlan_show_no_tags_and_a_tap_shows_them() {
    guest::needs_kernel(6, 6, "tcx");
    let lan = Lan::new(true, 1);
    let bed = Bed::of(lan);
    bed.host().ip("addr add 172.17.0.1/16 dev wan0");
    bed.host().sysctl("net/ipv4/ip_forward", "1");
    bed.server().ip("route add default via 172.17.0.1");
    knows_its_router(&bed, "virbr0");
    bed.lan.vm.exec("ethtool -K eth0 txvlan off");
    let _tagged = tag_all(&bed.lan.vm, "eth0", 7);
    bed.tool().ok("attach virbr0");
    bed.tool()
        .ok(&format!("rule add --vlan 7 --server {SERVER} --pop-vlan"));
    assert!(!bed.arrives());
    bed.finds("vlan-offload", "problem", &["a bridge"]);
    bed.tool().ok("detach virbr0 --keep-rules");
    bed.tool().ok("attach lan virbr0");
    assert!(bed.arrives());
    // Where one of two shows them.
    bed.finds("vlan-offload", "warning", &["a bridge"]);
    bed.tool().ok("detach virbr0");
    bed.finds_nothing();

    bed.host().ip("link add mv0 link wan0 type macvlan");
    bed.host().ip("link set mv0 up");
    bed.tool().ok("attach mv0");
    bed.finds("vlan-offload", "warning", &["a macvlan"]);
    bed.tool().ok("detach mv0");

    let mut tap = Tap::new(bed.host(), "tap0", false);
    for mode in ["native", "skb"] {
        bed.tool().ok(&format!("attach tap0 --mode {mode}"));
        bed.finds_nothing();
        let before = bed.backend()["forward_packages"].as_u64().unwrap();
        let mut frame = Frame {
            dmac: bed.host().mac("tap0"),
            ..Frame::default()
        }
        .bytes();
        frame.splice(12..12, [0x81, 0, 0, 7]);
        tap.write(&frame, Checksum::Full);
        let after = bed.backend()["forward_packages"].as_u64().unwrap();
        assert_eq!(after, before + 1, "{mode}");
        bed.tool().ok("detach tap0");
    }
}

/// It is what auto takes there, whatever keeps native mode away.
#[test]
fn a_tap_in_skb_mode_is_as_it_should_be() {
    let bed = Bed::bare();
    let _tap = Tap::new(bed.host(), "tap0", false);
    bed.host().ip("link set tap0 mtu 9000");
    bed.tool().ok("attach tap0");
    bed.finds_nothing();
}
