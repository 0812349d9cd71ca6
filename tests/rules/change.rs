//! Rules that are added, changed and deleted.

use super::bed::{Bed, MAC, servers};
use serde_json::{Value, json};

#[test]
fn the_same_server_again_is_an_update_that_keeps_what_is_not_named() {
    let bed = Bed::new();
    bed.add("--server 10.1.1.1 --weight 5");
    let tool = bed.tool();
    let updated = tool.ok("rule add --server 10.1.1.1 --mac 02:00:00:00:00:02");
    assert!(updated.out.starts_with("updated "), "{updated:?}");
    tool.ok("rule add --server 10.1.1.1 --dev in0 --mac 02:00:00:00:00:03");
    tool.ok("rule add --server 10.1.1.1 --weight 7");
    let rows = tool.json("rule list");
    assert_eq!(rows.as_array().unwrap().len(), 1);
    let row = &rows[0];
    assert_eq!(
        (&row["mac"], &row["ifname"], &row["weight"]),
        (&json!("02:00:00:00:00:03"), &json!("in0"), &json!(7))
    );
}

#[test]
fn answers_are_translated_only_where_every_backend_of_the_rule_allows_it() {
    let bed = Bed::new();
    let tool = bed.tool();
    let add = |words: &str| tool.run(&format!("rule add --mac {MAC} --dev out0 {words}"));
    bed.add("--server 10.1.1.1 --reply none --pop-vlan --pop-vlan");
    add("--server 10.1.1.2 --reply nat").fails(2, &["--reply nat", "one tag back"]);
    bed.add("--server 10.1.1.1 --reply nat --pop-vlan");
    let words = format!("rule add --mac {MAC} --dev out0 --server 10.1.1.2 --pop-vlan --pop-vlan");
    let added = tool.typed(&words).output().unwrap();
    crate::fixture::Run::from(added).fails(2, &["--reply nat", "one tag back"]);
    let rows = tool.json("rule list");
    assert_eq!(rows.as_array().unwrap().len(), 1);
    assert_eq!(rows[0]["reply"], "nat");
}

#[test]
fn a_rule_is_sticky_for_all_its_backends_until_that_is_taken_back() {
    let bed = Bed::new();
    let tool = bed.tool();
    let sticky = || -> Vec<bool> {
        let rows = tool.json("rule list");
        let rows = rows.as_array().unwrap().iter();
        rows.map(|row| row["sticky"].as_bool().unwrap()).collect()
    };
    bed.add("--server 10.1.1.1 --reply none --sticky");
    bed.add("--server 10.1.1.2");
    bed.add("--server 10.1.1.3 --keep-ip");
    assert_eq!(sticky(), [true; 3]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rules");
    std::fs::write(&file, tool.ok("rule list --json").out).unwrap();
    tool.ok("rule del --all");
    tool.ok(&format!("rule load {}", file.display()));
    assert_eq!(sticky(), [true; 3]);
    bed.add("--server 10.1.1.4 --no-sticky");
    assert_eq!(sticky(), [false; 4]);
    bed.add("--server 10.1.1.2 --proto tcp --reply direct --sticky");
    assert_eq!(sticky().iter().filter(|sticky| **sticky).count(), 1);
    tool.ok(&format!(
        "rule add --mac {MAC} --dev out0 --server 10.1.1.2 --proto tcp --keep-ip"
    ));
    assert_eq!(sticky(), [false; 5]);
}

#[test]
fn matches_that_differ_in_one_part_are_different_rules() {
    let bed = Bed::new();
    for words in [
        "",
        "--proto tcp",
        "--port 8000",
        "--src 10.0.0.0/8",
        "--src 10.0.0.0/16",
        "--src 0.0.0.0/1",
    ] {
        bed.add(&format!("--server 10.1.1.1 {words}"));
    }
    assert_eq!(
        servers(&bed.tool()),
        [
            "10.0.0.0/16 udp 7999 10.1.1.1",
            "10.0.0.0/8 udp 7999 10.1.1.1",
            "0.0.0.0/1 udp 7999 10.1.1.1",
            "0.0.0.0/0 udp 7999 10.1.1.1",
            "0.0.0.0/0 tcp 7999 10.1.1.1",
            "0.0.0.0/0 udp 8000 10.1.1.1",
        ]
    );
    assert_eq!(bed.tool().json("status")["rules"], 6);
    // A shorter prefix that has no rule of its own is not found through another one.
    bed.tool()
        .run("rule del --src 10.0.0.0/24")
        .fails(3, &["10.0.0.0/24"]);
    bed.tool().ok("rule del --src 10.0.0.0/8");
    assert_eq!(servers(&bed.tool()).len(), 5);
}

#[test]
fn deleting_takes_a_backend_a_rule_or_all() {
    let bed = Bed::new();
    let tool = bed.tool();
    for words in [
        "--server 10.1.1.1",
        "--server 10.1.1.2",
        "--server 10.1.1.3",
        "--port 1 --server 10.1.1.1",
        "--port 1 --server 10.1.1.2",
        "--port 2 --server 10.1.1.1",
    ] {
        bed.add(words);
    }
    assert_eq!(
        tool.ok("rule del --server 10.1.1.2").out,
        "deleted 1 backend of src 0.0.0.0/0 udp port 7999\n"
    );
    tool.run("rule del --server 10.1.1.2")
        .fails(3, &["10.1.1.2"]);
    assert_eq!(
        servers(&tool)[..2],
        ["0.0.0.0/0 udp 1 10.1.1.1", "0.0.0.0/0 udp 1 10.1.1.2"]
    );
    assert_eq!(
        tool.ok("rule del --port 1").out,
        "deleted 2 backends of src 0.0.0.0/0 udp port 1\n"
    );
    tool.run("rule del --port 1").fails(3, &["port 1"]);
    assert_eq!(
        tool.json("rule del --port 1 --if-exists"),
        json!({"deleted": 0, "attached": [], "detached": []})
    );
    // The last backend takes the rule with it.
    tool.ok("rule del --port 2 --server 10.1.1.1");
    assert_eq!(tool.json("status")["rules"], 1);
    assert_eq!(tool.json("rule del --all")["deleted"], 2);
    tool.run("rule del --all").fails(3, &["no rules"]);
    tool.ok("rule del --all --if-exists");
    tool.run("rule del --all --port 1").fails(2, &["--all"]);
    assert_eq!(tool.json("rule list"), json!([]));
}

#[test]
fn a_rule_has_room_for_255_backends_and_refuses_one_more() {
    let bed = Bed::new();
    for last in 1..=255 {
        bed.add(&format!("--server 10.1.1.{last}"));
    }
    let tool = bed.tool();
    let add = format!("rule add --mac {MAC} --dev out0");
    tool.run(&format!("{add} --server 10.1.2.1"))
        .fails(1, &["255"]);
    assert_eq!(servers(&tool).len(), 255);
    // An update and another rule still go.
    tool.ok(&format!("{add} --server 10.1.1.255 --weight 2"));
    tool.ok(&format!("{add} --server 10.1.2.1 --port 1"));
    assert_eq!(tool.json("rule del")["deleted"], 255);
}

#[test]
fn source_and_ttl_are_the_same_for_all_backends_of_a_rule() {
    let bed = Bed::new();
    bed.add("--server 10.1.1.1 --snat 10.9.9.9 --keep-ttl");
    bed.add("--server 10.1.1.2 --to-port 53");
    bed.add("--server 10.1.1.1 --snat 10.9.9.8");
    // One that changes MAC addresses alone has none, and takes none from the others.
    bed.add("--server 10.1.1.0 --keep-ip");
    bed.add("--server 10.1.1.3");
    let rows = bed.tool().json("rule list");
    assert_eq!(rows[0]["snat"], Value::Null);
    for row in &rows.as_array().unwrap()[1..] {
        assert_eq!(row["snat"], "10.9.9.8", "{row}");
    }
    let ttl = || -> Vec<Value> {
        let rows = bed.tool().json("rule list");
        let rows = rows.as_array().unwrap().iter();
        rows.map(|row| row["decrement_ttl"].clone()).collect()
    };
    assert_eq!(ttl(), [false; 4]);
    bed.add("--server 10.1.1.2 --decrement-ttl");
    assert_eq!(ttl(), [true; 4]);
    bed.add("--server 10.1.1.2 --keep-ttl");
    assert_eq!(ttl(), [false; 4]);
}

#[test]
fn a_large_ifindex_works() {
    let bed = Bed::new();
    for (name, index) in [("big0", 100_000), ("big1", 2_147_483_647u32)] {
        bed.ns.ip(&format!(
            "link add {name} index {index} type veth peer name {name}p"
        ));
        let row = bed.tool().json(&format!(
            "rule add --port 1 --server 10.1.1.1 --mac {MAC} --ifindex {index}"
        ));
        assert_eq!(
            (&row["ifindex"], &row["ifname"]),
            (&json!(index), &json!(name))
        );
        bed.tool().ok(&format!("attach {name}"));
    }
    let status = bed.tool().json("status");
    assert_eq!(status["interfaces"][2]["ifindex"], 2_147_483_647u32);
}
