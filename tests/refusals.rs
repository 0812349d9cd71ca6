//! What happens on kernels that refuse, or know less than this one.

mod fixture;

use fixture::other_kernel::Kernel;
use fixture::{Ns, Pins, Tool};
use nix::libc::{E2BIG, EACCES, EINVAL, ENOMEM, ENOSPC, EPERM};
use serde_json::Value;

/// What Linux 6.12 said of version 0.1.
const LOG: &str = "func#0 @0\n0: R1=ctx() R10=fp0\n; if (len > 0) @ checksum.h:42\n\
                   1507: (85) call bpf_xdp_load_bytes#189\nR4 invalid zero-sized read: u64=[0,127]\n\
                   processed 4711 insns (limit 1000000) max_states_per_insn 9 total_states 1\n";
const WORDS: &str = "R4 invalid zero-sized read: u64=[0,127]";

struct Bed {
    ns: Ns,
    pins: Pins,
}

impl Bed {
    fn new() -> Self {
        let ns = Ns::new("host");
        ns.ip("link add v0 type veth peer name v1");
        ns.ip("link set v0 up");
        ns.ip("link set v1 up");
        let pins = Pins::new();
        Bed { ns, pins }
    }

    fn tool(&self) -> Tool<'_> {
        Tool {
            ns: &self.ns,
            pins: &self.pins,
        }
    }
}

fn release() -> String {
    fixture::command("uname", &["-r"]).trim().to_string()
}

fn found<'a>(findings: &'a Value, check: &str) -> Option<&'a Value> {
    let mut findings = findings.as_array().expect("an array").iter();
    findings.find(|finding| finding["check"] == check)
}

#[test]
fn what_the_verifier_refuses_is_not_supported_and_in_its_words() {
    let bed = Bed::new();
    for errno in [EACCES, EINVAL, E2BIG, ENOSPC] {
        let kernel = Kernel::refusing("xdpredir", errno, LOG);
        let run = kernel.run(&bed.tool(), "attach v0");
        let run = run.fails(6, &[&release(), "xdpredir", WORDS, "README"]);
        assert!(!run.err.contains("root"), "{run:?}");
        assert!(bed.pins.left().is_empty());
    }
    let silent = Kernel::refusing("xdpredir", EINVAL, "");
    let run = silent.run(&bed.tool(), "attach v0");
    run.fails(6, &[&release(), "xdpredir", "nvalid argument"]);
    let small = Kernel::refusing("xdpredir", ENOMEM, "");
    let run = small.run(&bed.tool(), "attach v0");
    run.fails(1, &["xdpredir", "not enough memory"]);
    let closed = Kernel::refusing("xdpredir", EPERM, "");
    let run = closed.run(&bed.tool(), "attach v0");
    run.fails(5, &["xdpredir", "Operation not permitted"]);
    assert!(bed.pins.left().is_empty());
}

#[test]
fn a_map_that_cannot_be_made_is_named_with_the_reason() {
    let bed = Bed::new();
    for map in ["counters", "egress"] {
        let fails = |errno, code, words: &[&str]| {
            let kernel = Kernel::without_map(map, errno);
            let words = [&["cannot make the map", map], words].concat();
            kernel.run(&bed.tool(), "attach v0").fails(code, &words);
            assert!(bed.pins.left().is_empty());
        };
        fails(EINVAL, 6, &[&release(), "none such", "README"]);
        fails(ENOMEM, 1, &["not enough memory"]);
        fails(E2BIG, 1, &["not enough memory"]);
        fails(EPERM, 5, &["Operation not permitted"]);
    }
}

#[test]
fn a_ledger_that_is_refused_says_why_in_a_line() {
    let bed = Bed::new();
    let kernel = Kernel::refusing("devmap_xmit", EACCES, LOG);
    let run = kernel.run(&bed.tool(), "attach v0").ok();
    let lines: Vec<&str> = run.out.lines().collect();
    assert_eq!(lines.len(), 2, "{run:?}");
    let said = format!(
        "  no ledger of lost frames: this kernel's verifier ({}) refused the program devmap_xmit: {WORDS}",
        release()
    );
    assert!(lines[1].starts_with(&said), "{run:?}");
    let findings = kernel.json(&bed.tool(), "doctor");
    let finding = found(&findings, "btf").expect("it is found");
    assert_eq!(finding["severity"], "warning");
    assert!(
        finding["evidence"].as_str().unwrap().ends_with(WORDS),
        "{finding}"
    );
}

#[test]
fn doctor_tries_whether_the_kernel_loads_the_program() {
    let bed = Bed::new();
    let kernel = Kernel::refusing("xdpredir", EACCES, LOG);
    let doctor = |code: i32| {
        let run = kernel.run(&bed.tool(), "doctor --json");
        assert_eq!(run.code, code, "{run:?}");
        run.json()
    };
    let findings = doctor(7);
    let finding = found(&findings, "kernel").expect("it is found");
    assert_eq!(finding["severity"], "problem");
    let evidence = finding["evidence"].as_str().unwrap();
    assert!(
        evidence.contains(&release()) && evidence.contains(WORDS),
        "{finding}"
    );
    assert!(bed.pins.left().is_empty());
    // What runs is proof that it can.
    bed.tool().ok("attach v0");
    assert_eq!(found(&doctor(0), "kernel"), None);
    bed.tool().ok("detach v0 --keep-rules");
    assert!(found(&doctor(7), "kernel").is_some());
}

#[test]
fn doctor_leaves_nothing_of_its_trial() {
    let bed = Bed::new();
    assert_eq!(bed.tool().json("doctor"), serde_json::json!([]));
    assert!(bed.pins.left().is_empty());
}

#[test]
fn a_kernel_that_cannot_tell_namespaces_apart_is_not_supported() {
    let bed = Bed::new();
    let kernel = Kernel::without_cookies();
    for words in [
        "attach v0",
        "status",
        "rule list",
        "stats",
        "detach --all",
        "doctor",
    ] {
        let run = kernel.run(&bed.tool(), words);
        run.fails(6, &[&release(), "namespaces", "README"]);
    }
}
