//! `rule load`: many rules at once.

mod fixture;

use fixture::{Ns, Pins, Tool};
use serde_json::{Value, json};

const MAC: &str = "02:00:00:00:00:01";

struct Bed {
    ns: Ns,
    pins: Pins,
    directory: tempfile::TempDir,
}

impl Bed {
    fn new() -> Self {
        let ns = Ns::new("host");
        ns.ip("link add in0 type veth peer name in1");
        ns.ip("link add out0 type veth peer name out1");
        for device in ["in0", "out0", "out1"] {
            ns.ip(&format!("link set {device} up"));
        }
        let bed = Bed {
            ns,
            pins: Pins::new(),
            directory: tempfile::tempdir().unwrap(),
        };
        bed.tool().ok("attach in0");
        bed
    }

    fn tool(&self) -> Tool<'_> {
        Tool {
            ns: &self.ns,
            pins: &self.pins,
        }
    }

    fn file(&self, text: &str) -> String {
        let path = self.directory.path().join("rules");
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn line(&self, src: &str, server: &str) -> Value {
        json!({
            "src": src, "proto": "udp", "port": 7999, "server": server, "mac": MAC,
            "ifindex": self.ns.ifindex("out0"),
        })
    }
}

fn lines(values: &[Value]) -> String {
    values.iter().map(|value| format!("{value}\n")).collect()
}

#[test]
fn many_rules_are_loaded_and_listed() {
    let bed = Bed::new();
    // More than one bank of counters and one batch hold.
    let all: Vec<Value> = (0..20_000u32)
        .map(|i| bed.line(&format!("10.{}.{}.0/24", i >> 8, i & 255), "10.9.9.9"))
        .collect();
    let file = bed.file(&lines(&all));
    let run = bed.tool().ok(&format!("rule load {file}"));
    assert_eq!(run.out, "loaded 20000 rules\n");
    assert_eq!(bed.tool().json("status")["rules"], 20_000);
    bed.tool().ok("rule del --src 10.0.0.0/24");
    bed.tool().ok(&format!(
        "rule add --server 10.9.9.8 --mac {MAC} --dev out0"
    ));
    assert_eq!(bed.tool().json("status")["rules"], 20_000);
    bed.tool().ok("rule del --all");
    assert_eq!(bed.tool().json("status")["rules"], 0);
}

#[test]
fn what_was_listed_can_be_loaded_again() {
    let bed = Bed::new();
    let tool = bed.tool();
    let add = format!("rule add --mac {MAC} --dev out0");
    for words in [
        "--server 10.1.1.1 --weight 3",
        "--server 10.1.1.2 --to-port 53 --snat 10.1.1.9",
        "--server fd00::1 --src 2001:db8::/32 --vlan 7 --push-vlan 8 --pop-vlan",
        "--server 10.1.1.3 --proto tcp --keep-ip --decrement-ttl",
    ] {
        tool.ok(&format!("{add} {words}"));
    }
    let before = tool.json("rule list");
    let file = bed.file(&before.to_string());
    assert_eq!(
        tool.json(&format!("rule load {file}")),
        json!({"loaded": 3})
    );
    assert_eq!(tool.json("rule list"), before);
    tool.ok("rule del --all");
    tool.ok(&format!("rule load {file}"));
    assert_eq!(tool.json("rule list"), before);
}

#[test]
fn a_rule_that_is_there_is_replaced() {
    let bed = Bed::new();
    let tool = bed.tool();
    for server in ["10.1.1.1", "10.1.1.2"] {
        tool.ok(&format!(
            "rule add --mac {MAC} --dev out0 --server {server}"
        ));
    }
    let file = bed.file(&bed.line("0.0.0.0/0", "10.1.1.2").to_string());
    tool.ok(&format!("rule load {file}"));
    let rows = tool.json("rule list");
    assert_eq!(rows.as_array().unwrap().len(), 1);
    assert_eq!(rows[0]["server"], "10.1.1.2");
}

#[test]
fn one_bad_line_is_named_and_nothing_is_loaded() {
    let bed = Bed::new();
    let good = bed.line("10.0.0.0/8", "10.1.1.1");
    let with = |key: &str, value: Value| {
        let mut line = good.clone();
        line[key] = value;
        line
    };
    for (line, code, said) in [
        (with("src", json!("10.0.0.1/8")), 2, "10.0.0.1/8"),
        (with("src", json!("nonsense")), 2, "line 2"),
        (with("port", json!(0)), 2, "port"),
        (with("port", json!(65536)), 2, "line 2"),
        (with("server", json!("224.0.0.1")), 2, "224.0.0.1"),
        (with("server", json!("fd00::1")), 2, "fd00::1"),
        (with("mac", json!("nonsense")), 2, "nonsense"),
        (with("ifindex", json!(4242)), 3, "4242"),
        (with("vlan", json!(4095)), 2, "vlan 4095"),
        (with("weight", json!(0)), 2, "weight"),
        (with("to_port", json!(0)), 2, "to_port"),
        (with("push_vlan", json!(0)), 2, "push_vlan"),
        (with("snat", json!("224.0.0.9")), 2, "snat 224.0.0.9"),
        (with("snat", json!("fd00::9")), 2, "snat fd00::9"),
        (json!({"src": "10.0.0.0/8"}), 2, "missing field"),
    ] {
        let file = bed.file(&lines(&[good.clone(), line]));
        bed.tool()
            .run(&format!("rule load {file}"))
            .fails(code, &[&file, said]);
        assert_eq!(bed.tool().json("status")["rules"], 0);
    }
    bed.tool()
        .run("rule load /nowhere/rules")
        .fails(1, &["/nowhere/rules"]);
}

#[test]
fn backends_that_disagree_on_the_source_are_refused() {
    let bed = Bed::new();
    let mut other = bed.line("10.0.0.0/8", "10.1.1.2");
    for (key, value) in [("snat", json!("10.9.9.9")), ("decrement_ttl", json!(true))] {
        other[key] = value;
        let file = bed.file(&lines(&[bed.line("10.0.0.0/8", "10.1.1.1"), other.clone()]));
        bed.tool()
            .run(&format!("rule load {file}"))
            .fails(2, &[key, "10.0.0.0/8"]);
        assert_eq!(bed.tool().json("status")["rules"], 0);
        other.as_object_mut().unwrap().remove(key);
    }
}
