//! Frames with two VLAN tags: which rules take them, and what is left of the tags.

use crate::fixture::packet::Frame;
use crate::fixture::run::{XDP_PASS, XDP_REDIRECT};
use crate::fixture::two_modes::TwoModes;

/// 802.1ad, priority 3, VLAN 5.
const OUTER: [u8; 4] = [0x88, 0xa8, 0x60, 5];
/// 802.1Q, priority 1, VLAN 7.
const INNER: [u8; 4] = [0x81, 0, 0x20, 7];
const MAC: [u8; 6] = [2, 0x42, 0xac, 0x11, 0, 2];

fn tagged(frame: &[u8], tags: &[[u8; 4]]) -> Vec<u8> {
    [&frame[..12], &tags.concat(), &frame[12..]].concat()
}

fn set_rule(bed: &TwoModes, words: &str) {
    bed.tool().run("rule del --all --if-exists").ok();
    bed.add_rule(&format!("--server 172.17.0.2 --keep-ip --keep-ttl {words}"));
}

/// What becomes of a frame with both tags, in both modes: the tags that it leaves with.
fn assert_leaves(bed: &TwoModes, words: &str, tags: Option<&[[u8; 4]]>) {
    let plain = Frame::default().bytes();
    let came = tagged(&plain, &[OUTER, INNER]);
    for (program, name) in bed.programs().iter().zip(["in0", "in1"]) {
        let out = bed.host.ns.enter(|| program.run(&came));
        let expected = match tags {
            None => (XDP_PASS, came.clone()),
            Some(tags) => {
                let sent = [&MAC, &bed.host.ns.mac("out"), &plain[12..]].concat();
                (XDP_REDIRECT, tagged(&sent, tags))
            }
        };
        assert_eq!(out, expected, "{name} {words}");
    }
}

/// A tag with another VLAN in it.
fn with_vlan(mut tag: [u8; 4], vlan: u8) -> [u8; 4] {
    tag[3] = vlan;
    tag
}

#[test]
fn a_rule_that_names_both_tags_takes_away_as_many_as_it_says() {
    let bed = TwoModes::new();
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
        set_rule(&bed, &format!("--vlan 5 --inner-vlan 7 {words}"));
        assert_leaves(&bed, words, Some(tags));
    }
    set_rule(&bed, "--vlan 5 --inner-vlan 8");
    assert_leaves(&bed, "another inner tag", None);
}

/// Otherwise the inner tag would go along, and the server drop the frame.
#[test]
fn a_rule_that_names_the_outer_tag_alone_sends_both_or_neither() {
    let bed = TwoModes::new();
    set_rule(&bed, "--vlan 5");
    assert_leaves(&bed, "both", Some(&[OUTER, INNER]));
    for words in ["--pop-vlan", "--pop-vlan --pop-vlan"] {
        set_rule(&bed, &format!("--vlan 5 {words}"));
        assert_leaves(&bed, words, None);
    }
    assert_eq!(bed.counted("too_many_tags"), [2; 2]);
}
