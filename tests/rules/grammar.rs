//! What the rule verbs refuse, and in which words.

use super::bed::{Bed, MAC};
use crate::fixture::{Ns, Pins, Tool};
use serde_json::json;

#[test]
fn what_cannot_be_meant_is_refused_before_anything_is_touched() {
    let bed = Bed::new();
    let cases: [(&str, i32, &[&str]); 40] = [
        ("--server 10.1.1.300", 2, &["10.1.1.300"]),
        ("--server localhost", 2, &["localhost"]),
        ("--server 127.0.0.1", 2, &["127.0.0.1"]),
        ("--server 224.0.0.1", 2, &["224.0.0.1"]),
        ("--server 0.0.0.0", 2, &["0.0.0.0"]),
        ("--server 255.255.255.255", 2, &["255.255.255.255"]),
        ("--server ::1", 2, &["::1"]),
        ("--server ff02::1", 2, &["ff02::1"]),
        ("--server ::ffff:10.1.1.1", 2, &["::ffff:10.1.1.1"]),
        (
            "--server 10.1.1.1 --src 2001:db8::/32",
            2,
            &["2001:db8::/32", "10.1.1.1"],
        ),
        ("--server 2001:db8::1 --snat 10.1.1.9", 2, &["10.1.1.9"]),
        ("--server 10.1.1.1 --snat 224.0.0.1", 2, &["224.0.0.1"]),
        ("--server 10.1.1.1 --snat 10.1.1.1", 2, &["server's own"]),
        (
            "--server 10.1.1.1 --keep-ip --to-port 53",
            2,
            &["--to-port"],
        ),
        (
            "--server 10.1.1.1 --keep-ip --snat 10.1.1.9",
            2,
            &["--snat"],
        ),
        ("--server 10.1.1.1 --reply both", 2, &["--reply", "direct"]),
        (
            "--server 10.1.1.1 --reply direct --to-port 53",
            2,
            &["--reply direct", "no other port"],
        ),
        (
            "--server 10.1.1.1 --reply direct --snat 10.1.1.9",
            2,
            &["--reply direct", "source"],
        ),
        (
            "--server 10.1.1.1 --reply nat --keep-ip",
            2,
            &["--reply nat", "no translation"],
        ),
        (
            "--server 10.1.1.1 --reply nat --proto sctp --keep-ip",
            2,
            &["--reply nat", "UDP and TCP"],
        ),
        (
            "--server 10.1.1.1 --keep-ip --reply none",
            2,
            &["--reply none", "one or the other"],
        ),
        (
            "--server 10.1.1.1 --reply nat --pop-vlan --pop-vlan",
            2,
            &["--reply nat", "one tag back"],
        ),
        (
            "--server 10.1.1.1 --sticky --proto sctp --keep-ip",
            2,
            &["--proto sctp", "UDP and TCP"],
        ),
        (
            "--server 10.1.1.1 --sticky --proto icmp --keep-ip",
            2,
            &["--proto icmp", "UDP and TCP"],
        ),
        (
            "--server 10.1.1.1 --sticky --proto any --port any --keep-ip",
            2,
            &["--proto any", "UDP and TCP"],
        ),
        (
            "--server 10.1.1.1 --sticky --no-sticky",
            2,
            &["--no-sticky", "--sticky"],
        ),
        ("--server 10.1.1.1 --vlan 0", 2, &["--vlan"]),
        ("--server 10.1.1.1 --vlan 4095", 2, &["4095"]),
        ("--server 10.1.1.1 --push-vlan 4095", 2, &["4095"]),
        ("--server 10.1.1.1 --to-port 0", 2, &["--to-port"]),
        (
            "--server 10.1.1.1 --src 10.1.1.1/24",
            2,
            &["10.1.1.1/24", "10.1.1.0/24"],
        ),
        ("--server 10.1.1.1 --src 10.1.1.0/33", 2, &["10.1.1.0/33"]),
        ("--server 10.1.1.1 --port 0", 2, &["--port"]),
        ("--server 10.1.1.1 --port 65536", 2, &["65536"]),
        ("--server 10.1.1.1 --weight=-1", 2, &["--weight"]),
        ("--server 10.1.1.1 --weight 65536", 2, &["65536"]),
        ("--server 10.1.1.1 --proto gre", 2, &["icmp"]),
        ("--server 10.1.1.1 --ifindex 1", 2, &["--dev", "--ifindex"]),
        ("--server 10.1.1.1 --server 10.1.1.2", 2, &["--server"]),
        ("", 2, &["--server"]),
    ];
    for (words, code, said) in cases {
        let run = bed
            .tool()
            .run(&format!("rule add --mac {MAC} --dev out0 {words}"));
        run.fails(code, said);
    }
    for mac in [
        "01:00:5e:00:00:01",
        "ff:ff:ff:ff:ff:ff",
        "00:00:00:00:00:00",
        "02:00:00:00:00",
    ] {
        bed.tool()
            .run(&format!(
                "rule add --server 10.1.1.1 --mac {mac} --dev out0"
            ))
            .fails(2, &[mac]);
    }
    assert_eq!(bed.tool().json("rule list"), json!([]));
}

#[test]
fn a_match_that_cannot_be_meant_is_refused() {
    let bed = Bed::new();
    let cases: [(&str, &[&str]); 20] = [
        ("--port 20-10", &["--port", "did you mean 10-20?"]),
        ("--port 0-10", &["--port", "1 to 65535"]),
        ("--port 10-", &["--port", "1 to 65535"]),
        (
            "--port all",
            &["--port", "a range such as 7000-7010, or any"],
        ),
        ("--proto icmp --port 8", &["--port 8", "ICMP has no ports"]),
        ("--proto gre", &["--proto", "udp", "sctp", "icmp", "any"]),
        ("--dst 10.0.0.1/8", &["--dst", "10.0.0.0/8"]),
        (
            "--dst 10.0.0.0/8 --src fd00::/8",
            &["--dst 10.0.0.0/8", "fd00::/8", "both as IPv4"],
        ),
        ("--inner-vlan 6", &["--vlan"]),
        ("--vlan 5 --inner-vlan 0", &["--inner-vlan"]),
        ("--pass", &["--drop", "--pass"]),
        ("--forward out0", &["--drop", "--forward"]),
        ("--server 10.1.1.1", &["--drop", "--server"]),
        ("--container web", &["--drop", "--container"]),
        ("--dev out0", &["--drop", "--dev"]),
        ("--mac 02:00:00:00:00:01", &["--drop", "--mac"]),
        ("--weight 2", &["--drop", "--weight"]),
        ("--to-port 2", &["--drop", "--to-port"]),
        ("--too-long icmp", &["--drop", "--too-long"]),
        ("--keep-ttl", &["--drop", "--keep-ttl"]),
    ];
    for (words, said) in cases {
        let run = bed.tool().run(&format!("rule add --drop {words}"));
        run.fails(2, said);
    }
    assert_eq!(bed.tool().json("rule list"), json!([]));
}

#[test]
fn a_rule_that_cannot_be_meant_is_refused() {
    let bed = Bed::new();
    let backend = "--server 10.1.1.1 --mac 02:00:00:00:00:01 --dev out0";
    let cases: [(&str, i32, &[&str]); 14] = [
        ("--dst fd00::/8", 2, &["--dst fd00::/8", "10.1.1.1"]),
        ("--proto sctp", 2, &["--proto sctp", "CRC32c", "--keep-ip"]),
        ("--proto icmp", 2, &["--proto icmp", "ICMPv6", "--keep-ip"]),
        ("--proto any", 2, &["--proto any", "--keep-ip"]),
        ("--proto any --port 53", 2, &["--proto any", "--keep-ip"]),
        ("--proto sctp --to-port 5", 2, &["--proto sctp", "CRC32c"]),
        ("--proto sctp --keep-ip --to-port 5", 2, &["--to-port"]),
        ("--proto sctp --snat 10.1.1.9", 2, &["--proto sctp"]),
        (
            "--too-long never",
            2,
            &["--too-long", "icmp", "pass", "drop"],
        ),
        ("--pop-vlan --pop-vlan --pop-vlan", 2, &["--pop-vlan"]),
        ("--in nope0", 3, &["nope0"]),
        ("--in 4242", 3, &["4242"]),
        ("--pass", 2, &["--pass", "--server"]),
        ("--forward out0", 2, &["--forward", "--server"]),
    ];
    for (words, code, said) in cases {
        let run = bed.tool().run(&format!("rule add {backend} {words}"));
        run.fails(code, said);
    }
    for (words, code, said) in [
        ("--forward nope0", 3, "nope0"),
        ("--forward lo", 6, "lo leads to no other host"),
        (
            "--forward in0 --in in0",
            2,
            "--forward in0: packets are not sent back",
        ),
        ("--forward out0 --to-port 5", 2, "--to-port"),
        ("--forward out0 --pop-vlan", 2, "--pop-vlan"),
        (
            "--forward out0 --mac 01:00:5e:00:00:01",
            2,
            "01:00:5e:00:00:01",
        ),
    ] {
        let run = bed.tool().run(&format!("rule add {words}"));
        run.fails(code, &[said]);
    }
    assert_eq!(bed.tool().json("rule list"), json!([]));
}

#[test]
fn a_missing_server_names_all_ways_to_find_one() {
    let bed = Bed::new();
    let said = [
        "--server",
        "--container",
        "--pid",
        "--server-netns",
        "--dev",
    ];
    bed.tool().run("rule add --port 53").fails(2, &said);
}

#[test]
fn a_mistyped_word_is_told_its_like() {
    let bed = Bed::new();
    let cases = [
        ("stat", "'stats' or 'status'"),
        ("rule ad", "'add'"),
        ("rule add --servre 10.1.1.1", "'--server'"),
        ("attach in0 --mode nativ", "'native'"),
    ];
    for (words, like) in cases {
        let said = format!("did you mean {like}");
        bed.tool().run(words).fails(2, &[&said, "--help"]);
    }
    let run = bed.tool().run("frobnicate");
    assert!(!run.err.contains("did you mean"), "{run:?}");
}

#[test]
fn a_device_that_is_not_there_is_exit_3() {
    let bed = Bed::new();
    let add = format!("rule add --server 10.1.1.1 --mac {MAC}");
    bed.tool()
        .run(&format!("{add} --dev nope0"))
        .fails(3, &["nope0"]);
    bed.tool()
        .run(&format!("{add} --ifindex 4242"))
        .fails(3, &["4242"]);
    bed.tool()
        .run(&format!("{add} --ifindex 0"))
        .fails(2, &["--ifindex"]);
    assert_eq!(bed.tool().json("rule list"), json!([]));
}

#[test]
fn the_verbs_say_that_nothing_is_attached() {
    let ns = Ns::new("host");
    let pins = Pins::new();
    let tool = Tool {
        ns: &ns,
        pins: &pins,
    };
    for words in [
        "rule list",
        "rule add --server 10.1.1.1 --mac 02:00:00:00:00:01 --dev lo",
        "rule del --all",
        "stats",
    ] {
        tool.run(words)
            .fails(3, &["not attached", "attach IFACE` first"]);
    }
    assert!(pins.left().is_empty());
}

#[test]
fn of_both_families_the_rule_that_was_deleted_is_named() {
    let bed = Bed::new();
    bed.add("--server fd00::9 --vlan 7 --to-port 53");
    let listed = bed.tool().ok("rule list").out;
    assert!(
        listed.contains("to-port 53") && listed.contains("udp/7999@7"),
        "{listed}"
    );
    let run = bed.tool().ok("rule del --vlan 7");
    assert_eq!(
        run.out,
        "deleted 1 backend of src ::/0 udp port 7999 vlan 7\n"
    );
}
