//! What the host itself lacks, and pins that serve nobody.

use super::bed::{Bed, assert_finding};
use crate::fixture::{BINARY, Run, Tool};
use serde_json::Value;

#[test]
fn pins_that_serve_nobody_are_named() {
    let bed = Bed::new("skb");
    let root = bed.lan.pins.dir();
    let dead = root.join("netns-4000000000");
    std::fs::create_dir(&dead).unwrap();
    let finding = bed.finds("other-namespace", "warning", &["no process"]);
    assert_eq!(finding["subject"], dead.to_str().unwrap());
    std::fs::remove_dir(&dead).unwrap();

    // Those of a namespace that lives are no finding.
    let there = Tool {
        ns: bed.server(),
        pins: &bed.lan.pins,
    };
    there.ok("attach lo --mode skb");
    bed.finds_nothing();
    there.ok("detach --all");

    let other = bed.lan.pins.namespace().join("abi-1");
    std::fs::create_dir(&other).unwrap();
    bed.finds("other-version", "problem", &["another version"]);
    std::fs::remove_dir(&other).unwrap();
    bed.finds_nothing();
}

#[test]
fn what_the_host_lacks_is_named() {
    let words = format!("--bounding-set -sys_admin,-bpf,-perfmon {BINARY} --json doctor");
    let without = |words: &str| -> Value {
        let run = std::process::Command::new("setpriv")
            .args(words.split_whitespace())
            .output()
            .expect("setpriv runs");
        let run = Run::from(run);
        assert_eq!(run.code, 7, "{run:?}");
        run.json()
    };
    let all = without(&words);
    let lacks = all
        .as_array()
        .unwrap()
        .iter()
        .find(|f| f["check"] == "capabilities");
    assert_finding(
        lacks.unwrap(),
        "capabilities",
        "problem",
        &["CAP_BPF", "CAP_PERFMON"],
    );

    let plain = tempfile::tempdir().unwrap();
    let path = plain.path().join("pins");
    let all = without(&format!(
        "{BINARY} --json --pin-dir {} doctor",
        path.display()
    ));
    assert_finding(&all[0], "bpffs", "problem", &["no bpffs is mounted"]);
}
