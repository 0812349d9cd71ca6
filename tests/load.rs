//! `rule load`: many rules at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::fixture::kill;
use crate::fixture::packet::Frame;
use crate::fixture::run::{Loaded, XDP_REDIRECT};
use crate::fixture::{Ns, Pins, Run, Tool};
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
            "ifindex": self.ns.ifindex("out0"), "reply": "none",
        })
    }
}

fn lines(values: &[Value]) -> String {
    values.iter().map(|value| format!("{value}\n")).collect()
}

#[test]
fn many_rules_are_loaded_and_listed() {
    let bed = Bed::new();
    // More than one bank of counters holds.
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
    assert_eq!(tool.json(&format!("rule load {file}"))["loaded"], 3);
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
        (with("weight", json!(65536)), 2, "weight"),
        (with("to_port", json!(0)), 2, "to_port"),
        (with("push_vlan", json!(0)), 2, "push_vlan"),
        (with("snat", json!("224.0.0.9")), 2, "snat 224.0.0.9"),
        (with("snat", json!("fd00::9")), 2, "snat fd00::9"),
        (json!({"src": "10.0.0.0/8"}), 2, "missing key"),
        (with("wieght", json!(5)), 2, "wieght"),
        (
            json!(5),
            2,
            "line 2, column 1: invalid type: integer 5, expected an object",
        ),
        (
            good.clone(),
            2,
            "line 2: src 10.0.0.0/8 udp port 7999 -> 10.1.1.1: this backend is in the file twice",
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
fn a_key_that_nobody_knows_is_refused_with_the_nearest_one() {
    let bed = Bed::new();
    let line = bed.line("10.0.0.0/8", "10.1.1.1").to_string();
    let file = bed.file(&line.replace("\"server\"", "\"sever\""));
    bed.tool()
        .run(&format!("rule load {file}"))
        .fails(2, &["line 1", "unknown key sever: did you mean server?"]);
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

/// Kills a load at so many of its changes, or at each where it makes fewer, and looks at what it leaves.
fn kill_loads(added: u32, rounds: usize) {
    let bed = &Bed::new();
    let (old, new) = old_and_new(bed, added);
    let files = [("old", old), ("new", new)].map(|(name, rules)| {
        let load = format!("rule load {}", bed.named(name, &lines(&rules)));
        (load, self::rules(&rules))
    });
    bed.tool().ok(&files[0].0);
    let changes = kill::count_changes(&mut bed.tool().command(&files[1].0));
    let stride = changes.div_ceil(rounds);
    // The program asks for the MTU of devices of the namespace that it is run in.
    bed.ns.enter(|| {
        for n in (fastrand::usize(..stride)..changes).step_by(stride) {
            kill_load(bed, &files, n);
        }
    });
}

fn kill_load(bed: &Bed, [old, new]: &[(String, Rules); 2], n: usize) {
    let program = Loaded::on(&bed.tool().json("status"), "in0");
    bed.tool().ok("rule del --all");
    bed.tool().ok(&old.0);
    // One that finds less to clean up than the one that was counted may come to its end: that is fine, too.
    let _ = kill::before_change(&mut bed.tool().command(&new.0), n);
    let left = rules(&bed.list());
    assert_each_old_or_new(&left, &old.1, &new.1);
    let mut sent = Counts::new();
    bed.send(&program, &left, &mut sent);

    bed.tool().ok(&new.0);
    bed.send(&program, &new.1, &mut sent);
    let rows = bed.list();
    assert_eq!(rules(&rows), new.1);
    assert_counted(&rows, sent);
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
    kill_loads(100, 60);
}

#[test]
fn a_load_killed_between_its_batches_leaves_each_rule_old_or_new() {
    kill_loads(17_000, 6);
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

/// What is said of many rules; `each` makes a rule's lines of its number.
fn file(bed: &Bed, name: &str, rules: u32, each: impl Fn(u32) -> Vec<Value>) -> String {
    let all: Vec<Value> = (0..rules).flat_map(each).collect();
    bed.named(name, &lines(&all))
}

fn source(number: u32) -> String {
    format!("{}/32", Ipv4Addr::from(0x0b00_0000 + number))
}

/// As many as docs/limits.md allows, each with the same two backends.
fn balanced(bed: &Bed, name: &str, count: u32, weight: u32) -> String {
    file(bed, name, count, |number| {
        let line = |server: &str| {
            let mut line = bed.line(&source(number), server);
            line["origin"] = json!("route");
            line["weight"] = json!(weight);
            line
        };
        vec![line("10.1.1.1"), line("10.1.1.2")]
    })
}

const MOST_BALANCED: u32 = 16_384;

/// There is always room for an update, and one more is refused before anything is changed.
#[test]
fn at_the_limit_of_balanced_rules_all_can_be_changed() {
    let bed = Bed::new();
    let tool = bed.tool();
    bed.ns.ip("addr add 10.1.1.254/24 dev out0");
    let meet = |mac: &str| {
        for server in ["10.1.1.1", "10.1.1.2"] {
            let entry = format!("neigh replace {server} lladdr {mac} dev out0 nud permanent");
            bed.ns.ip(&entry);
        }
    };
    let all_have = |mac: &str| {
        let rows = tool.ok("rule list").out;
        let with = rows.lines().filter(|row| row.contains(mac)).count();
        assert_eq!(with, 2 * MOST_BALANCED as usize, "{mac}");
    };
    bed.ns.ip("link set out1 promisc on");
    meet(MAC);
    let load = format!("rule load {}", balanced(&bed, "all", MOST_BALANCED, 1));
    tool.ok(&load);
    all_have(MAC);

    let moved = "02:00:00:00:00:02";
    meet(moved);
    tool.ok("rule refresh");
    all_have(moved);
    let moved_again = "02:00:00:00:00:03";
    meet(moved_again);
    let run = tool.run("doctor --fix --yes");
    assert!(run.out.contains("in 16384 rules"), "{run:?}");
    all_have(moved_again);
    let run = tool.ok("doctor --undo");
    assert!(run.out.contains("in 16384 rules"), "{run:?}");
    all_have(moved);
    let first = source(0);
    tool.ok(&format!(
        "rule add --src {first} --server 10.1.1.1 --weight 7"
    ));
    assert_eq!(bed.list()[0]["weight"], 7);
    // What a load replaces doesn't count twice.
    meet(MAC);
    tool.ok(&format!(
        "rule load {}",
        balanced(&bed, "other", MOST_BALANCED, 2)
    ));
    all_have(MAC);

    let said = "16,384 rules with more than one backend are the most";
    let add = format!("rule add --mac {MAC} --dev out0 --port 1 --server");
    tool.ok(&format!("{add} 10.1.1.1"));
    let before = bed.list();
    tool.run(&format!("{add} 10.1.1.2")).fails(1, &[said]);
    let more = balanced(&bed, "more", MOST_BALANCED + 1, 1);
    tool.run(&format!("rule load {more}"))
        .fails(1, &[&more, said, "would be 16,385", "nothing was changed"]);
    assert_eq!(bed.list(), before);
    tool.ok(&format!("rule del --src {first} --server 10.1.1.1"));
    tool.ok(&format!("{add} 10.1.1.2"));
}

#[test]
fn too_many_kinds_of_matches_are_counted_before_the_first_is_loaded() {
    let bed = Bed::new();
    let tool = bed.tool();
    let all = |name: &str, count: u32| {
        file(&bed, name, count, |number| {
            let class = number / 65535;
            let mut line = bed.line(
                ["0.0.0.0/0", "0.0.0.0/0", "0.0.0.0/1"][class as usize],
                "10.1.1.1",
            );
            line["port"] = json!(number % 65535 + 1);
            line["proto"] = json!(["udp", "tcp", "udp"][class as usize]);
            vec![line]
        })
    };
    let said =
        "131,072 combinations of IP version, protocol, ports and prefix lengths are the most";
    let too_many = all("more", 131_073);
    tool.run(&format!("rule load {too_many}"))
        .fails(1, &[&too_many, said, "would be 131,073"]);
    assert_eq!(tool.json("status")["rules"], 0);
    let most = all("most", 131_072);
    for _ in 0..2 {
        tool.ok(&format!("rule load {most}"));
    }
    assert_eq!(tool.json("status")["rules"], 131_072);
    tool.run(&format!("rule load {too_many}"))
        .fails(1, &[said, "would be 131,073"]);
    let add = format!("rule add --server 10.1.1.1 --mac {MAC} --dev out0");
    tool.run(&format!("{add} --src 10.0.0.0/8"))
        .fails(1, &[said]);
    assert_eq!(tool.json("status")["rules"], 131_072);
    // One of a kind that is there.
    tool.ok(&format!("{add} --vlan 5"));
    tool.ok("rule del --port 7");
    tool.ok(&format!("{add} --src 10.0.0.0/8"));
}

#[test]
fn too_many_members_are_counted_and_those_that_are_there_can_be_changed() {
    let bed = Bed::new();
    let tool = bed.tool();
    let all = |name: &str, count: u32, mac: &str| {
        file(&bed, name, count, |number| {
            let line = |server: u32| {
                let server = Ipv4Addr::from(0x0a01_0000 + server).to_string();
                let mut line = bed.line(&source(number), &server);
                line["mac"] = json!(mac);
                line
            };
            (1..=255).map(line).collect()
        })
    };
    // 65,535 members.
    tool.ok(&format!("rule load {}", all("most", 257, MAC)));
    let add = format!("rule add --mac {MAC} --dev out0 --port 1 --server");
    tool.ok(&format!("{add} 10.1.0.1"));
    let said = "65,536 backends in rules with several are the most";
    tool.run(&format!("{add} 10.1.0.2")).fails(1, &[said]);
    let more = all("more", 258, MAC);
    tool.run(&format!("rule load {more}"))
        .fails(1, &[&more, said, "would be 65,790"]);
    let moved = "02:00:00:00:00:02";
    tool.ok(&format!("rule load {}", all("other", 257, moved)));
    let rows = tool.ok("rule list").out;
    let with = |mac| rows.lines().filter(|row| row.contains(mac)).count();
    assert_eq!((with(MAC), with(moved)), (1, 65_535));
}

#[test]
fn too_many_origins_are_counted_and_those_that_are_there_can_be_replaced() {
    let bed = Bed::new();
    let tool = bed.tool();
    let all = |name: &str, count: u32, server: &str| {
        file(&bed, name, count, |number| {
            let mut line = bed.line(&source(number), server);
            line["origin"] = json!("route");
            vec![line]
        })
    };
    tool.ok(&format!("rule load {}", all("most", 65_536, "10.1.1.1")));
    let said = "65,536 backends that remember how they were found are the most";
    let more = all("more", 65_537, "10.1.1.1");
    tool.run(&format!("rule load {more}"))
        .fails(1, &[&more, said, "would be 65,537"]);
    let mut one = bed.line("0.0.0.0/0", "10.1.1.1");
    tool.ok(&format!("rule load {}", bed.file(&one.to_string())));
    one["port"] = json!(1);
    one["origin"] = json!("route");
    tool.run(&format!("rule load {}", bed.file(&one.to_string())))
        .fails(1, &[said]);
    // Another server has another counter, under which it is remembered.
    tool.ok(&format!("rule load {}", all("other", 65_536, "10.1.1.2")));
    let rows = bed.list();
    let of = |server: &str| rows.iter().filter(|row| row["server"] == *server).count();
    assert_eq!((of("10.1.1.1"), of("10.1.1.2")), (1, 65_536));
    let remembered = rows.iter().filter(|row| row["origin"] == "route").count();
    assert_eq!(remembered, 65_536);
}

fn checks(warnings: &Value) -> Vec<(String, String)> {
    let warnings = warnings.as_array().expect("it was checked").iter();
    warnings
        .map(|w| (text(w, "check"), text(w, "mend")))
        .collect()
}

#[test]
fn a_load_warns_of_what_rule_add_warns_of() {
    let (bed, server) = (Bed::new(), Ns::new("server"));
    let tool = bed.tool();
    tool.ok("detach --all");
    bed.ns.veth("wan0", &server, "eth0");
    bed.ns.ip("addr add 172.17.0.1/24 dev wan0");
    server.ip("addr add 172.17.0.2/24 dev eth0");
    server.exec("ethtool -K eth0 gro off");
    tool.ok("attach in0 --mode native");
    let added = tool.json("rule add --server 172.17.0.2");
    let warned = checks(&added["warnings"]);
    assert!(!warned.is_empty());
    let listed = bed.named("listed", &tool.json("rule list").to_string());
    tool.ok("rule del --all");
    let loaded = tool.json(&format!("rule load {listed}"));
    assert_eq!(loaded["loaded"], 1);
    assert_eq!(checks(&loaded["warnings"]), warned);
    let run = tool.ok(&format!("rule load {listed}"));
    assert_eq!(run.out, "loaded 1 rule\n");
    assert_eq!(run.err.lines().count(), warned.len(), "{run:?}");
    server.exec("ethtool -K eth0 gro on");
    let quiet = checks(&tool.json(&format!("rule load {listed}"))["warnings"]);
    assert_eq!(quiet.len() + 1, warned.len(), "{quiet:?}");
}

/// The container was made again meanwhile, and has another MAC address under the same device.
#[test]
fn a_load_warns_of_mac_addresses_that_are_stale() {
    let (bed, server) = (Bed::new(), Ns::new("server"));
    let tool = bed.tool();
    bed.ns.veth("wan0", &server, "eth0");
    bed.ns.ip("addr add 172.17.0.1/24 dev wan0");
    server.ip("addr add 172.17.0.2/24 dev eth0");
    tool.ok("rule add --server 172.17.0.2");
    let listed = tool.json("rule list")[0].clone();
    server.ip("link set eth0 address 02:00:00:00:00:77");
    let rules = file(&bed, "rules", 500, |number| {
        let mut line = listed.clone();
        line["src"] = json!(source(number));
        vec![line]
    });
    let loaded = tool.json(&format!("rule load {rules}"));
    let stale: Vec<_> = checks(&loaded["warnings"]);
    let stale: Vec<_> = stale.iter().filter(|(check, _)| check == "mac").collect();
    assert_eq!(stale.len(), 1, "{loaded}");
    assert!(
        stale[0].1.contains("rule refresh --server 172.17.0.2"),
        "{stale:?}"
    );
    tool.ok("rule refresh");
    assert_eq!(bed.list()[7]["state"], "up");
}

/// So many backends take a while to look at, and each a line to tell of.
#[test]
fn of_many_backends_a_load_checks_some_and_says_so() {
    let bed = Bed::new();
    let rules = file(&bed, "rules", 1000, |number| {
        let server = Ipv4Addr::from(0x0a01_0000 + number).to_string();
        vec![bed.line(&source(number), &server)]
    });
    let run = bed.tool().ok(&format!("rule load {rules}"));
    assert_eq!(run.out, "loaded 1000 rules\n");
    assert!(run.err.contains("of 936 rules were not checked"), "{run:?}");
    let stale = run
        .err
        .lines()
        .filter(|line| line.contains("02:00:00:00:00:01"));
    assert_eq!(stale.count(), 64, "{run:?}");
}
