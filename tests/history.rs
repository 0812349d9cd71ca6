//! `history` and `rollback`: what changed the rules, and back again.

use std::process::Command;

use crate::fixture::lan::{ANYWHERE, Lan, mac, receive};
use crate::fixture::{self, Ns, Run, Tool, eventually, kill};
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use serde_json::{Value, json};

fn lan(servers: usize) -> Lan {
    let lan = Lan::new(false, servers);
    lan.tool().ok("attach lan --mode skb");
    lan
}

fn history(tool: &Tool) -> Vec<Value> {
    tool.json("history").as_array().expect("an array").clone()
}

fn rows(tool: &Tool) -> Value {
    let mut rows = tool.json("rule list");
    for row in rows.as_array_mut().expect("an array") {
        // What is counted is no part of a rule.
        for key in ["forward_packages", "forward_bytes", "delivered", "failures"] {
            row.as_object_mut().expect("an object").remove(key);
        }
    }
    rows
}

fn last(tool: &Tool) -> u64 {
    history(tool)[0]["revision"].as_u64().expect("a number")
}

/// The map with what is kept, for who writes into it what the command does not.
fn kept(lan: &Lan) -> MapHandle {
    fixture::run::pinned(&lan.pins, "history")
}

#[test]
fn each_change_is_in_the_history_with_who_made_it_and_what_changed() {
    let lan = lan(2);
    let tool = lan.tool();
    let first = history(&tool);
    assert_eq!((first.len(), &first[0]["revision"]), (1, &json!(2)));
    let attached = json!([{"how": "added", "ifname": "lan"}]);
    assert_eq!(
        (&first[0]["interfaces"], &first[0]["added"]),
        (&attached, &json!(0))
    );
    let mac = mac(&lan.servers[0], "eth0");
    let add = |more: &str| {
        let words = format!("rule add --server 172.17.0.2 --mac {mac} --dev wan0 --in lan {more}");
        let mut command = tool.command(&words);
        command.env("SUDO_UID", "1234567");
        Run::from(command.output().unwrap()).ok();
    };
    add("");
    add("--weight 5");
    add("--weight 5"); // changes nothing
    let file = tempfile::NamedTempFile::new().unwrap();
    let listed = tool.json("rule list");
    let row = listed[0].as_object().unwrap();
    let rule = |port: u16| {
        let mut row = row.clone();
        row.insert("port".into(), port.into());
        Value::from(row)
    };
    let rules: Vec<Value> = (1..=5).map(rule).collect();
    std::fs::write(file.path(), Value::from(rules).to_string()).unwrap();
    let path = file.path().display();
    tool.ok(&format!("rule load {path}"));
    lan.add_backend(1, "--port 1 --in lan");
    tool.ok("rule mark down --server 172.17.0.3");
    tool.ok("rule drain --server 172.17.0.3");
    tool.ok("rule del --port 1 --in lan --src 0.0.0.0/0");
    tool.ok("rule add --port 2 --proto tcp --drop");
    tool.ok("rule del --all");

    let history = history(&tool);
    let counts =
        |row: &Value| ["added", "changed", "deleted"].map(|key| row[key].as_u64().unwrap());
    let all: Vec<[u64; 3]> = history.iter().rev().map(counts).collect();
    let expected = [
        [0, 0, 0], // an interface
        [1, 0, 0], // add
        [0, 1, 0], // its weight
        [5, 0, 0], // load
        [0, 1, 0], // another backend
        [0, 1, 0], // marked
        [0, 1, 0], // drained
        [0, 1, 0], // and deleted
        [0, 0, 1],
        [2, 0, 0], // for both IP versions
        [0, 0, 7],
    ];
    assert_eq!(all, expected);
    let oldest = &history[history.len() - 2];
    assert_eq!(
        (&oldest["revision"], &oldest["uid"], &oldest["user"]),
        (&json!(3), &json!(1_234_567), &Value::Null)
    );
    let changed = json!([{
        "how": "added", "dst": "0.0.0.0/0", "src": "0.0.0.0/0", "proto": "udp", "port": 7999, "vlan": null,
        "inner_vlan": null, "in_ifindex": lan.host.ifindex("lan"), "in": "lan",
    }]);
    assert_eq!(oldest["rules"], changed);
    assert_eq!(oldest["reachable"], true);
    assert_eq!(history[0]["rules"], json!([]));
    assert_eq!(
        (&history[0]["uid"], &history[0]["user"]),
        (&json!(0), &json!("root"))
    );
    let command = history[0]["command"].as_str().unwrap();
    assert!(command.starts_with("xdpredir --netns xdpt-"), "{command}");
    assert!(command.ends_with(" rule del --all"), "{command}");
    let time = history[0]["time"].as_str().unwrap();
    let now = Command::new("date").args(["-u", "+%FT"]).output().unwrap();
    assert!(
        time.starts_with(String::from_utf8_lossy(&now.stdout).trim()),
        "{time}"
    );
    let table = tool.ok("history").out;
    for words in [
        "added src 0.0.0.0/0 udp port 7999 in lan",
        "1234567",
        "7 rules deleted",
        &format!("rule load {path}"),
    ] {
        assert!(table.contains(words), "{words}: {table}");
    }
}

#[test]
fn fixes_and_refreshes_are_changes() {
    let lan = lan(1);
    let tool = lan.tool();
    lan.host.ip("addr add 172.17.0.1/16 dev wan0");
    tool.ok("rule add --server 172.17.0.2");
    lan.servers[0].ip("link set eth0 address 02:00:00:00:00:77");
    tool.ok("rule refresh");
    lan.servers[0].ip("link set eth0 address 02:00:00:00:00:78");
    tool.run("doctor --fix --yes");
    let commands: Vec<String> = history(&tool)
        .iter()
        .map(|row| row["command"].as_str().unwrap().to_string())
        .collect();
    assert_eq!(commands.len(), 4, "{commands:?}");
    assert!(commands[0].ends_with("doctor --fix --yes"));
    assert!(commands[1].ends_with("rule refresh"));
    assert_eq!(rows(&tool)[0]["mac"], "02:00:00:00:00:78");
    tool.ok("rollback 4");
    assert_eq!(rows(&tool)[0]["mac"], "02:00:00:00:00:77");
}

#[test]
fn the_rules_go_back_and_forth() {
    let lan = lan(2);
    let tool = lan.tool();
    lan.host.ip("addr add 172.17.0.1/16 dev wan1");
    // Nothing was attached before.
    tool.run("rollback")
        .fails(4, &["nothing was attached then", "detach --all"]);
    let mut states = vec![rows(&tool)];
    let mut step = |words: &str| {
        tool.ok(words);
        states.push(rows(&tool));
    };
    let netns = &lan.servers[0].name;
    step(&format!(
        "rule add --server-netns {netns} --sticky --weight 7"
    ));
    let matches = "--port 1-9 --vlan 5 --inner-vlan 6 --in lan";
    let rewriting = "--snat 172.17.0.9 --to-port 53 --pop-vlan --too-long drop --keep-ttl";
    step(&format!(
        "rule add {matches} --server 172.17.0.3 {rewriting}"
    ));
    step("rule add --server 172.17.0.3 --reply nat");
    step("rule add --dst fd00::/8 --proto any --forward wan0 --mac 02:00:00:00:00:01");
    step("rule mark down --server 172.17.0.3");
    step("rule add --port 53 --pass");
    step("rule del --server 172.17.0.2");
    step("rule del --all");
    assert_eq!(last(&tool), 10);
    let mut revision = 10;
    // By steps of all lengths, forwards and backwards.
    for to in [10, 2, 10, 3, 9, 4, 8, 6, 6] {
        let report = tool.json(&format!("rollback {to}"));
        let want = &states[to - 2];
        assert_eq!(&rows(&tool), want, "revision {to}");
        let changed = ["added", "changed", "deleted"].map(|key| report[key].as_u64().unwrap());
        if changed != [0, 0, 0] {
            revision += 1;
            states.push(want.clone());
        }
        assert_eq!(
            (&report["to"], &report["revision"]),
            (&json!(to), &json!(revision))
        );
    }
    assert_eq!(last(&tool), revision);
    // The last change is taken back, and then that.
    let before = rows(&tool);
    tool.ok("rule del --all");
    let said = tool.ok("rollback").out;
    assert_eq!(
        said.lines().next().unwrap(),
        format!(
            "all is as after revision {revision} again: 3 rules added; that is revision {}",
            revision + 2
        )
    );
    assert_eq!(rows(&tool), before);
    tool.ok("rollback");
    assert_eq!(rows(&tool), json!([]));
    tool.ok("rollback");
    assert_eq!(rows(&tool), before);
    let said = tool.ok(&format!("rollback {revision}")).out;
    assert_eq!(
        said,
        format!("all is as after revision {revision} already\n")
    );
    tool.run("rollback 99")
        .fails(3, &["revision 99: the last one is", "history"]);
    tool.run("rollback 0")
        .fails(3, &["revision 0", "the earliest that is kept is 1"]);
    tool.run("rollback 1")
        .fails(4, &["nothing was attached then"]);
    tool.run("rollback x").fails(2, &["x"]);
    assert_eq!(rows(&tool), before);
}

#[test]
fn backends_that_stay_keep_their_counters_and_others_begin_at_zero() {
    let lan = lan(2);
    let tool = lan.tool();
    lan.add_backend(0, "");
    let (vm, servers) = (lan.vm_socket(), [0, 1].map(|n| lan.server_socket(n)));
    let send = |server: usize| {
        vm.send_to(b"hello", ANYWHERE).unwrap();
        receive(&servers[server]);
    };
    send(0);
    tool.ok("rule add --server 172.17.0.2 --weight 9");
    tool.ok("rollback");
    assert_eq!(
        (lan.forwarded(0).0, &rows(&tool)[0]["weight"]),
        (1, &json!(1))
    );
    send(0);
    let one = last(&tool);

    // Another backend may get the counter of the one that was deleted.
    tool.ok("rule del --all");
    for port in 1..20 {
        lan.add_backend(1, &format!("--port {port}"));
        tool.ok("rule del --all");
    }
    lan.add_backend(1, "");
    send(1);
    send(1);
    send(1);
    let other = last(&tool);
    tool.ok(&format!("rollback {one}"));
    assert_eq!(lan.forwarded(0).0, 0);
    send(0);
    assert_eq!(lan.forwarded(0).0, 1);
    tool.ok(&format!("rollback {other}"));
    assert_eq!(lan.forwarded(1).0, 0);
}

#[test]
fn backends_whose_device_is_gone_are_found_again() {
    let lan = lan(0);
    let tool = lan.tool();
    let server = Ns::new("server");
    let connect = |addr: &str| {
        lan.host.veth("wan0", &server, "eth0");
        server.ip(&format!("addr add {addr} dev eth0"));
    };
    connect("172.17.0.2/16");
    tool.ok(&format!("rule add --server-netns {}", server.name));
    tool.ok("rule add --port 1 --server 172.17.0.9 --mac 02:00:00:00:00:01 --dev wan0 --reply nat");
    tool.ok("rule add --port 2 --dst 10.0.0.0/8 --forward wan0");
    let before = rows(&tool);
    tool.ok("rule del --all");
    lan.host.ip("link del wan0");
    eventually("the veth is gone", || {
        !lan.host.ip("-br link").contains("wan0@")
    });
    // So that nothing has the index of what was.
    lan.host.ip("link add wan0x type bridge");
    connect("172.17.0.3/16");

    let run = tool.run("rollback");
    assert_eq!(run.code, 1, "{run:?}");
    assert_eq!(run.err.lines().count(), 2, "{run:?}");
    for words in [
        "port 1 -> 172.17.0.9 stays as it is: its device is gone, and nothing tells how to find it again",
        "dst 10.0.0.0/8 src 0.0.0.0/0 udp port 2 stays as it is: device",
    ] {
        assert!(run.err.contains(words), "{words}: {run:?}");
    }
    assert!(
        run.out
            .contains("-> 172.17.0.2: server 172.17.0.2 -> 172.17.0.3"),
        "{run:?}"
    );
    let now = rows(&tool);
    assert_eq!(
        now.as_array().unwrap().len(),
        before.as_array().unwrap().len()
    );
    let row = |port: u16| {
        let rows = now.as_array().unwrap().iter();
        rows.clone()
            .find(|row| row["port"] == port)
            .unwrap()
            .clone()
    };
    assert_eq!(
        (&row(7999)["server"], &row(7999)["ifname"]),
        (&json!("172.17.0.3"), &json!("wan0"))
    );
    assert_eq!(row(1)["state"], "device_gone");
    assert_eq!(row(2)["ifname"], Value::Null);
    let socket = fixture::lan::socket(&server, "0.0.0.0:7999");
    lan.vm_socket().send_to(b"hello", ANYWHERE).unwrap();
    assert_eq!(receive(&socket).0, "hello");
}

/// Wherever a run ends, the rules are old or new, and the history leads back to each of them.
#[test]
fn a_run_that_is_killed_leaves_a_history_that_leads_back() {
    let lan = lan(0);
    let tool = lan.tool();
    tool.ok("rule add --port 1 --drop");
    let before = rows(&tool);
    let mut n = 0;
    loop {
        let revision = last(&tool);
        let ended = !kill::before_change(&mut tool.command("rule add --port 2-3 --pass"), n);
        let now = rows(&tool);
        let is_new = now != before;
        assert_eq!(last(&tool), revision + u64::from(is_new), "{n}");
        if is_new {
            tool.ok("rollback");
        } else {
            tool.ok("rule add --port 4 --drop");
            tool.ok("rollback");
        }
        assert_eq!(rows(&tool), before, "{n}");
        assert_eq!(history(&tool).last().unwrap()["revision"], 2);
        if ended {
            break;
        }
        n += 1;
    }
    assert!(n > 5, "{n}");
    tool.ok("rollback 2");
    assert_eq!(rows(&tool), json!([]));
    let numbers = kept(&lan).keys().count();
    assert_eq!(
        numbers,
        history(&tool).len(),
        "a change of a rule takes one chunk"
    );
}

#[test]
fn a_rollback_that_is_killed_leaves_the_old_rules_or_the_new() {
    let lan = lan(0);
    let tool = lan.tool();
    tool.ok("rule add --port 1 --drop");
    tool.ok("rule add --port 1 --pass");
    let states = [3, 4].map(|revision| {
        tool.run(&format!("rollback {revision}"));
        rows(&tool)
    });
    let mut n = 0;
    while kill::before_change(&mut tool.command("rollback 3"), n) {
        assert!(states.contains(&rows(&tool)), "{n}");
        tool.ok("rollback 4");
        assert_eq!(rows(&tool), states[1]);
        n += 1;
    }
    assert!(n > 5, "{n}");
    assert_eq!(rows(&tool), states[0]);
}

fn key(revision: u64) -> Vec<u8> {
    [revision.to_ne_bytes(), [0; 8]].concat()
}

/// A revision that is like another one, as the command writes it: see src/datapath/history.rs.
fn put_like(map: &MapHandle, first: &[u8], revision: u64, oldest: u64) {
    let word = |place: usize| first[8 * place..][..8].to_vec();
    let number = |place| u64::from_ne_bytes(word(place).try_into().unwrap()) as usize;
    let (json, before) = first[56..].split_at(number(3));
    let mut json: Value = serde_json::from_slice(json).unwrap();
    json["revision"] = revision.into();
    let json = json.to_string().into_bytes();
    let words = [
        oldest,
        1 + revision - oldest,
        1,
        json.len() as u64,
        number(4) as u64,
        0,
        0,
    ];
    let words = words.map(u64::to_ne_bytes).concat();
    let mut bytes = [&words, &json, &before[..number(4)]].concat();
    bytes.resize(first.len(), 0);
    map.update(&key(revision), &bytes, MapFlags::ANY).unwrap();
}

/// Gives the live rule set another number, as it has after many changes.
fn set_revision(lan: &Lan, revision: u64) {
    let live = fixture::run::pinned(&lan.pins, "live");
    let slot = live.lookup(&[0; 4], MapFlags::ANY).unwrap().unwrap()[0] & 1;
    let sets = fixture::run::pinned(&lan.pins, "rulesets");
    let key = [slot, 0, 0, 0];
    let mut set = sets.lookup(&key, MapFlags::ANY).unwrap().unwrap();
    set[..8].copy_from_slice(&revision.to_ne_bytes());
    sets.update(&key, &set, MapFlags::ANY).unwrap();
}

#[test]
fn a_thousand_changes_are_kept_and_the_oldest_goes() {
    let lan = lan(0);
    let tool = lan.tool();
    tool.ok("rule add --port 1 --drop");
    let map = kept(&lan);
    let first = map.lookup(&key(3), MapFlags::ANY).unwrap().unwrap();
    for revision in 4..=1001 {
        put_like(&map, &first, revision, 2);
    }
    set_revision(&lan, 1001);
    assert_eq!(history(&tool).len(), 1000);
    tool.ok("rule add --port 2 --drop");
    let all = history(&tool);
    assert_eq!((all.len(), map.keys().count()), (1000, 1000));
    tool.ok("rollback");
    assert_eq!((history(&tool).len(), map.keys().count()), (1000, 1000));
    assert!(map.lookup(&key(3), MapFlags::ANY).unwrap().is_none());
    tool.run("rollback 2")
        .fails(3, &["revision 2", "the earliest that is kept is 3"]);
    tool.ok("rollback 3");
    assert_eq!(rows(&tool), json!([]));
}

#[test]
fn what_others_wrote_into_the_history_is_refused_and_the_rules_still_change() {
    let lan = lan(0);
    let tool = lan.tool();
    tool.ok("rule add --port 1 --drop");
    tool.ok("rule add --port 2 --drop");
    let map = kept(&lan);
    let good = map.lookup(&key(4), MapFlags::ANY).unwrap().unwrap();
    let before = rows(&tool);

    // What was before is damaged, or claims to be what it is not.
    let end = good.iter().rposition(|&byte| byte != 0).unwrap();
    for place in (end - 60..=end).step_by(6) {
        let mut damaged = good.clone();
        damaged[place] ^= 0x55;
        map.update(&key(4), &damaged, MapFlags::ANY).unwrap();
        let run = tool.run("rollback");
        assert!(
            run.code == 0 || run.code == 1 && run.err.lines().count() == 1,
            "{run:?}"
        );
        map.update(&key(4), &good, MapFlags::ANY).unwrap();
        if run.code == 0 {
            tool.ok("rollback 4");
        }
        assert_eq!(rows(&tool), before, "{place}");
    }
    // The numbers in front of it.
    let newest = key(last(&tool));
    let good = map.lookup(&newest, MapFlags::ANY).unwrap().unwrap();
    for word in 0..7 {
        for value in [0, u64::MAX, 1 << 40] {
            let mut damaged = good.clone();
            damaged[8 * word..][..8].copy_from_slice(&u64::to_ne_bytes(value));
            map.update(&newest, &damaged, MapFlags::ANY).unwrap();
            let run = tool.run("history");
            assert!(run.code == 0 || run.err.lines().count() == 1, "{run:?}");
            tool.run("rollback");
        }
    }
    // Nothing at all, and far too much.
    for key in map.keys().collect::<Vec<_>>() {
        map.delete(&key).unwrap();
    }
    assert_eq!(history(&tool), [] as [Value; 0]);
    for number in 0..u64::from(map.max_entries()) {
        let key = [(1u64 << 60).to_ne_bytes(), number.to_ne_bytes()].concat();
        map.update(&key, &good, MapFlags::ANY).unwrap();
    }
    tool.ok("rule add --port 3 --drop");
    assert_eq!(history(&tool).len(), 1);
    tool.ok("rollback");
}

#[test]
fn what_somebody_typed_is_cut_where_it_is_long_and_reaches_no_terminal() {
    let lan = lan(0);
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("e\x1b[31m`id`\n\u{202e}");
    std::os::unix::fs::symlink(fixture::BINARY, &program).unwrap();
    let run = |pin_dir: String| {
        let mut command = Command::new(&program);
        command.args(["--netns", &lan.host.name, "--pin-dir", &pin_dir]);
        command.args(["rule", "add", "--port", "1", "--drop"]);
        Run::from(command.output().unwrap()).ok();
    };
    let pins = lan.pins.dir().display().to_string();
    run(pins.clone());
    lan.tool().ok("rollback");
    run(format!("{}{pins}", "/.".repeat(1000)));
    let table = lan.tool().ok("history").out;
    for bad in ['\x1b', '`', '\u{202e}'] {
        assert!(!table.contains(bad), "{table}");
    }
    assert!(table.contains("/./.") && table.contains("…'"), "{table}");
    assert_eq!(table.lines().count(), 8, "{table}");
}

#[test]
fn interfaces_come_back_with_their_mode_and_their_policy() {
    let lan = lan(2);
    let tool = lan.tool();
    let interfaces = || {
        let status = tool.json("status");
        let all = status["interfaces"].as_array().unwrap().clone();
        let all = all
            .iter()
            .map(|i| json!([i["ifname"], i["mode"], i["policy"], i["policy_ifname"]]));
        all.collect::<Vec<_>>()
    };
    let mut states = vec![(interfaces(), rows(&tool))];
    for words in [
        "attach wan0 --mode native --policy drop",
        "rule add --port 1 --drop",
        "attach wan1 --mode skb --policy forward:lan",
        "rule del --all",
        "policy wan0 forward:wan1",
    ] {
        tool.ok(words);
        states.push((interfaces(), rows(&tool)));
    }
    tool.ok("policy wan0 forward:wan1");
    assert_eq!(last(&tool), 7, "what is so already is no change");
    for to in [6, 2, 7, 5, 3, 4, 3] {
        tool.ok(&format!("rollback {to}"));
        assert_eq!((interfaces(), rows(&tool)), states[to - 2], "revision {to}");
    }
    let table = tool.ok("history").out;
    for words in [
        "added interface wan0",
        "deleted interface wan0",
        "changed interface wan0",
        "added interface wan1",
    ] {
        assert!(table.contains(words), "{words}: {table}");
    }
    tool.ok("rollback 3");
    lan.host.ip("link del wan0");
    eventually("it is gone", || !lan.host.ip("-br link").contains("wan0@"));
    tool.ok("rollback 2");
    let run = tool.run("rollback 3");
    run.fails(1, &["wan0 is not attached again", "wan0"]);
}
