//! A veth whose peer has no GRO, and only datagrams to take: a program there that passes all.

use std::io::Read;

use super::bed::{Bed, SERVER, assert_finding};
use super::fix;
use super::foreign_program::drop_all_in;
use crate::fixture::lan::ANYWHERE;
use crate::fixture::{guest, kill};

#[test]
fn frames_arrive_by_a_pass_program_and_no_longer_once_it_is_taken_back() {
    let bed = Bed::new("native");
    bed.gro_off();
    assert!(!bed.arrives());
    let found = bed.findings();
    assert_finding(&found[0], "peer-napi", "problem", &["neither GRO"]);
    assert_eq!(found[0]["fixable"], true);
    let mend = found[0]["mend"].as_str().expect("a text");
    assert!(mend.contains("gro on`, or, faster for datagrams"), "{mend}");

    let out = bed.fix();
    let said = format!(
        "fixed: pass program on eth0 in /run/netns/{}",
        bed.server().name
    );
    assert!(out.contains(&said), "{out}");
    assert!(bed.arrives() && !bed.gro());
    assert_eq!(bed.program().as_deref(), Some("xdpredir_pass (native)"));
    let features = bed.tool().ok("features wan0").out;
    assert!(
        features.contains("GRO off, a native XDP program"),
        "{features}"
    );
    // It is neither another one's, nor does it redirect.
    bed.finds_history("takes no redirected");

    let run = bed.tool().ok("doctor --undo");
    assert!(
        run.out.contains("reverted: no pass program on eth0 in"),
        "{run:?}"
    );
    assert_eq!(bed.program(), None);
    assert!(!bed.arrives());
    assert_eq!(bed.tool().ok("doctor --undo").out, "nothing to undo\n");
}

#[test]
fn large_frames_arrive_by_a_pass_program_too() {
    guest::needs_kernel(6, 3, "frames in several buffers");
    let bed = Bed::bare();
    bed.gro_off();
    for (ns, device) in [
        (&bed.lan.vm, "eth0"),
        (bed.host(), "lan"),
        (bed.host(), "wan0"),
        (bed.server(), "eth0"),
    ] {
        ns.ip(&format!("link set {device} mtu 9000"));
    }
    bed.tool().ok("attach lan --mode native");
    bed.tool().ok(&format!("rule add --server {SERVER}"));
    bed.fix();
    let to = bed.lan.server_socket(0);
    let from = bed.lan.vm_socket();
    from.send_to(&[7; 8000], ANYWHERE).expect("it is sent");
    assert_eq!(to.recv(&mut [0; 9000]).expect("it arrives"), 8000);
}

#[test]
fn for_tcp_gro_is_offered_in_its_place() {
    let bed = Bed::new("native");
    bed.gro_off();
    bed.tcp_too();
    let found = bed.findings();
    let mend = found[0]["mend"].as_str().expect("a text");
    assert!(!mend.contains("datagrams"), "{mend}");
    bed.fix();
    assert!(bed.gro() && bed.program().is_none());
}

#[test]
fn where_another_program_is_none_is_offered() {
    let bed = Bed::new("native");
    bed.gro_off();
    drop_all_in(bed.server(), "eth0", "skb");
    let found = bed.findings();
    assert_finding(&found[0], "peer-napi", "problem", &["neither GRO"]);
    bed.fix();
    assert!(bed.gro());
    assert_eq!(bed.program().as_deref(), Some("stranger (skb)"));
}

/// Should one come in between.
#[test]
fn a_program_that_is_there_by_now_stays() {
    let bed = Bed::new("native");
    bed.gro_off();
    let mut child = fix::ask(&bed);
    let (mut shown, out) = (Vec::new(), child.stdout.as_mut().expect("a pipe"));
    while !String::from_utf8_lossy(&shown).contains("[y/N]") {
        let mut buffer = [0; 4096];
        let size = out.read(&mut buffer).expect("it says something");
        assert_ne!(size, 0, "{}", String::from_utf8_lossy(&shown));
        shown.extend(&buffer[..size]);
    }
    drop_all_in(bed.server(), "eth0", "skb");
    let said = fix::answer(child, "y").out;
    assert!(said.contains("takes no pass program"), "{said}");
    assert_eq!(bed.program().as_deref(), Some("stranger (skb)"));
    bed.tool().ok("doctor --undo");
    assert_eq!(bed.program().as_deref(), Some("stranger (skb)"));
}

#[test]
fn with_the_last_interface_it_goes_but_not_with_rules_that_are_kept() {
    let bed = Bed::new("native");
    bed.gro_off();
    bed.fix();
    bed.tool().ok("detach --all --keep-rules");
    assert!(bed.program().is_some());
    bed.tool().ok("attach lan --mode native");
    assert!(bed.arrives());
    let run = bed.tool().ok("detach --all");
    assert!(run.out.contains("reverted: no pass program"), "{run:?}");
    assert_eq!(bed.program(), None);
    assert!(bed.lan.pins.left().is_empty());
}

#[test]
fn a_container_that_restarts_gets_another_one() {
    let mut bed = Bed::new("native");
    bed.gro_off();
    bed.fix();
    bed.restart_server("wan0");
    bed.host().ip("addr add 172.17.0.1/16 dev wan0");
    // The device comes first; that its peer does not poll shows then.
    bed.tool().run("doctor --fix --yes");
    bed.fix();
    assert!(bed.program().is_some() && bed.arrives());
    bed.tool().ok("detach --all");
    assert_eq!(bed.program(), None);
    assert!(bed.lan.pins.left().is_empty());
}

#[test]
fn killed_at_any_instant_it_can_be_undone() {
    let bed = Bed::new("native");
    bed.gro_off();
    let (mut n, mut fixed) = (0, 0);
    while kill::before_change(&mut bed.tool().command("doctor --fix --yes"), n) {
        fixed += usize::from(bed.program().is_some());
        let undo = bed.tool().ok("doctor --undo");
        assert!(undo.err.is_empty(), "{n}: {undo:?}");
        assert_eq!(bed.program(), None, "{n}");
        n += 1;
    }
    assert!(fixed > 0, "no run came far enough");
    bed.tool().ok("detach --all");
    assert!(bed.lan.pins.left().is_empty());
}
