//! XDP programs of others in the way, and ours taken off.

#![expect(unsafe_code, reason = "calls that have no safe form")]

use super::bed::{Bed, SERVER};
use crate::fixture::Ns;
use crate::fixture::lan::Lan;
use libbpf_rs::libbpf_sys;

/// Loads a program that drops everything, and puts it on a device, natively.
fn drop_all(ns: &Ns, device: &str) {
    drop_all_in(ns, device, libbpf_sys::XDP_FLAGS_DRV_MODE);
}

pub fn drop_all_in(ns: &Ns, device: &str, mode: u32) {
    // r0 = XDP_DROP; exit
    let program = [[0xb7, 0, 0, 0, 1, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0u8]];
    // SAFETY: the instructions, name and licence outlive the call, which reads as many as are told.
    let fd = unsafe {
        libbpf_sys::bpf_prog_load(
            libbpf_sys::BPF_PROG_TYPE_XDP,
            c"stranger".as_ptr(),
            c"GPL".as_ptr(),
            program.as_ptr().cast(),
            program.len() as libbpf_sys::size_t,
            std::ptr::null_mut(),
        )
    };
    assert!(fd > 0, "the kernel takes the program: {fd}");
    let ifindex = ns.ifindex(device) as i32;
    // SAFETY: no options.
    let attach = || unsafe { libbpf_sys::bpf_xdp_attach(ifindex, fd, mode, std::ptr::null()) };
    assert_eq!(ns.enter(attach), 0);
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
    drop_all_in(&lan.host, "virbr0", libbpf_sys::XDP_FLAGS_SKB_MODE);
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
