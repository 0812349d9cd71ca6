//! XDP programs of others in the way, and ours taken off.

#![expect(unsafe_code, reason = "calls that have no safe form")]

use super::bed::{Bed, SERVER};
use crate::fixture::Ns;
use crate::fixture::foreign::{Foreign, XDP};
use crate::fixture::lan::Lan;
use crate::fixture::run::XDP_DROP;
use libbpf_rs::libbpf_sys;

/// Puts a program that drops everything on a device, natively.
fn drop_all(ns: &Ns, device: &str) {
    drop_all_in(ns, device, "native");
}

pub fn drop_all_in(ns: &Ns, device: &str, mode: &str) {
    Foreign::returning("stranger", XDP_DROP as i32, XDP).attach(ns, device, mode);
}

#[test]
fn another_program_at_the_peer_is_a_warning() {
    for mode in ["native", "skb"] {
        let bed = Bed::new(mode);
        drop_all(bed.server(), "eth0");
        assert!(!bed.arrives());
        bed.finds("foreign-program", "warning", &["stranger", "eth0 in"]);
    }
}

#[test]
fn another_program_below_an_attached_bridge_is_a_warning() {
    let lan = Lan::new(true, 1);
    let bed = Bed::of(lan);
    bed.host().ip("addr add 172.17.0.1/16 dev wan0");
    bed.host().sysctl("net/ipv4/ip_forward", "1");
    bed.server().ip("route add default via 172.17.0.1");
    // The kernel takes none at a port of a bridge that has one.
    drop_all(bed.host(), "lan");
    let run = bed.tool().ok("attach virbr0");
    assert!(run.err.contains("stranger"), "{run:?}");
    bed.tool().ok(&format!("rule add --server {SERVER}"));
    assert!(!bed.arrives());
    let finding = bed.finds("foreign-program", "warning", &["lan", "stranger"]);
    assert_eq!(finding["subject"], "virbr0");
    // Ours at the port, in its place, is no stranger.
    bed.tool().ok("detach virbr0 --keep-rules");
    bed.host().ip("link set lan xdp off");
    bed.tool().ok("attach lan virbr0");
    assert!(bed.arrives());
    bed.finds_nothing();
}

#[test]
fn another_program_above_a_port_is_named_by_the_refusal() {
    let lan = Lan::new(true, 0);
    drop_all_in(&lan.host, "virbr0", "skb");
    let run = lan.tool().run("attach lan");
    run.fails(
        4,
        &["lan: ", "virbr0 above it", "stranger", "detach that first"],
    );
}

#[test]
fn a_program_that_was_taken_off_by_force_is_missed() {
    let bed = Bed::new("skb");
    let links = bed.tool().json("status");
    let id = links["interfaces"][0]["link_id"].as_u64().unwrap() as u32;
    // SAFETY: takes no pointer.
    let fd = unsafe { libbpf_sys::bpf_link_get_fd_by_id(id) };
    // SAFETY: the descriptor is open.
    assert_eq!(unsafe { libbpf_sys::bpf_link_detach(fd) }, 0);
    let finding = bed.finds("interface", "problem", &["detached our program"]);
    drop_all(bed.host(), "lan");
    bed.paste(&bed.finds("interface", "problem", &["stranger", "in place of ours"]));
    bed.finds_nothing();
    bed.paste(&finding);
    assert!(bed.arrives());
}
