//! The demos.

mod fixture;

use std::process::Command;

use fixture::BINARY;
use fixture::bed::{Lab, run, status};

#[test]
fn the_demos_leave_a_lab_that_is_up_as_it_is() {
    let _lab = Lab::with("pair");
    let before = status();
    for demo in ["scripts/demo", "scripts/demo-vm"] {
        run(Command::new(demo).arg("/nowhere")).fails(1, &["/nowhere", "build it first"]);
        run(Command::new(demo).arg(BINARY)).fails(1, &["a lab is up", "xdpredir lab down"]);
    }
    assert_eq!(status(), before);
}

#[test]
fn the_demo_has_its_question_answered_delivers_its_message_and_leaves_no_lab() {
    let _lab = Lab::alone();
    // The demo may mount a bpffs: in a mount namespace of its own, other tests do not see it.
    // In a chroot, the root is no mount whose propagation can be changed.
    let demo = "mount --make-rprivate /sys && exec scripts/demo \"$0\"";
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation", "unchanged"]);
    let out = run(unshare.args(["sh", "-c", demo, BINARY])).ok().out;
    let end = "The question was answered, and the message arrived.\n";
    assert!(out.ends_with(end), "{out}");
    assert_eq!(status()["hosts"], serde_json::json!([]));
}
