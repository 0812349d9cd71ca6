//! `doctor --undo` and the last `detach` take back what `--fix` has changed.

use super::bed::{Bed, OTHER_MAC, is_up};
use crate::fixture::kill;
use crate::fixture::run::pinned;
use crate::fixture::{BINARY, Run, command};
use libbpf_rs::{MapCore, MapFlags};

#[test]
fn detaching_the_last_interface_puts_back_and_leaves_nothing() {
    let bed = Bed::new("native");
    bed.tool().ok("attach wan0 --mode skb");
    bed.gro_off();
    bed.tcp_too();
    bed.fix();
    bed.tool().ok("detach wan0");
    assert!(bed.gro());
    // Rules that are kept need what was fixed for them.
    bed.tool().ok("detach --all --keep-rules");
    assert!(bed.gro());
    bed.tool().ok("attach lan --mode native");
    assert!(bed.arrives());
    let run = bed.tool().ok("detach --all");
    assert!(run.out.contains("reverted: GRO off"), "{run:?}");
    assert!(!bed.gro());
    assert!(bed.lan.pins.left().is_empty());
}

#[test]
fn an_entry_that_cannot_be_read_hides_no_other_and_keeps_nobody_from_detaching() {
    let bed = Bed::new("native");
    bed.gro_off();
    bed.tcp_too();
    bed.fix();
    let journal = pinned(&bed.lan.pins, "journal/journal");
    let rubbish = vec![b'?'; journal.value_size() as usize];
    let number = 7u32.to_ne_bytes();
    journal
        .update(&number, &rubbish, MapFlags::ANY)
        .expect("it is written");
    drop(journal);

    let run = bed.tool().run("doctor --undo");
    let run = run.fails(1, &["change 7", "cannot understand"]);
    assert!(run.out.contains("reverted: GRO off at eth0"), "{run:?}");
    assert!(!bed.gro());
    bed.fix();
    assert!(bed.gro());
    let run = bed.tool().run("detach --all --json");
    let run = run.fails(1, &["change 7", "cannot understand"]);
    let done = run.json();
    assert_eq!(done["detached"][0], "lan");
    let undone = done["undone"].as_array().expect("a list");
    assert_eq!(undone.len(), 1, "{run:?}");
    assert!(undone[0].as_str().unwrap().starts_with("GRO off at eth0"));
    assert!(!bed.gro());
    assert!(bed.lan.pins.left().is_empty());
}

/// A run that may not enter the peer's namespace can't tell that it is gone.
#[test]
fn what_cannot_be_put_back_is_exit_1_and_keeps_nobody_from_detaching() {
    let bed = Bed::new("native");
    bed.gro_off();
    bed.tcp_too();
    bed.fix();
    let unprivileged = |words: &str| -> Run {
        let net = format!("--net={}", bed.host().path().display());
        std::process::Command::new("nsenter")
            .args([&net, "setpriv"])
            .args(["--bounding-set=-sys_admin", "--inh-caps=-sys_admin"])
            .args([BINARY, "--pin-dir"])
            .arg(bed.lan.pins.dir())
            .args(words.split_whitespace())
            .output()
            .expect("it runs")
            .into()
    };
    let words = ["GRO on at eth0", "CAP_SYS_ADMIN"];
    let run = unprivileged("doctor --undo").fails(1, &words);
    assert_eq!(run.out, "", "{run:?}");
    // It is still written down.
    bed.tool().ok("doctor --undo");
    assert!(!bed.gro());
    bed.fix();
    let run = unprivileged("detach --all").fails(1, &words);
    assert!(run.out.contains("lan: detached"), "{run:?}");
    assert!(bed.gro());
    assert!(bed.lan.pins.left().is_empty());
}

#[test]
fn what_is_gone_needs_no_undo() {
    for namespace in [false, true] {
        let bed = Bed::new("native");
        bed.gro_off();
        bed.fix();
        bed.server().ip("link del eth0");
        if namespace {
            command("ip", &["netns", "del", &bed.server().name]);
        }
        let run = bed.tool().ok("doctor --undo");
        assert_eq!(run.out, "nothing to undo\n");
    }
}

/// Each change was written down before it was made, so undo finds it.
#[test]
fn a_fix_that_was_killed_at_any_instant_can_be_undone() {
    let bed = Bed::new("native");
    let stale = bed.backend()["mac"].clone();
    bed.gro_off();
    bed.tcp_too();
    bed.host().ip("link set wan0 down");
    bed.server()
        .ip(&format!("link set eth0 address {OTHER_MAC}"));
    let (mut n, mut fixed) = (0, 0);
    while kill::before_change(&mut bed.tool().command("doctor --fix --yes"), n) {
        fixed += usize::from(bed.gro());
        let undo = bed.tool().ok("doctor --undo");
        assert!(undo.err.is_empty(), "{n}: {undo:?}");
        assert!(!bed.gro() && !is_up(bed.host(), "wan0"), "{n}");
        assert_eq!(bed.backend()["mac"], stale, "{n}");
        n += 1;
    }
    assert!(fixed > 0, "no run came far enough");
    bed.tool().ok("detach --all");
    assert!(bed.lan.pins.left().is_empty());
}
