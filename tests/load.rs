//! `rule load`: many rules at once.

mod fixture;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use fixture::packet::Frame;
use fixture::run::{Generation, Loaded, XDP_REDIRECT};
use fixture::{Ns, Pins, Run, Tool};
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
        self.named("rules", text)
    }

    fn named(&self, name: &str, text: &str) -> String {
        let path = self.directory.path().join(name);
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
        "--server 10.1.1.3 --proto tcp --keep-ip --keep-ttl",
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
fn a_source_without_a_length_is_one_host() {
    let bed = Bed::new();
    let file = bed.file(&lines(&[bed.line("10.0.0.1", "10.1.1.1")]));
    bed.tool().ok(&format!("rule load {file}"));
    assert_eq!(bed.tool().json("rule list")[0]["src"], "10.0.0.1/32");
}

#[test]
fn a_line_that_does_not_name_the_ttl_has_it_decremented() {
    let bed = Bed::new();
    let mut kept = bed.line("10.0.0.2", "10.1.1.1");
    kept["decrement_ttl"] = json!(false);
    let file = bed.file(&lines(&[bed.line("10.0.0.1", "10.1.1.1"), kept]));
    bed.tool().ok(&format!("rule load {file}"));
    let rows = bed.tool().json("rule list");
    assert_eq!(rows[0]["decrement_ttl"], true);
    assert_eq!(rows[1]["decrement_ttl"], false);
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
        (with("ifname", json!("out1")), 2, "ifname out1"),
        (with("vlan", json!(4095)), 2, "vlan 4095"),
        (with("weight", json!(0)), 2, "weight"),
        (with("to_port", json!(0)), 2, "to_port"),
        (with("push_vlan", json!(0)), 2, "push_vlan"),
        (with("snat", json!("224.0.0.9")), 2, "snat 224.0.0.9"),
        (with("snat", json!("fd00::9")), 2, "snat fd00::9"),
        (json!({"src": "10.0.0.0/8"}), 2, "missing field"),
        (with("wieght", json!(5)), 2, "wieght"),
        (
            json!(5),
            2,
            "line 2, column 1: invalid type: integer `5`, expected an object",
        ),
        (
            good.clone(),
            2,
            "line 2: src 10.0.0.0/8 udp port 7999 -> 10.1.1.1: a second time",
        ),
    ] {
        let file = bed.file(&lines(&[good.clone(), line]));
        bed.tool()
            .run(&format!("rule load {file}"))
            .fails(code, &[&file, said]);
        assert_eq!(bed.tool().json("status")["rules"], 0);
    }
    let file = bed.file("");
    std::fs::write(&file, [0xff]).unwrap();
    bed.tool()
        .run(&format!("rule load {file}"))
        .fails(2, &["UTF-8"]);
    bed.tool()
        .run("rule load /nowhere/rules")
        .fails(1, &["/nowhere/rules"]);
}

#[test]
fn backends_that_disagree_on_the_source_are_refused() {
    let bed = Bed::new();
    let mut other = bed.line("10.0.0.0/8", "10.1.1.2");
    for (key, value) in [("snat", json!("10.9.9.9")), ("decrement_ttl", json!(false))] {
        other[key] = value;
        let file = bed.file(&lines(&[bed.line("10.0.0.0/8", "10.1.1.1"), other.clone()]));
        bed.tool()
            .run(&format!("rule load {file}"))
            .fails(2, &[key, "10.0.0.0/8"]);
        assert_eq!(bed.tool().json("status")["rules"], 0);
        other.as_object_mut().unwrap().remove(key);
    }
}

/// By source prefix: server, MAC address and weight of its backends.
type Rules = BTreeMap<String, BTreeSet<(String, String, u64)>>;
/// Packets by source prefix and server.
type Counts = BTreeMap<(String, String), u64>;

fn text(row: &Value, key: &str) -> String {
    row[key].as_str().unwrap().to_string()
}

fn rules(rows: &[Value]) -> Rules {
    let mut rules = Rules::new();
    for row in rows {
        let weight = row["weight"].as_u64().unwrap_or(1);
        let backend = (text(row, "server"), text(row, "mac"), weight);
        rules.entry(text(row, "src")).or_default().insert(backend);
    }
    rules
}

fn counts(rows: &[Value]) -> Counts {
    let key = |row: &Value| (text(row, "src"), text(row, "server"));
    let packets = |row: &Value| row["forward_packages"].as_u64().unwrap();
    rows.iter().map(|row| (key(row), packets(row))).collect()
}

impl Bed {
    fn list(&self) -> Vec<Value> {
        let rows = self.tool().json("rule list");
        rows.as_array().unwrap().clone()
    }

    /// A rule with these backends: server, the last byte of its MAC address, weight.
    fn rule(&self, src: &str, backends: &[(&str, u8, u16)]) -> Vec<Value> {
        let lines = backends.iter().map(|(server, mac, weight)| {
            let mut line = self.line(src, server);
            line["mac"] = json!(format!("02:00:00:00:00:{mac:02x}"));
            line["weight"] = json!(weight);
            line
        });
        lines.collect()
    }

    /// Sends a packet for each rule, which must go to one of its backends, and counts it there.
    fn send(&self, program: &Loaded, rules: &Rules, counts: &mut Counts) {
        for (src, backends) in rules {
            let address: Ipv4Addr = src.split('/').next().unwrap().parse().unwrap();
            let frame = Frame {
                src: address,
                ..Frame::default()
            };
            let (verdict, out) = program.run(&frame.bytes());
            assert_eq!(verdict, XDP_REDIRECT, "{src}");
            let server = Ipv4Addr::from(<[u8; 4]>::try_from(&out[30..34]).unwrap()).to_string();
            let mac = out[..6].iter().map(|byte| format!("{byte:02x}"));
            let mac = mac.collect::<Vec<_>>().join(":");
            let known = |b: &(String, String, u64)| (&b.0, &b.1) == (&server, &mac);
            assert!(backends.iter().any(known), "{src}: to {server} {mac}");
            *counts.entry((src.clone(), server)).or_default() += 1;
        }
    }
}

/// Rules that are there; and what a load makes of them, with as many that it adds.
fn old_and_new(bed: &Bed, added: u32) -> (Vec<Value>, Vec<Value>) {
    let (a, b, c) = ("172.17.0.1", "172.17.0.2", "172.17.0.3");
    let old: [&[_]; 2] = [&[(a, 1, 1)], &[(a, 1, 1), (b, 1, 7)]];
    let new: [&[_]; 3] = [
        &[(b, 2, 1)],
        &[(a, 2, 5), (c, 2, 1)],
        &[(a, 2, 1), (b, 2, 1), (c, 2, 9)],
    ];
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for i in 0..30 {
        let src = format!("10.200.{i}.0/24");
        before.extend(bed.rule(&src, old[i / 3 % 2]));
        after.extend(bed.rule(&src, new[i % 3]));
        after.extend(bed.rule(&format!("10.201.{i}.0/24"), new[i % 3]));
    }
    for i in 0..added {
        let src = format!("10.{}.{}.0/24", i >> 8, i & 255);
        after.push(bed.line(&src, a));
    }
    (before, after)
}

/// Loads a file, and kills the load soon after so many steps of the rules' generation.
fn kill_after(bed: &Bed, file: &str, steps: u64) {
    let generation = Generation::of(&bed.pins);
    let until = generation.now() + steps;
    let mut child = bed.tool().spawn(&format!("rule load {file}"));
    while generation.now() < until && child.try_wait().unwrap().is_none() {}
    std::thread::sleep(Duration::from_micros(fastrand::u64(..1500)));
    let _ = child.kill();
    child.wait().expect("a child");
}

/// Two steps are made for each batch, then two for each rule that was there or has several backends.
fn kill_loads(added: u32, all_steps: impl Iterator<Item = u64> + Send) {
    let bed = &Bed::new();
    // The program asks for the MTU of devices of the namespace that it is run in.
    bed.ns
        .enter(|| all_steps.for_each(|steps| kill_load(bed, added, steps)));
}

fn kill_load(bed: &Bed, added: u32, steps: u64) {
    let program = Loaded::on(&bed.tool().json("status"), "in0");
    let (old, new) = old_and_new(bed, added);
    let load_old = format!("rule load {}", bed.named("old", &lines(&old)));
    let file = bed.named("new", &lines(&new));
    let (old, new) = (rules(&old), rules(&new));
    bed.tool().ok(&load_old);
    kill_after(bed, &file, steps);
    let left = rules(&bed.list());
    assert_each_old_or_new(&left, &old, &new);
    let mut sent = Counts::new();
    bed.send(&program, &left, &mut sent);

    bed.tool().ok(&format!("rule load {file}"));
    bed.send(&program, &new, &mut sent);
    let rows = bed.list();
    assert_eq!(rules(&rows), new);
    assert_counted(&rows, sent);
    bed.tool().ok("rule del --all");
    assert_eq!(bed.list(), Vec::<Value>::new());
}

fn assert_each_old_or_new(left: &Rules, old: &Rules, new: &Rules) {
    for (src, backends) in left {
        let whole = [old, new].map(|rules| rules.get(src));
        assert!(whole.contains(&Some(backends)), "{src}: {backends:?}");
    }
    for src in old.keys() {
        assert!(left.contains_key(src), "{src} is gone");
    }
}

/// Each backend counts what was sent to it, since it was there.
fn assert_counted(rows: &[Value], mut sent: Counts) {
    let mut counted = counts(rows);
    sent.retain(|key, _| counted.contains_key(key));
    counted.retain(|_, packets| *packets > 0);
    assert_eq!(counted, sent);
}

#[test]
fn a_load_killed_at_any_instant_leaves_each_rule_old_or_new() {
    kill_loads(100, (0..110).step_by(3));
}

#[test]
fn a_load_killed_between_its_batches_leaves_each_rule_old_or_new() {
    kill_loads(17_000, 1..5);
}

#[test]
fn of_two_loads_at_once_one_comes_after_the_other() {
    let bed = Bed::new();
    let (_, one) = old_and_new(&bed, 2000);
    let mut other = one.clone();
    for line in &mut other {
        line["mac"] = json!("02:00:00:00:00:99");
    }
    let files = [("one", &one), ("other", &other)];
    let loads = files.map(|(name, of)| format!("rule load {}", bed.named(name, &lines(of))));
    let all = [rules(&one), rules(&other)];
    for _ in 0..10 {
        let runs = loads.each_ref().map(|load| bed.tool().spawn(load));
        for run in runs {
            Run::from(run.wait_with_output().unwrap()).ok();
        }
        let left = rules(&bed.list());
        assert!(all.contains(&left), "a mixture of both");
    }
}

#[test]
fn rules_added_while_a_file_is_loaded_are_all_there() {
    let bed = &Bed::new();
    bed.ns.enter(|| (0..10).for_each(|_| load_and_add(bed)));
}

fn load_and_add(bed: &Bed) {
    let program = Loaded::on(&bed.tool().json("status"), "in0");
    let (_, mut all) = old_and_new(bed, 500);
    let load = format!("rule load {}", bed.named("new", &lines(&all)));
    let mut runs = vec![bed.tool().spawn(&load)];
    for i in 0..20 {
        let (src, server) = (format!("10.202.{i}.0/24"), "172.17.0.1");
        let words = format!("--src {src} --server {server} --mac {MAC} --dev out0");
        runs.push(bed.tool().spawn(&format!("rule add {words}")));
        all.push(bed.line(&src, server));
    }
    for run in runs {
        Run::from(run.wait_with_output().unwrap()).ok();
    }
    let all = rules(&all);
    assert_eq!(rules(&bed.list()), all);
    let mut sent = Counts::new();
    bed.send(&program, &all, &mut sent);
    assert_counted(&bed.list(), sent);
    bed.tool().ok("rule del --all");
}
