//! On kernels that refuse, know less than this one, or have slower drivers.

use crate::fixture::other_kernel::Kernel;
use crate::fixture::tap::Tap;
use crate::fixture::{self, Ns, Pins, Tool};
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
        fails(
            EINVAL,
            6,
            &[&release(), "does not have this kind of map", "6.1"],
        );
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
        finding["evidence"].as_str().unwrap().contains(WORDS),
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
        run.fails(6, &[&release(), "namespaces", "6.1"]);
    }
}

/// Before Linux 6.3.
mod without_netdev {
    use super::*;

    /// The namespace host with v0, whose peer p0 is elsewhere.
    fn bed() -> (Bed, Ns) {
        let (ns, peer) = (Ns::new("host"), Ns::new("peer"));
        ns.veth("v0", &peer, "p0");
        ns.veth("v1", &peer, "p1");
        let pins = Pins::new();
        (Bed { ns, pins }, peer)
    }

    #[test]
    fn features_are_guessed_and_no_frame_in_several_buffers_is_promised() {
        let (bed, peer) = bed();
        peer.exec("ethtool -K p0 gro on");
        let kernel = Kernel::without_netdev();
        let features = kernel.json(&bed.tool(), "features v0")[0]["xdp"].clone();
        assert_eq!(features["source"], "guess");
        assert_eq!(features["redirect_target"], true);
        assert_eq!(features["multi_buffer_tx"], false);
        for words in ["features", "features v0"] {
            let out = kernel.run(&bed.tool(), words).ok().out;
            assert!(
                out.contains("6.3") && out.contains("several buffers"),
                "{out}"
            );
        }
        kernel.run(&bed.tool(), "attach v0").ok();
        let out = kernel.run(&bed.tool(), "status").ok().out;
        assert!(
            out.contains("6.3") && out.contains("several buffers"),
            "{out}"
        );
    }

    #[test]
    fn frames_in_several_buffers_are_not_taken_natively() {
        let (bed, peer) = bed();
        bed.ns.ip("link set v0 mtu 9000");
        peer.ip("link set p0 mtu 9000");
        let kernel = Kernel::without_netdev();
        let run = kernel.run(&bed.tool(), "attach v0 --mode native");
        run.fails(6, &["v0", "MTU", "several buffers", "6.3", "--mode skb"]);
        assert!(bed.pins.left().is_empty());
        let run = kernel.run(&bed.tool(), "attach v0").ok();
        assert!(run.out.starts_with("v0: attached in skb mode"), "{run:?}");
    }

    #[test]
    fn auto_goes_by_the_guess() {
        let (bed, _peer) = bed();
        let _tap = Tap::new(&bed.ns, "tap0", false);
        let kernel = Kernel::without_netdev();
        let run = kernel.run(&bed.tool(), "attach lo v0 tap0").ok();
        let said: Vec<&str> = run.out.lines().collect();
        assert_eq!(
            said[0],
            "lo: attached in skb mode (its driver has no native mode)"
        );
        assert!(
            said[1].starts_with("v0: attached in skb mode (on a veth"),
            "{run:?}"
        );
        assert!(
            said[2].starts_with("tap0: attached in skb mode (on a tap"),
            "{run:?}"
        );
    }

    #[test]
    fn doctor_says_that_it_guesses_where_a_finding_rests_on_it() {
        let (bed, peer) = bed();
        let kernel = Kernel::without_netdev();
        assert_eq!(kernel.json(&bed.tool(), "doctor"), serde_json::json!([]));
        peer.exec("ethtool -K p1 gro on");
        kernel.run(&bed.tool(), "attach v0 --mode native").ok();
        let add = "rule add --server 10.1.1.1 --mac 02:00:00:00:00:01 --dev v1";
        kernel.run(&bed.tool(), add).ok();
        let doctor = || kernel.run(&bed.tool(), "doctor --json").json();
        assert_eq!(found(&doctor(), "netdev"), None);
        peer.exec("ethtool -K p1 gro off");
        let findings = doctor();
        assert!(found(&findings, "peer-napi").is_some(), "{findings}");
        assert!(found(&findings, "netdev").is_some(), "{findings}");
    }

    #[test]
    fn where_it_is_not_known_whether_a_device_takes_frames_that_is_said() {
        let (bed, _peer) = bed();
        let nameless = Ns::new("nameless");
        bed.ns.veth("v2", &nameless, "p2");
        nameless.ip("link set p2 address 02:00:00:00:00:01");
        let open = std::fs::File::open(nameless.path()).expect("it is there");
        fixture::command("ip", &["netns", "del", &nameless.name]);
        std::mem::forget(nameless);
        let (kernel, tool) = (Kernel::without_netdev(), bed.tool());
        kernel.run(&tool, "attach v0 --mode native").ok();
        let add = "rule add --server 10.1.1.1 --mac 02:00:00:00:00:01 --dev v2";
        let warned = kernel.run(&tool, add).ok().err;
        assert!(
            warned.contains("v2: what v0 redirects to it in native mode may be lost"),
            "{warned}"
        );
        assert!(warned.contains("--mode skb"), "{warned}");
        let findings = kernel.json(&tool, "doctor");
        assert_eq!(
            found(&findings, "peer-napi").unwrap()["severity"],
            "warning"
        );
        kernel.run(&tool, "detach v0 --keep-rules").ok();
        let warned = kernel.run(&tool, "attach v0 --mode native").ok().err;
        assert!(warned.contains("may be lost"), "{warned}");
        drop(open);
    }
}

/// As drivers do that reset their device for a native program.
#[test]
fn a_link_that_comes_back_after_attach_is_waited_for() {
    let (ns, peer) = (Ns::new("host"), Ns::new("peer"));
    ns.veth("v0", &peer, "p0");
    let pins = Pins::new();
    let bed = Bed { ns, pins };
    // Not `ip -n`, which can't change mounts in a chroot.
    let peer = format!("nsenter --net={} ip link set p0", peer.path().display());
    let resets = Kernel::after_attach(&format!(
        "{peer} down; (sleep 1; {peer} up) >/dev/null 2>&1 &"
    ));
    let run = resets.run(&bed.tool(), "attach v0 --mode native").ok();
    assert!(run.err.is_empty(), "{run:?}");
    bed.tool().ok("detach v0");

    let loses = Kernel::after_attach(&format!("{peer} down"));
    let run = loses.run(&bed.tool(), "attach v0 --mode native").ok();
    assert!(run.err.contains("v0: nothing arrives there"), "{run:?}");
    bed.tool().ok("detach v0");
    // One that had no link before is not waited for.
    let run = bed.tool().ok("attach v0 --mode native");
    assert!(run.err.contains("v0: nothing arrives there"), "{run:?}");
}
