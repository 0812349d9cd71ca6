//! The demos, and the guide's first example.

use std::process::Command;

use crate::fixture::bed::{Lab, run, status};
use crate::fixture::{BINARY, Pins, chmod};

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

/// As it stands there, but for the pins, which are the test's.
#[test]
fn the_question_of_the_guide_s_first_example_is_answered() {
    let (_lab, pins) = (Lab::alone(), Pins::new());
    let guide = include_str!("../docs/guide.md");
    let example = guide.split("```").find(|part| part.contains("lab up\n"));
    let mut script = String::new();
    for line in example.expect("there is one").lines() {
        let (command, comment) = line.split_once(" #").unwrap_or((line, ""));
        script += command;
        if comment.contains("in another terminal") {
            let listens = "xdpredir lab exec udpserver -- ss -Hlun | grep -q :7999";
            script += &format!("& for _ in $(seq 100); do {listens} && break; sleep 0.1; done");
        }
        script += "\n";
    }
    let directory = tempfile::tempdir().unwrap();
    let wrapper = directory.path().join("xdpredir");
    let (pins, path) = (pins.dir(), directory.path().display());
    let words = format!(
        "#!/bin/sh\nexec {BINARY} --pin-dir {} \"$@\"\n",
        pins.display()
    );
    std::fs::write(&wrapper, words).unwrap();
    chmod(&wrapper, 0o755);
    let out = run(Command::new("sh").args(["-ec", &format!("PATH={path}:$PATH\n{script}")]));
    let is_answer = |line: &str| line == "hello ebpf";
    assert!(out.ok().out.lines().any(is_answer), "{script}");
    assert_eq!(status()["hosts"], serde_json::json!([]));
}
