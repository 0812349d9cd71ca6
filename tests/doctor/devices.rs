//! Devices that are gone, replaced, or unable to take what is redirected.

use super::bed::{Bed, OTHER_MAC, SERVER, assert_finding, no_datagrams_together};
use crate::fixture::guest;
use crate::fixture::lan::Lan;
use crate::fixture::tap::Tap;

#[test]
fn an_attached_device_that_is_gone_is_named_and_its_rules_are_kept() {
    let bed = Bed::new("skb");
    bed.host().ip("link del lan");
    bed.paste(&bed.finds("interface", "problem", &["is gone"]));
    assert_eq!(bed.backend()["server"], SERVER);
    bed.finds_nothing();
}

#[test]
fn an_attached_device_that_was_replaced_is_named() {
    let bed = Bed::new("skb");
    bed.host().ip("link del lan");
    bed.host().veth("lan", &bed.lan.vm, "eth0");
    no_datagrams_together(&bed.lan.vm);
    let now = format!("ifindex {}", bed.host().ifindex("lan"));
    let finding = bed.finds("interface", "problem", &["is another one now", &now]);
    bed.paste(&finding);
    assert_eq!(bed.tool().json("status")["interfaces"][0]["mode"], "skb");
    bed.finds_nothing();
}

#[test]
fn an_egress_device_whose_index_another_one_has_now_is_named() {
    let bed = Bed::new("skb");
    let index = bed.host().ifindex("wan0");
    bed.host().ip("link del wan0");
    bed.host().ip(&format!(
        "link add other0 index {index} type veth peer name p0"
    ));
    bed.host().ip("link set other0 up");
    assert!(!bed.arrives());
    bed.finds("device", "problem", &["is another one now", "other0"]);
}

#[test]
fn mtus_that_are_too_small_are_told_apart() {
    let bed = Bed::new("native");
    bed.host().ip("link set wan0 mtu 1400");
    bed.finds("mtu", "problem", &["1400", "lan 1500"]);
    bed.host().ip("link set wan0 mtu 1500");
    bed.server().ip("link set eth0 mtu 1300");
    bed.finds("peer-mtu", "problem", &["1500", "1300", "eth0 in"]);
    bed.server().ip("link set eth0 mtu 1500");
    bed.finds_nothing();
}

#[test]
fn an_egress_device_that_takes_no_native_redirect_is_named() {
    let bed = Bed::new("native");
    bed.host().ip("link add br9 type bridge");
    bed.host().ip("link set br9 up");
    let run = bed.tool().ok(&format!(
        "rule add --port 1 --server 172.17.0.9 --mac {OTHER_MAC} --dev br9"
    ));
    assert!(run.err.contains("NDO_XMIT"), "{run:?}");
    let found = bed.findings();
    assert_finding(
        &found[0],
        "redirect-target",
        "problem",
        &["bridge", "NDO_XMIT"],
    );
    bed.paste(&found[0]);
    assert_eq!(bed.tool().json("status")["interfaces"][0]["mode"], "skb");
    assert_eq!(bed.tool().json("status")["rules"], 2);
}

#[test]
fn a_device_that_takes_no_frames_in_several_buffers_is_a_problem() {
    guest::needs_kernel(6, 3, "native redirects of frames in several buffers");
    let lan = Lan::new(false, 0);
    lan.host.ip("link set lan mtu 9000");
    lan.vm.ip("link set eth0 mtu 9000");
    let _reader = Tap::new(&lan.host, "tap0", false);
    lan.host.ip("link set tap0 mtu 9000");
    let tool = lan.tool();
    tool.ok("attach lan --mode native");
    let rule = format!("rule add --server {SERVER} --mac 02:00:00:00:00:01 --dev tap0");
    assert!(tool.ok(&rule).err.contains("NDO_XMIT_SG"));
    let bed = Bed::of(lan);
    bed.finds("multi-buffer", "problem", &["several buffers"]);

    bed.tool().ok("detach lan --keep-rules");
    bed.host().ip("link set lan mtu 1500");
    bed.lan.vm.ip("link set eth0 mtu 1500");
    bed.host().ip("link set tap0 mtu 1500");
    bed.tool().ok("attach lan --mode native");
    bed.finds_nothing();
}
