//! What differs, and what stays.

use serde_json::{Value, json};

use super::bed::{Bed, MAC, rule};
use crate::fixture::packet::Frame;
use crate::fixture::run::{Loaded, XDP_REDIRECT};

fn weighted(weight: u32) -> String {
    rule("10.0.0.1", "10.1.1.1") + &format!("  weight = {weight}\n")
}

#[test]
fn diff_tells_what_apply_would_change_and_changes_nothing() {
    let bed = Bed::new();
    let tool = bed.tool();
    bed.apply(&(weighted(1) + &rule("10.0.0.2", "10.1.1.2")))
        .ok();
    let before = bed.export();
    let file = bed.file("new.toml", &(weighted(5) + &rule("10.0.0.3", "10.1.1.3")));
    let run = tool.run(&format!("diff {file}"));
    assert_eq!(run.code, 7, "{run:?}");
    let lines = [
        "- rule src 10.0.0.2/32 udp port 7999: reply none",
        &format!("-   server 10.1.1.2, device out0, mac {MAC}"),
        "~ rule src 10.0.0.1/32 udp port 7999",
        "+   backend 10.1.1.1 weight: 5",
        "+ rule src 10.0.0.3/32 udp port 7999: reply none",
        &format!("+   server 10.1.1.3, device out0, mac {MAC}"),
    ];
    assert_eq!(run.out.lines().collect::<Vec<_>>(), lines);
    let dry = tool.ok(&format!("apply {file} --dry-run"));
    assert_eq!(dry.out, run.out);
    assert_eq!(bed.export(), before);
    let applied = tool.ok(&format!("apply {file}"));
    let told = applied.out.lines().take(lines.len()).collect::<Vec<_>>();
    assert_eq!(told, lines);
    assert!(
        applied
            .out
            .contains("rules: 1 added, 1 changed, 1 removed, 0 as before")
    );
    let same = tool.run(&format!("diff {file}")).ok();
    assert_eq!(same.out, "no difference: 2 rules\n");
}

#[test]
fn a_difference_in_json_is_operations() {
    let bed = Bed::new();
    let tool = bed.tool();
    bed.apply(&(weighted(2) + &rule("10.0.0.2", "10.1.1.2")))
        .ok();
    let file = bed.file(
        "new.toml",
        &(weighted(5) + "[[rule]]\nsrc = \"10.0.0.2\"\naction = \"drop\"\n"),
    );
    let run = tool.run(&format!("diff {file} --json"));
    let operations = run.json();
    let at = |last: &str| format!("/rule/src 10.0.0.{last}");
    let find = |path: String| -> Value {
        let all = operations.as_array().unwrap();
        all.iter()
            .find(|one| one["path"] == path.as_str())
            .unwrap_or_else(|| panic!("{path}: {all:#?}"))
            .clone()
    };
    let weight = find(at("1~132 udp port 7999/backend/10.1.1.1/weight"));
    assert_eq!(
        weight,
        json!({
            "op": "replace", "path": weight["path"], "value": 5, "old": 2,
        })
    );
    let action = find(at("2~132 udp port 7999/action"));
    assert_eq!(
        (&action["op"], &action["value"], &action["old"]),
        (&json!("add"), &json!("drop"), &Value::Null)
    );
    let gone = find(at("2~132 udp port 7999/backend"));
    assert_eq!(
        (&gone["op"], &gone["old"]["10.1.1.2"]["device"]),
        (&json!("remove"), &json!("out0"))
    );
    let report = tool.json(&format!("apply {file}"));
    assert_eq!(report["changes"], operations);
    assert_eq!(
        report["rules"],
        json!({"added": 0, "changed": 2, "removed": 0, "same": 0})
    );
    assert_eq!(
        tool.run(&format!("diff {file} --json")).ok().json(),
        json!([])
    );
}

#[test]
fn a_difference_has_colours_where_they_are_wanted() {
    let bed = Bed::new();
    let file = bed.file("new.toml", &rule("10.0.0.3", "10.1.1.3"));
    let run = |key: &str| {
        let mut command = bed.tool().command(&format!("diff {file}"));
        let output = command
            .env("CLICOLOR_FORCE", "1")
            .env("TERM", "xterm")
            .env(key, "1")
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    assert!(run("ANY").starts_with("\u{1b}[32m+ rule"));
    assert!(run("NO_COLOR").starts_with("+ rule"));
}

#[test]
fn what_is_in_no_file_goes_unless_it_is_to_be_kept() {
    let bed = Bed::new();
    bed.tool().ok(&format!(
        "rule add --src 10.5.0.0/16 --server 10.1.1.5 --mac {MAC} --dev out0"
    ));
    let file = bed.file("a.toml", &weighted(1));
    bed.tool().ok(&format!("apply {file} --keep-others"));
    assert_eq!(bed.rows().len(), 2);
    bed.tool().ok(&format!("diff {file} --keep-others"));
    bed.tool().ok(&format!("apply {file}"));
    assert_eq!(bed.rows().len(), 1);
    assert_eq!(bed.tool().json("status")["interfaces"][0]["ifname"], "in0");
}

#[test]
fn backends_that_stay_keep_their_counters() {
    let bed = Bed::new();
    bed.apply(&weighted(1)).ok();
    let program = Loaded::on(&bed.tool().json("status"), "in0");
    let frame = Frame {
        src: [10, 0, 0, 1].into(),
        ..Frame::default()
    };
    let send = || {
        bed.ns
            .enter(|| assert_eq!(program.run(&frame.bytes()).0, XDP_REDIRECT))
    };
    (0..3).for_each(|_| send());
    bed.apply(&(weighted(7) + &rule("10.0.0.2", "10.1.1.2")))
        .ok();
    let rows = bed.rows();
    assert_eq!(
        (&rows[0]["weight"], &rows[0]["forward_packages"]),
        (&7.into(), &3.into())
    );
    send();
    assert_eq!(bed.rows()[0]["forward_packages"], 4);
}

#[test]
fn rules_need_an_interface() {
    let bed = Bed::detached();
    bed.apply(&weighted(1)).fails(3, &["not attached"]);
    assert!(bed.pins.left().is_empty());
    let run = bed
        .tool()
        .run(&format!("diff {}", bed.path("rules.toml").display()));
    assert_eq!(run.code, 7, "{run:?}");
    bed.tool().run("export").fails(3, &["not attached"]);
    bed.apply(&("interface = []\n".to_string() + &weighted(1)))
        .fails(2, &["no interface"]);
}
