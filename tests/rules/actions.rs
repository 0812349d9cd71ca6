//! Rules that forward, pass or drop, and the fields of matches: added, changed, listed, deleted, loaded.

use serde_json::{Value, json};

use super::bed::{Bed, MAC};

/// The rules in the order of the list, in short.
fn listed(bed: &Bed) -> Vec<String> {
    let rows = bed.tool().json("rule list");
    let rows = rows.as_array().expect("rows").iter();
    let text = |row: &Value, key: &str| row[key].to_string().replace('"', "");
    let short = |row| {
        let keys = ["dst", "src", "proto", "port", "inner_vlan", "in", "action"];
        keys.map(|key| text(row, key)).join(" ")
    };
    rows.map(short).collect()
}

#[test]
fn rules_are_listed_in_the_order_in_which_they_win() {
    let bed = Bed::new();
    let sorted = [
        "--dst 10.0.0.1 --proto any --pass",
        "--dst 10.0.0.0/8 --proto any --pass",
        "--src 10.0.0.1 --proto any --pass",
        "--src 10.0.0.0/8 --port 53 --pass",
        "--src 10.0.0.0/8 --port 50-60 --pass",
        "--src 10.0.0.0/8 --port 40-60 --pass",
        "--src 10.0.0.0/8 --port any --vlan 5 --inner-vlan 6 --pass",
        "--src 10.0.0.0/8 --port any --in in0 --pass",
        "--src 10.0.0.0/8 --port any --pass",
        "--src 10.0.0.0/8 --proto any --pass",
        "--src fd00::/8 --port 53 --pass",
    ];
    for words in sorted.iter().rev() {
        bed.tool().ok(&format!("rule add {words}"));
    }
    let [v4, v6] = ["0.0.0.0/0", "::/0"];
    let expected = [
        format!("10.0.0.1/32 {v4} any any null null pass"),
        format!("10.0.0.0/8 {v4} any any null null pass"),
        format!("{v4} 10.0.0.1/32 any any null null pass"),
        format!("{v4} 10.0.0.0/8 udp 53 null null pass"),
        format!("{v4} 10.0.0.0/8 udp 50-60 null null pass"),
        format!("{v4} 10.0.0.0/8 udp 40-60 null null pass"),
        format!("{v4} 10.0.0.0/8 udp any 6 null pass"),
        format!("{v4} 10.0.0.0/8 udp any null in0 pass"),
        format!("{v4} 10.0.0.0/8 udp any null null pass"),
        format!("{v4} 10.0.0.0/8 any any null null pass"),
        format!("{v6} fd00::/8 udp 53 null null pass"),
    ];
    assert_eq!(listed(&bed), expected);
    for words in sorted {
        let words = words.trim_end_matches(" --pass");
        assert_eq!(bed.tool().json(&format!("rule del {words}"))["deleted"], 1);
    }
    assert_eq!(listed(&bed), [""; 0]);
}

#[test]
fn a_rule_without_an_address_is_added_for_both_ip_versions() {
    let bed = Bed::new();
    let tool = bed.tool();
    let added = tool.ok("rule add --in in0 --proto tcp --port 22 --pass");
    assert_eq!(
        added.out,
        "added src 0.0.0.0/0 tcp port 22 in in0 -> pass\nadded src ::/0 tcp port 22 in in0 -> pass\n"
    );
    let updated = tool.json("rule add --in in0 --proto tcp --port 22 --drop");
    let rules = updated["rules"].as_array().expect("rules");
    assert_eq!((rules.len(), &rules[1]["action"]), (2, &json!("drop")));
    assert_eq!(updated["warnings"], json!([]));
    tool.ok("rule add --dst 0.0.0.0/0 --proto icmp --drop");
    assert_eq!(tool.json("status")["rules"], 3);
    let deleted = tool.ok("rule del --in in0 --proto tcp --port 22");
    assert_eq!(
        deleted.out,
        "deleted src 0.0.0.0/0 tcp port 22 in in0 and src ::/0 tcp port 22 in in0\n"
    );
    tool.run("rule del --in in0 --proto tcp --port 22").fails(
        3,
        &["no rule src 0.0.0.0/0 tcp port 22 in in0", "rule list"],
    );
}

#[test]
fn backends_are_not_lost_to_another_action_and_take_the_place_of_one() {
    let bed = Bed::new();
    let tool = bed.tool();
    bed.add("--server 10.1.1.1");
    for action in ["--pass", "--drop", "--forward out0"] {
        tool.run(&format!("rule add --src 0.0.0.0/0 {action}"))
            .fails(
                4,
                &["src 0.0.0.0/0 udp port 7999", "rule del --src 0.0.0.0/0"],
            );
        // Neither is that of the other IP version added.
        tool.run(&format!("rule add {action}"))
            .fails(4, &["rule del"]);
    }
    assert_eq!(tool.json("status")["rules"], 1);
    assert_eq!(listed(&bed).len(), 1);
    tool.ok("rule add --src 0.0.0.0/0 --port 53 --drop");
    bed.add("--server 10.1.1.1 --port 53");
    let row = tool.json("rule list --port 53");
    assert_eq!(
        (&row[0]["action"], &row[0]["server"]),
        (&json!("redirect"), &json!("10.1.1.1"))
    );
}

#[test]
fn a_forwarding_rule_has_a_device_and_perhaps_a_mac_address() {
    let bed = Bed::new();
    let tool = bed.tool();
    let out = bed.ns.ifindex("out0");
    let forward = "rule add --src 10.0.0.0/8 --proto any --forward out0";
    let added = tool.ok(&format!("{forward} --mac {MAC} --too-long drop"));
    assert_eq!(
        added.out,
        format!("added src 10.0.0.0/8 any protocol -> forward out0 mac {MAC} too-long drop\n")
    );
    let row = &tool.json("rule list")[0];
    let keys = [
        "action", "mac", "ifindex", "ifname", "too_long", "server", "state",
    ];
    let values = [
        json!("forward"),
        json!(MAC),
        json!(out),
        json!("out0"),
        json!("drop"),
        Value::Null,
        json!("up"),
    ];
    assert_eq!(keys.map(|key| row[key].clone()), values);
    // An update keeps what is not given but the MAC address, which belongs to the action.
    let row = &tool.json(forward)["rules"][0];
    assert_eq!(
        (&row["mac"], &row["too_long"]),
        (&Value::Null, &json!("drop"))
    );
    let text = tool.ok("rule list").out;
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(
        words,
        [
            "source",
            "port",
            "action",
            "server",
            "mac",
            "device",
            "weight",
            "packets",
            "bytes",
            "rewriting",
            "10.0.0.0/8",
            "any",
            "forward",
            "-",
            "-",
            "out0",
            "-",
            "0",
            "0B",
            "too-long",
            "drop"
        ]
    );
    bed.ns.ip("link del out0");
    let row = &tool.json("rule list")[0];
    assert_eq!(
        (&row["ifname"], &row["state"]),
        (&Value::Null, &json!("device_gone"))
    );
    assert!(tool.ok("rule list").out.contains("(gone)"));
}

#[test]
fn an_interface_answers_to_all_of_its_names_and_is_deleted_by_its_index_when_gone() {
    let bed = Bed::new();
    let tool = bed.tool();
    bed.ns
        .ip("link property add dev in0 altname an-alternative-name");
    let index = bed.ns.ifindex("in0");
    let rule = "--src 10.0.0.0/8 --port 53";
    tool.ok(&format!("rule add {rule} --in an-alternative-name --pass"));
    let row = &tool.json("rule list --in in0")[0];
    assert_eq!(
        (&row["in"], &row["in_ifindex"]),
        (&json!("in0"), &json!(index))
    );
    tool.run("rule list --in out0").fails(3, &["no such rule"]);
    tool.run("rule list --in nope0").fails(3, &["nope0"]);
    // Another rule, of the same match but for the interface.
    tool.ok(&format!("rule add {rule} --drop"));
    assert_eq!(listed(&bed).len(), 2);
    bed.ns.ip("link set in0 down");
    bed.ns.ip("link set in0 name renamed0");
    assert_eq!(tool.json("rule list --in renamed0")[0]["in"], "renamed0");

    tool.ok(&format!("rule add {rule} --in out0 --pass"));
    let index = bed.ns.ifindex("out0");
    bed.ns.ip("link del out0");
    let gone = tool.ok(&format!("rule list --in {index}"));
    assert!(gone.out.contains(&format!("{index} (gone)")), "{gone:?}");
    let deleted = tool.ok(&format!("rule del {rule} --in {index}"));
    assert!(
        deleted.out.contains(&format!("in {index} (gone)")),
        "{deleted:?}"
    );
    assert_eq!(listed(&bed).len(), 2);
}

#[test]
fn options_that_narrow_a_list_compare_each_field() {
    let bed = Bed::new();
    let tool = bed.tool();
    for words in [
        "--dst 10.2.0.0/16 --pass",
        "--src 10.0.0.0/8 --port 50-60 --drop",
        "--src 10.0.0.0/8 --port any --vlan 5 --inner-vlan 6 --pass",
        "--src 10.0.0.0/8 --proto sctp --in in0 --forward out0",
    ] {
        tool.ok(&format!("rule add {words}"));
    }
    bed.add("--server 10.1.1.1");
    let cases = [
        ("", 5),
        ("--dst 10.2.0.0/16", 1),
        ("--dst 0.0.0.0/0", 4),
        ("--port 50-60", 1),
        ("--port 7999", 3),
        ("--port any", 1),
        ("--proto sctp", 1),
        ("--vlan 5 --inner-vlan 6", 1),
        ("--inner-vlan 6", 1),
        ("--in in0", 1),
        ("--server 10.1.1.1", 1),
    ];
    for (words, count) in cases {
        let list = tool.json(&format!("rule list {words}"));
        let stats = tool.json(&format!("stats {words}"));
        assert_eq!(list.as_array().map(Vec::len), Some(count), "{words}");
        assert_eq!(stats["rules"], list, "{words}");
    }
    // A port of the range is another match.
    tool.run("rule list --port 55").fails(3, &["no such rule"]);
    let table = tool.ok("rule list").out;
    let heading: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(
        heading[..5],
        ["in", "destination", "source", "port", "action"]
    );
    assert!(
        table.contains("udp/any@5.6") && table.contains("udp/50-60"),
        "{table}"
    );
    assert_eq!(
        tool.ok("rule refresh --port 50-60").out,
        "nothing to refresh\n"
    );
    let deleted = tool.ok("rule del --all").out;
    assert_eq!(
        deleted,
        "deleted 1 backend, and 4 rules without backends: all rules\n"
    );
}

#[test]
fn redirecting_rules_have_all_fields_too() {
    let bed = Bed::new();
    let tool = bed.tool();
    let words = "--dst 10.2.0.0/16 --src 10.0.0.0/8 --proto any --port 50-60 --vlan 5 --inner-vlan 6 --in in0";
    let added = bed.add(&format!(
        "--server 10.1.1.1 --keep-ip --pop-vlan --pop-vlan --too-long pass {words}"
    ));
    let first = added.out.lines().next().unwrap();
    assert_eq!(
        first,
        format!(
            "added dst 10.2.0.0/16 src 10.0.0.0/8 any protocol port 50-60 vlan 5 inner-vlan 6 in in0 -> \
             10.1.1.1 {MAC} via out0 weight 1 keep-ip pop-vlan twice too-long pass"
        )
    );
    let row = &tool.json("rule list")[0];
    assert_eq!(
        (&row["pop_vlan"], &row["pop_vlans"], &row["too_long"]),
        (&json!(true), &json!(2), &json!("pass"))
    );
    // What belongs to the rule stays with an update, and with another backend.
    bed.add(&format!("--server 10.1.1.1 --weight 3 {words}"));
    bed.add(&format!("--server 10.1.1.2 --keep-ip {words}"));
    let rows = tool.json("rule list");
    assert_eq!(
        (&rows[0]["pop_vlans"], &rows[1]["too_long"]),
        (&json!(2), &json!("pass"))
    );
    // A new backend without it would be rewritten.
    tool.run(&format!(
        "rule add --server 10.1.1.3 --mac {MAC} --dev out0 {words}"
    ))
    .fails(2, &["--proto any", "--keep-ip"]);
    assert_eq!(
        tool.json(&format!("rule del --server 10.1.1.2 {words}"))["deleted"],
        1
    );
    assert_eq!(tool.json(&format!("rule del {words}"))["deleted"], 1);
}

#[test]
fn what_was_listed_can_be_loaded_again_whatever_it_says() {
    let bed = Bed::new();
    let tool = bed.tool();
    for words in [
        "--dst 10.2.0.0/16 --proto icmp --in in0 --pass",
        "--proto any --port 5-9 --vlan 5 --inner-vlan 6 --drop",
        "--src fd00::/8 --proto any --forward out0 --mac 02:00:00:00:00:77 --too-long pass",
        "--proto sctp --port any --forward out0",
    ] {
        tool.ok(&format!("rule add {words}"));
    }
    bed.add(
        "--server 10.1.1.1 --proto sctp --keep-ip --port 1-65535 --dst 10.2.0.9 --too-long drop",
    );
    bed.add("--server fd00::1 --vlan 5 --inner-vlan 6 --pop-vlan --pop-vlan --port any --in in0");
    let before = tool.json("rule list");
    assert_eq!(before.as_array().map(Vec::len), Some(8));
    let file = tempfile::NamedTempFile::new().unwrap();
    let load = format!("rule load {}", file.path().display());
    std::fs::write(file.path(), before.to_string()).unwrap();
    assert_eq!(tool.json(&load)["loaded"], 8);
    assert_eq!(tool.json("rule list"), before);
    tool.ok("rule del --all");
    let rows = before.as_array().unwrap().iter();
    let lines: Vec<String> = rows.map(Value::to_string).collect();
    std::fs::write(file.path(), lines.join("\n")).unwrap();
    tool.ok(&load);
    assert_eq!(tool.json("rule list"), before);
}

#[test]
fn a_file_with_one_rule_that_cannot_be_meant_loads_nothing() {
    let bed = Bed::new();
    let tool = bed.tool();
    let good = json!({"src": "10.0.0.0/8", "proto": "any", "port": "any", "action": "drop"});
    let file = tempfile::NamedTempFile::new().unwrap();
    let in0 = bed.ns.ifindex("in0");
    for (key, value, code, said) in [
        ("action", json!("reject"), 2, "reject"),
        ("in", json!("nope0"), 3, "nope0"),
        ("in_ifindex", json!(4242), 3, "4242"),
        ("port", json!("9-7"), 2, "did you mean 7-9?"),
        ("port", json!(true), 2, "a range such as"),
        ("dst", json!("fd00::/8"), 2, "both as IPv4"),
        ("inner_vlan", json!(7), 2, "inner_vlan 7"),
        (
            "server",
            json!("10.1.1.1"),
            2,
            "action drop: takes no server",
        ),
        ("src", json!("11.0.0.0/8"), 0, ""),
    ] {
        let mut line = good.clone();
        line["src"] = json!("12.0.0.0/8");
        line[key] = value;
        std::fs::write(file.path(), format!("{good}\n{line}\n")).unwrap();
        let run = tool.run(&format!("rule load {}", file.path().display()));
        if code == 0 {
            run.ok();
            continue;
        }
        run.fails(code, &["line 2", said]);
        assert_eq!(tool.json("status")["rules"], 0, "{key}");
    }
    let mut forward = good.clone();
    forward["action"] = json!("forward");
    (forward["ifindex"], forward["in"]) = (json!(in0), json!("in0"));
    std::fs::write(file.path(), forward.to_string()).unwrap();
    tool.run(&format!("rule load {}", file.path().display()))
        .fails(2, &["line 1", "in0", "not sent back"]);
}
