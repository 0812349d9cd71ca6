//! docs/json.md has every key that a verb prints with `--json`.

use std::collections::BTreeSet;

use crate::fixture::foreign::{Foreign, XDP};
use crate::fixture::lan::Lan;
use crate::fixture::{self, Ns};
use serde_json::Value;

const PAGE: &str = include_str!("../docs/json.md");

/// The words of the page that stand in backticks.
fn documented() -> BTreeSet<&'static str> {
    PAGE.split('`').skip(1).step_by(2).collect()
}

fn keys(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            // The page refers to others for the keys of `outcomes`, and of what files have.
            let elsewhere = ["outcomes", "value", "old"];
            let inner = map
                .iter()
                .filter(|(key, _)| !elsewhere.contains(&key.as_str()));
            inner.for_each(|(_, value)| keys(value, found));
            found.extend(map.keys().cloned());
        }
        Value::Array(all) => all.iter().for_each(|value| keys(value, found)),
        _ => {}
    }
}

#[test]
fn every_key_is_documented() {
    let lan = Lan::new(false, 1);
    lan.host.ip("addr add 172.17.0.1/16 dev wan0");
    let gone = Ns::new("gone");
    let tool = lan.tool();
    let mut found = BTreeSet::new();
    let mut run = |words: &str| keys(&tool.run(&format!("{words} --json")).json(), &mut found);
    lan.servers[0].exec("ethtool -K eth0 gro off");
    run("attach lan --mode native --policy drop");
    run("policy lan pass");
    run("policy lan");
    run("rule add --server 172.17.0.2");
    lan.servers[0].ip("link set eth0 address 02:00:00:00:00:77");
    run("rule refresh");
    gone.ip("addr add 10.1.1.1/32 dev lo");
    lan.host.veth("more", &gone, "eth0");
    gone.ip("addr add 172.18.0.2/16 dev eth0");
    run(&format!("rule add --port 1 --server-netns {}", gone.name));
    lan.host.ip("link del more");
    run("rule refresh --port 1");
    run("rule add --in lan --proto icmp --pass");
    run("rule add --in lan --port 3 --socket");
    run("rule list");
    run("status");
    run("upgrade");
    run("features");
    run("stats --per-cpu");
    run("doctor --fix --yes");
    run("rule add --port 2 --server 172.17.0.2 --reply nat");
    lan.vm_socket()
        .send_to(b"question", "11.22.33.44:2")
        .unwrap();
    fixture::eventually("the question is remembered", || {
        tool.json("flow count")["connections"] == 1
    });
    run("flow list");
    let mut dump = tool.spawn("dump lan --port 9 --count 1 --json");
    fixture::eventually("a frame is taken", || {
        let sent = lan.vm_socket().send_to(b"taken", "11.22.33.44:9");
        sent.is_ok() && dump.try_wait().unwrap().is_some()
    });
    let taken: fixture::Run = dump.wait_with_output().unwrap().into();
    keys(&taken.ok().json(), &mut found);
    let mut run = |words: &str| keys(&tool.run(&format!("{words} --json")).json(), &mut found);
    let pin = lan.pins.dir().with_file_name("pass");
    Foreign::returning("pass", 2, XDP).pin(&pin);
    run(&format!("chain add lan {}", pin.display()));
    run("chain list");
    run("status");
    run("stats");
    run("explain --in lan --src 192.168.122.10 --dst 11.22.33.44 --port 2");
    run("chain del lan pass");
    let capture = "capture --sample 1/1 --count 1 --json";
    let mut captured = tool.spawn(capture);
    fixture::eventually("it captures", || {
        let _ = lan.vm_socket().send_to(b"question", "11.22.33.44:2");
        captured.try_wait().expect("it is ours").is_some()
    });
    let captured: fixture::Run = captured.wait_with_output().expect("it ends").into();
    for line in captured.ok().out.lines() {
        keys(&serde_json::from_str(line).expect("an object"), &mut found);
    }
    let mut run = |words: &str| keys(&tool.run(&format!("{words} --json")).json(), &mut found);
    run("flow count");
    run("stats");
    run("flow del --all");
    run("rule mark down --server 172.17.0.2");
    run("rule drain --server 172.17.0.2 --port 2");
    run("history");
    run("rollback");
    run("doctor --undo");
    run("rule del --port 1");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rules.toml");
    std::fs::write(&file, "[[rule]]\n[[rule.backend]]\nnetns = \"nowhere\"\n").unwrap();
    let file = file.display();
    run(&format!("diff --partial {file}"));
    run(&format!("apply --partial {file}"));
    run("detach --all");
    let documented = documented();
    let missing: Vec<&String> = found
        .iter()
        .filter(|k| !documented.contains(k.as_str()))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    for key in [
        "snat_port",
        "evicted",
        "both_ways",
        "ended",
        "new",
        "error",
        "undone",
        "tx_dropped",
        "cpus",
        "netns",
        "mend",
        "how",
        "reachable",
        "to",
    ] {
        assert!(found.contains(key), "{key} was not met: {found:?}");
    }
}
