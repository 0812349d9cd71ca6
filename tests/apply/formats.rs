//! TOML, JSON, rows of `rule list`, and what the demo took.

use std::io::Write;
use std::process::Stdio;

use super::bed::{Bed, MAC, rule};
use crate::fixture::Run;

/// Rules of many kinds, by the command line.
const RULES: [&str; 9] = [
    "--server 10.1.1.1 --weight 3",
    "--server 10.1.1.2 --to-port 53 --weight 0",
    "--server fd00::1 --src 2001:db8::/32 --vlan 7 --inner-vlan 8 --push-vlan 9 --pop-vlan",
    "--server 10.1.1.3 --proto tcp --keep-ip --keep-ttl --port 7000-7010",
    "--server 10.1.1.4 --dst 10.9.0.1 --snat 10.1.1.9 --sticky --announce --hash source",
    "--server 10.1.1.5 --dst 10.9.0.2 --proto any --keep-ip --in in0 --too-long drop",
    "--server 10.1.1.6 --dst 10.9.0.3 --reply nat",
    "--server 10.1.1.7 --dst 10.9.0.3 --keep-ip",
    "--server 10.1.1.8 --dst 10.9.0.4 --hash packet --port 9",
];

/// Makes those rules, and some without backends.
fn with_rules() -> Bed {
    let bed = Bed::new();
    let tool = bed.tool();
    for words in RULES {
        tool.ok(&format!("rule add --mac {MAC} --dev out0 {words}"));
    }
    tool.ok("rule mark down --server 10.1.1.2");
    tool.ok("rule add --dst 10.8.0.0/16 --proto any --drop");
    tool.ok("rule add --proto icmp --pass");
    tool.ok(&format!(
        "rule add --src 10.7.0.0/16 --forward out0 --mac {MAC} --too-long pass"
    ));
    bed
}

fn apply_text(bed: &Bed, text: &str, words: &str) -> Run {
    let mut command = bed.tool().command(&format!("apply - {words}"));
    let command = command.stdin(Stdio::piped());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap().into()
}

#[test]
fn what_is_exported_changes_nothing_and_makes_the_same_again() {
    let bed = with_rules();
    let before = bed.rows();
    for format in ["toml", "json"] {
        let text = bed.tool().ok(&format!("export --format {format}")).out;
        let run = apply_text(&bed, &text, "").ok();
        assert_eq!(run.out, "nothing to change: 11 rules\n", "{format}");
        bed.tool().ok("rule del --all");
        let run = apply_text(&bed, &text, "").ok();
        assert!(
            run.out.contains("rules: 11 added, 0 changed, 0 removed"),
            "{run:?}"
        );
        assert_eq!(bed.rows(), before, "{format}");
    }
}

#[test]
fn what_was_listed_is_taken_in_an_array_and_in_lines() {
    let bed = with_rules();
    let before = bed.rows();
    let array = bed.tool().ok("rule list --json").out;
    let lines: String = before.iter().map(|row| format!("{row}\n")).collect();
    for text in [array, lines] {
        apply_text(&bed, &text, "").ok();
        assert_eq!(bed.rows(), before);
        bed.tool().ok("rule del --all");
        apply_text(&bed, &text, "").ok();
        assert_eq!(bed.rows(), before);
    }
}

#[test]
fn toml_and_json_and_the_body_of_the_demo_are_the_same_rules() {
    let bed = Bed::new();
    let ifindex = bed.ns.ifindex("out0");
    let object = |server: &str, more: &str| {
        format!(r#"{{"server": "{server}", "mac": "{MAC}", "ifindex": {ifindex}{more}}}"#)
    };
    let toml = "[[rule]]\nsrc = \"192.168.122.10\"\n".to_string();
    let backend = |server: &str| {
        format!("[[rule.backend]]\nserver = \"{server}\"\nmac = \"{MAC}\"\ndevice = \"out0\"\n")
    };
    let toml = toml + &backend("172.17.0.2") + &backend("172.17.0.3");
    let json = format!(
        r#"{{"rule": [{{"src": "192.168.122.10", "backend": [{}, {}]}}]}}"#,
        object("172.17.0.2", ""),
        object("172.17.0.3", ""),
    );
    let both = |more| {
        let [one, other] = ["172.17.0.2", "172.17.0.3"].map(|server| object(server, more));
        format!("[{one}, {other}]")
    };
    apply_text(&bed, &toml, "").ok();
    let rules = bed.rows();
    assert_eq!(rules.len(), 2);
    assert_eq!(
        (&rules[0]["port"], &rules[0]["dst"]),
        (&7999.into(), &"0.0.0.0/0".into())
    );
    let source = r#", "sourceAddr": "192.168.122.10", "forward_packages": 7, "forward_bytes": 9"#;
    for (text, words) in [
        (json, ""),
        (both(""), "--src 192.168.122.10"),
        (both(source), ""),
    ] {
        bed.tool().ok("rule del --all");
        apply_text(&bed, &text, words).ok();
        assert_eq!(bed.rows(), rules, "{text}");
    }
    apply_text(&bed, &both(""), "").fails(2, &["standard input:1:2:", "--src"]);
}

#[test]
fn files_of_a_directory_are_read_in_order_and_hidden_ones_and_copies_are_not() {
    let bed = Bed::new();
    bed.file(
        "set/20.json",
        r#"{"rule": [{"src": "10.0.0.2", "action": "drop"}]}"#,
    );
    bed.file("set/10.toml", &rule("10.0.0.1", "10.1.1.1"));
    for name in [
        ".10.toml",
        "10.toml~",
        "#10.toml",
        "README",
        "10.toml.orig",
        "sub.toml/x",
    ] {
        bed.file(&format!("set/{name}"), "nonsense");
    }
    let apply = format!("apply {}", bed.path("set").display());
    let run = bed.tool().ok(&apply);
    let added: Vec<&str> = run
        .out
        .lines()
        .filter(|line| line.starts_with("+ rule"))
        .collect();
    assert!(
        added[0].contains("10.0.0.1") && added[1].contains("10.0.0.2"),
        "{run:?}"
    );
    let third = bed.file("third.toml", &rule("10.0.0.3", "10.1.1.3"));
    let run = bed.tool().ok(&format!("{apply} {third}"));
    assert!(
        run.out
            .contains("1 added, 0 changed, 0 removed, 2 as before"),
        "{run:?}"
    );
}

#[test]
fn what_is_left_out_has_the_default_of_rule_add() {
    let bed = Bed::new();
    let tool = bed.tool();
    let backend = format!("server = \"10.1.1.1\"\nmac = \"{MAC}\"\ndevice = \"out0\"\n");
    bed.apply(&format!("[[rule]]\n[[rule.backend]]\n{backend}"))
        .ok();
    let rows = bed.rows();
    tool.ok("rule del --all");
    let words = format!("rule add --server 10.1.1.1 --mac {MAC} --dev out0");
    let run: Run = tool.typed(&words).output().unwrap().into();
    run.ok();
    assert_eq!(bed.rows(), rows);
    // Without an address, rules without backends are for both IP versions.
    bed.apply("[[rule]]\nproto = \"icmp\"\naction = \"drop\"\n")
        .ok();
    let sources: Vec<_> = bed.rows().iter().map(|row| row["src"].clone()).collect();
    assert_eq!(sources, ["0.0.0.0/0", "::/0"]);
}
