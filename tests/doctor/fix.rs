//! `doctor --fix`: it asks, it writes down, it changes.

use std::io::Write;
use std::process::{Child, Stdio};

use super::bed::{Bed, OTHER_MAC, SERVER};
use crate::fixture::run::pinned;
use crate::fixture::{BINARY, Run, command};
use libbpf_rs::{MapCore, MapFlags};

#[test]
fn without_a_terminal_or_yes_nothing_is_changed() {
    let bed = Bed::new("native");
    bed.gro_off();
    bed.tool()
        .run("doctor --fix")
        .fails(2, &["terminal", "--yes"]);
    assert!(!bed.gro());
    bed.tool().run("doctor --yes").fails(2, &["--fix"]);
    bed.tool().run("doctor --undo --fix").fails(2, &["--undo"]);
}

/// Runs the command on a terminal of its own, and answers.
fn on_a_terminal(bed: &Bed, answer: &str) -> Run {
    self::answer(ask(bed), answer)
}

/// A run on a terminal of its own that asks.
pub fn ask(bed: &Bed) -> Child {
    let tool = format!(
        "{BINARY} --netns {} --pin-dir {} doctor --fix",
        bed.host().name,
        bed.lan.pins.dir().display()
    );
    std::process::Command::new("script")
        .args(["--quiet", "--return", "--command", &tool, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("script runs")
}

/// Answers it; what it has said since.
pub fn answer(mut child: Child, answer: &str) -> Run {
    let mut stdin = child.stdin.take().expect("a pipe");
    writeln!(stdin, "{answer}").expect("an answer");
    child.wait_with_output().expect("it ends").into()
}

#[test]
fn on_a_terminal_it_asks_first() {
    let bed = Bed::new("native");
    bed.gro_off();
    for answer in ["n", "", "what?"] {
        let run = on_a_terminal(&bed, answer);
        assert_eq!(run.code, 7, "{run:?}");
        let asks = format!(
            "would change: pass program on eth0 in {}\r\nFix 1 now? [y/N]",
            bed.server().name
        );
        assert!(run.out.contains(&asks), "{run:?}");
        assert!(run.out.contains("neither GRO"), "{run:?}");
        assert!(bed.program().is_none());
    }
    let run = on_a_terminal(&bed, "y");
    assert_eq!(run.code, 0, "{run:?}");
    assert!(bed.arrives());
}

/// With a million rules, neither is an error a rule's.
#[test]
fn what_there_is_no_room_to_write_down_is_not_fixed() {
    let bed = Bed::new("native");
    bed.gro_off();
    bed.fix();
    for port in [1, 2] {
        bed.tool()
            .ok(&format!("rule add --server {SERVER} --port {port}"));
    }
    let journal = pinned(&bed.lan.pins, "journal/journal");
    let noted = journal.lookup(&0u32.to_ne_bytes(), MapFlags::ANY).unwrap();
    let room = journal.max_entries();
    // Room for two, for three rules.
    for number in 1..room - 2 {
        let number = number.to_ne_bytes();
        let noted = noted.as_ref().expect("the first fix");
        journal.update(&number, noted, MapFlags::ANY).unwrap();
    }
    bed.server()
        .ip(&format!("link set eth0 address {OTHER_MAC}"));
    let before = bed.tool().json("rule list");
    let run = bed.tool().run("doctor --fix --yes");
    assert_eq!(run.code, 7, "{run:?}");
    assert_eq!(run.err.lines().count(), 1, "{run:?}");
    assert!(run.err.contains("nor are those after it"), "{run:?}");
    assert_eq!(bed.tool().json("rule list"), before);
    for number in 1..room - 2 {
        journal.delete(&number.to_ne_bytes()).unwrap();
    }
    let run = bed.fix();
    assert!(run.contains("in 3 rules"), "{run:?}");
    // Each time a backend is fixed again, one note takes all of it.
    let notes = journal.keys().count();
    for mac in ["02:00:00:00:00:78", "02:00:00:00:00:79"] {
        bed.server().ip(&format!("link set eth0 address {mac}"));
        bed.fix();
        assert_eq!(journal.keys().count(), notes);
    }
    bed.tool().ok("doctor --undo");
    assert_eq!(bed.tool().json("rule list"), before);
}

/// As containers' namespaces are: none has a name.
#[test]
fn a_peer_is_mended_in_a_namespace_that_a_process_keeps() {
    let bed = Bed::bare();
    let mut container = std::process::Command::new("unshare")
        .args(["--net", "sh", "-c", "echo in; read end"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("unshare runs");
    let out = container.stdout.as_mut().expect("a pipe");
    std::io::Read::read_exact(out, &mut [0; 3]).expect("it is in");
    let pid = container.id().to_string();
    let there = |words: &str| {
        let mut all = vec!["--net", "--target", &pid];
        all.extend(words.split_whitespace());
        command("nsenter", &all)
    };
    bed.host()
        .ip(&format!("link add c0 type veth peer name eth0 netns {pid}"));
    bed.host().ip("link set c0 up");
    there("ip link set eth0 up");
    there("ip addr add 172.18.0.2/32 dev eth0");
    there("ip route add default dev eth0");
    let link = there("ip -brief link show eth0");
    let mac = link.split_whitespace().nth(2).expect("a MAC address");
    bed.tool().ok("attach lan --mode native");
    bed.tool().ok(&format!(
        "rule add --server 172.18.0.2 --mac {mac} --dev c0"
    ));
    bed.finds("peer-napi", "problem", &["peer eth0 in pid"]);
    let has_program = || there("ip link show eth0").contains("prog/xdp");
    bed.fix();
    assert!(has_program());
    bed.tool().ok("doctor --undo");
    assert!(!has_program());
    drop(container.stdin.take());
    container.wait().expect("it ends");
}
