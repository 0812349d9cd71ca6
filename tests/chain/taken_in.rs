//! A program that is attached alone is asked before ours from one packet to the next, and put back in the same way.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use super::MODES;
use super::bed::{Bed, DROP};
use crate::fixture::foreign::Foreign;
use crate::fixture::kill;
use crate::fixture::lan::socket;

/// How the other program is attached.
#[derive(Clone, Copy, Debug)]
enum By {
    Netlink,
    Link,
}

const BY: [By; 2] = [By::Netlink, By::Link];

fn link(bed: &Bed) -> PathBuf {
    bed.path("their_link")
}

/// Attaches a program that drops port 7001; its number.
fn attach(bed: &Bed, by: By, mode: &str) -> u64 {
    let program = Foreign::of_port("theirs", 7001, DROP);
    match by {
        By::Netlink => program.attach(&bed.lan.host, "lan", mode),
        By::Link => program.link(&bed.lan.host, "lan", mode, &link(bed)),
    }
    program.id().into()
}

#[test]
fn a_program_that_is_there_is_taken_in_and_put_back_without_a_gap() {
    for mode in MODES {
        for by in BY {
            let bed = Bed::without_rules();
            let theirs = attach(&bed, by, mode);
            let run = bed.tool().run("attach lan");
            run.fails(4, &["theirs", "--force", "attach lan --chain-foreign"]);
            let other = if mode == "skb" { "native" } else { "skb" };
            let words = format!("attach lan --chain-foreign --mode {other}");
            bed.tool().run(&words).fails(4, &["theirs", "that mode"]);
            assert_eq!(bed.program(), Some(theirs));
            assert!(bed.lan.pins.left().iter().all(|path| *path == link(&bed)));

            let out = bed.tool().ok("attach lan --chain-foreign").out;
            assert!(
                out.contains("theirs") && out.contains("is asked before ours"),
                "{out}"
            );
            assert!(out.contains(&format!("in {mode} mode")), "{out}");
            bed.add_rule();
            assert_ne!(bed.program(), Some(theirs), "{mode} {by:?}");
            assert_eq!(bed.chain(), ["theirs"]);
            let list = bed.tool().json("chain list lan");
            assert_eq!(list[0]["programs"][0]["taken_in"], true);
            assert_eq!(list[0]["programs"][0]["program_id"], theirs);
            assert_eq!(bed.dropped(&[7001, 7002]), [7001], "{mode} {by:?}");
            // It is one of a chain like others.
            bed.add(7002, "--priority 10");
            assert_eq!(bed.chain(), ["drop_7002", "theirs"]);
            assert_eq!(bed.dropped(&[7001, 7002]), [7001, 7002], "{mode} {by:?}");
            bed.tool().ok("chain del lan 10");
            let again = bed.tool().ok("attach lan").out;
            assert!(again.contains("already attached"), "{again}");

            bed.tool().ok("detach lan");
            assert_eq!(bed.program(), Some(theirs), "{mode} {by:?}");
            assert!(bed.lan.pins.left().iter().all(|path| *path == link(&bed)));
        }
    }
}

#[test]
fn a_link_that_its_owner_updates_is_left_to_the_owner() {
    let bed = Bed::without_rules();
    attach(&bed, By::Link, "skb");
    bed.tool().ok("attach lan --chain-foreign");
    let newer = Foreign::of_port("newer", 7002, DROP);
    newer.update(&link(&bed));
    assert_eq!(bed.program(), Some(newer.id().into()));
    let status = bed.tool().json("status");
    assert_eq!(status["interfaces"][0]["state"], "detached");
    let pin = bed.pin(7003);
    let run = bed.tool().run(&format!("chain add lan {pin}"));
    run.fails(4, &["lan: the program is no longer there", "detach lan"]);
    bed.tool().ok("detach lan");
    assert_eq!(bed.program(), Some(newer.id().into()));
    // And again, with the one that is there now.
    bed.tool().ok("attach lan --chain-foreign");
    assert_eq!(bed.chain(), ["newer"]);
    newer.update(&link(&bed));
    bed.tool().ok("attach lan --chain-foreign");
    assert_eq!(bed.chain(), ["newer"]);
    bed.tool().ok("detach lan");
    assert_eq!(bed.program(), Some(newer.id().into()));
}

/// Sends to two ports of the host until `work` is done: what goes to the one that the other program drops never
/// arrives, and all that goes to the next one does.
fn under_traffic(bed: &Bed, work: impl FnOnce()) {
    let [closed, open] = [7001, 7002].map(|port| socket(&bed.lan.host, &format!("0.0.0.0:{port}")));
    let vm = bed.lan.vm_socket();
    let send = |port: u16| {
        vm.send_to(b"x", ("192.168.122.1", port))
            .expect("it is sent")
    };
    let done = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut sent = 0;
            while !done.load(Relaxed) {
                send(7001);
                send(7002);
                sent += 1;
                thread::sleep(Duration::from_micros(100));
            }
            sent
        });
        work();
        done.store(true, Relaxed);
        sender.join().expect("all is sent")
    });
    (0..sent).for_each(|n| {
        let arrived = open.recv(&mut [0; 8]);
        arrived.unwrap_or_else(|_| panic!("{n} of {sent} arrived"));
    });
    closed.set_nonblocking(true).expect("a socket");
    assert!(
        closed.recv(&mut [0; 8]).is_err(),
        "one got past the program"
    );
}

#[test]
fn no_packet_gets_past_a_program_that_is_taken_in_and_put_back() {
    for mode in MODES {
        for by in BY {
            let bed = Bed::without_rules();
            attach(&bed, by, mode);
            under_traffic(&bed, || {
                for _ in 0..2 {
                    bed.tool().ok("attach lan --chain-foreign");
                    bed.add(7003, "");
                    bed.tool().ok("detach lan");
                }
            });
        }
    }
}

#[test]
fn taking_in_and_putting_back_killed_at_any_instant_leave_the_other_program_attached() {
    for (offset, by) in BY.into_iter().enumerate() {
        let bed = Bed::without_rules();
        let theirs = attach(&bed, by, "skb");
        // So that the state of the namespace need not be made and removed each time.
        bed.tool().ok("attach wan0 --mode skb");
        let attach = "attach lan --chain-foreign";
        let pinned = bed.lan.pins.left().len();
        let changes = kill::count_changes(&mut bed.tool().command(attach));
        bed.tool().ok("detach lan");
        // Before that, nothing of it is pinned yet.
        for n in (changes / 3 + offset..changes).step_by(3) {
            let _ = kill::before_change(&mut bed.tool().command(attach), n);
            assert!(bed.program().is_some(), "attach {by:?} killed before {n}");
            bed.tool().ok("detach lan --if-exists");
            assert_eq!(
                bed.program(),
                Some(theirs),
                "attach {by:?} killed before {n}"
            );
        }
        // After that, the other program is back, and pins are removed.
        for n in 1..7 {
            bed.tool().ok(attach);
            let _ = kill::before_change(&mut bed.tool().command("detach lan"), n);
            assert!(bed.program().is_some(), "detach {by:?} killed before {n}");
            bed.tool().ok("detach lan --if-exists");
            assert_eq!(
                bed.program(),
                Some(theirs),
                "detach {by:?} killed before {n}"
            );
        }
        assert_eq!(bed.lan.pins.left().len(), pinned);
    }
}
