//! Devices that are down or have no carrier.

use super::bed::{Bed, CLIENT, OTHER_MAC, SERVER, assert_finding, is_up};

#[test]
fn a_link_that_is_down_at_either_end_is_set_up_and_down_again() {
    for mode in ["native", "skb"] {
        let bed = Bed::new(mode);
        for (ns, device, words) in [
            (bed.host(), "wan0", "it is down"),
            (bed.server(), "eth0", "its peer eth0 in"),
        ] {
            // A device that goes down loses its routes.
            ns.ip(&format!("link set {device} down"));
            let found = bed.findings();
            assert_finding(&found[0], "link", "problem", &[words]);
            bed.fix();
            assert!(is_up(ns, device));
            bed.tool().ok("doctor --undo");
            assert!(!is_up(ns, device));
            bed.fix();
            assert!(bed.arrives(), "{mode} {device}");
            bed.tool().ok("doctor --undo");
            ns.ip(&format!("link set {device} up"));
            if device == "eth0" {
                ns.ip("route add default via 172.17.0.1");
            }
        }
    }
}

#[test]
fn an_attached_interface_without_a_link_is_mended_at_either_end() {
    for mode in ["native", "skb"] {
        let bed = Bed::new(mode);
        let vm = &bed.lan.vm;
        for (ns, device, words) in [
            (bed.host(), "lan", "it is down"),
            (vm, "eth0", "its peer eth0 in"),
        ] {
            ns.ip(&format!("link set {device} down"));
            assert!(!bed.arrives());
            let finding = bed.finds("link", "problem", &[words]);
            assert_eq!(finding["subject"], "lan");
            assert_eq!(finding["consequence"], "nothing arrives there");
            bed.fix();
            vm.ip("route replace default via 192.168.122.1");
            assert!(bed.arrives(), "{mode} {device}");
            bed.tool().ok("doctor --undo");
            assert!(!is_up(ns, device));
            ns.ip(&format!("link set {device} up"));
        }
    }
}

#[test]
fn a_device_that_is_both_interface_and_egress_is_said_once_to_be_down() {
    let bed = Bed::new("skb");
    bed.tool().ok("attach wan0 --mode skb");
    bed.host().ip("link set wan0 down");
    let found = bed.findings();
    let links = found.iter().filter(|finding| finding["check"] == "link");
    let links: Vec<_> = links.collect();
    assert_eq!(links.len(), 1, "{found:#?}");
    assert_eq!(links[0]["consequence"], "what is redirected to it is lost");
}

#[test]
fn a_tap_without_a_reader_has_no_link() {
    let bed = Bed::new("skb");
    bed.host().ip("tuntap add tap0 mode tap");
    bed.host().ip("link set tap0 up");
    let words = format!("rule add --port 1 --server 172.17.0.9 --mac {OTHER_MAC} --dev tap0");
    bed.tool().ok(&words);
    bed.finds("link", "problem", &["no link"]);
}

/// A VM that is off is no fault.
#[test]
fn an_attached_tap_without_a_reader_is_a_warning() {
    let bed = Bed::new("skb");
    bed.host().ip("tuntap add tap0 mode tap");
    bed.host().ip("link set tap0 up");
    bed.tool().ok("attach tap0 --mode skb");
    bed.finds("link", "warning", &["no link"]);
}

#[test]
fn frames_that_were_lost_at_a_link_that_was_down_are_history() {
    let bed = Bed::new("native");
    bed.server().ip("link set eth0 down");
    assert!(!bed.arrives());
    let found = bed.findings();
    assert_finding(&found[1], "losses", "warning", &["is down"]);
    assert!(found[1]["mend"].as_str().unwrap().contains(" dev eth0 up`"));
    bed.paste(&found[0]);
    bed.server().ip("route add default via 172.17.0.1");
    bed.finds_history("is down");
    // As it says, the count starts again.
    bed.tool().ok("rule del --all");
    bed.tool()
        .ok(&format!("rule add --src {CLIENT} --server {SERVER}"));
    bed.finds_nothing();
}
