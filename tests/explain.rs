//! `explain`: what would become of a packet, and why. That it agrees with the program on any packet, and
//! changes nothing, is tests/model.

use std::io::Write as _;
use std::process::{Output, Stdio};

use crate::fixture::lan::Lan;
use crate::fixture::{self, Run, Tool};
use serde_json::{Value, json};

const VM: &str = "192.168.122.10";
const TO_SERVER: &str = "explain --src 192.168.122.10 --dst 11.22.33.44";

fn lan() -> Lan {
    let lan = Lan::new(false, 2);
    lan.tool().ok("attach lan --mode skb");
    lan
}

#[track_caller]
fn explained(tool: &Tool, words: &str) -> Value {
    let run = tool.run(&format!("{words} --json"));
    assert!([0, 7].contains(&run.code), "{run:?}");
    serde_json::from_str(&run.out).expect("one object")
}

/// With a text on standard input.
fn piped(tool: &Tool, words: &str, text: &[u8]) -> Run {
    let mut child = tool
        .command(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(text).expect("it reads");
    drop(stdin);
    let output: Output = child.wait_with_output().expect("it ends");
    output.into()
}

#[test]
fn a_packet_is_explained_stage_by_stage() {
    let lan = lan();
    let tool = lan.tool();
    lan.add_backend(0, "--dst 11.22.33.0/24");
    tool.ok("rule add --pass");
    let run = tool.run(TO_SERVER);
    assert_eq!(run.code, 0, "{run:?}");
    for said in [
        "frame       50 bytes at lan (skb)",
        "parsed as   udp 192.168.122.10:40000 -> 11.22.33.44:7999, TTL 64",
        "connection  none",
        "rules       dst 11.22.33.0/24 src 0.0.0.0/0 udp port 7999: redirect to 1 backend (takes it: more \
         specific by dst)",
        "            src 0.0.0.0/0 udp port 7999: pass",
        "backend     172.17.0.2 by wan0",
        "check       TTL: 64, and the rule decrements it",
        "check       MTU: 36 bytes of IP, of 1500 that wan0 carries",
        "check       device: wan0 is up",
        " [40] 11 ",
        " [3f] 11 ",
        "outcome     redirected: leaves by wan0",
    ] {
        assert!(run.out.contains(said), "{said}\n{}", run.out);
    }
    let other = tool.run("explain --src 192.168.122.10 --dst 11.22.34.44");
    assert_eq!(other.code, 7, "{other:?}");
    assert!(other.out.contains("bytes       none changes"), "{other:?}");
    assert!(
        other.out.contains("outcome     passed by rule"),
        "{other:?}"
    );
}

#[test]
fn each_option_is_in_the_packet() {
    let lan = lan();
    let tool = lan.tool();
    tool.ok("rule add --proto tcp --port 80 --vlan 5 --inner-vlan 6 --drop");
    let tcp = explained(
        &tool,
        "explain --src 192.168.122.10 --dst 11.22.33.44 --proto tcp --sport 4000 --port 80 --vlan 5 \
         --inner-vlan 6 --ttl 9 --len 100 --tcp-flags syn,ack --dst-mac 02:00:00:00:00:09",
    );
    assert_eq!(
        tcp["parsed"],
        json!({
            "len": 100, "src_mac": "02:00:00:00:00:01", "dst_mac": "02:00:00:00:00:09",
            "ether_type": 0x0800, "vlans": [5, 6],
            "ip": {
                "src": VM, "dst": "11.22.33.44", "proto": "tcp", "ttl": 9, "fragment": false,
                "later_fragment": false, "ports": { "src": 4000, "dst": 80 }, "tcp_flags": ["syn", "ack"],
                "icmp_type": null, "payload": 38,
            },
        })
    );
    assert_eq!(tcp["outcome"], "dropped_by_rule");
    assert_eq!(tcp["before"].as_str().unwrap().len(), 200);
    for (words, proto) in [("--proto icmp", "icmp"), ("--proto sctp", "sctp")] {
        let packet = explained(&tool, &format!("{TO_SERVER} {words}"));
        assert_eq!(packet["parsed"]["ip"]["proto"], proto);
        assert_ne!(packet["outcome"], "malformed");
        let packet = explained(
            &tool,
            &format!("explain --src fd00::1 --dst fd00::2 {words}"),
        );
        assert_eq!(packet["parsed"]["ip"]["proto"], proto);
        assert_ne!(packet["outcome"], "malformed");
    }
}

#[test]
fn what_fails_is_named() {
    let lan = lan();
    let tool = lan.tool();
    lan.add_backend(0, "");
    for (words, check, outcome) in [
        ("--ttl 1", "ttl", "ttl_exceeded"),
        ("--len 1600", "mtu", "too_long"),
    ] {
        let packet = explained(&tool, &format!("{TO_SERVER} {words}"));
        assert_eq!(packet["outcome"], outcome);
        let checks = packet["checks"].as_array().expect("checks");
        let failed: Vec<_> = checks
            .iter()
            .filter(|check| check["passed"] == false)
            .collect();
        assert_eq!(failed.len(), 1, "{checks:?}");
        assert_eq!(failed[0]["check"], check);
        assert_eq!(packet["backend"]["server"], "172.17.0.2");
    }
    lan.servers[0].exec("ip link set eth0 down");
    let packet = explained(&tool, TO_SERVER);
    assert_eq!(packet["checks"][2]["passed"], false, "{packet}");
    let findings = packet["findings"].as_array().expect("findings");
    assert!(
        findings.iter().any(|found| found["check"] == "link"),
        "{findings:?}"
    );
}

#[test]
fn the_backend_is_the_one_that_the_packet_then_gets() {
    let lan = lan();
    let tool = lan.tool();
    (0..2).for_each(|number| lan.add_backend(number, ""));
    let mut servers = std::collections::BTreeSet::new();
    for sport in 40000..40008 {
        let packet = explained(&tool, &format!("{TO_SERVER} --sport {sport}"));
        assert!(
            packet["maglev_slot"]
                .as_u64()
                .is_some_and(|slot| slot < 16127),
            "{packet}"
        );
        servers.insert(packet["backend"]["server"].to_string());
    }
    assert_eq!(servers.len(), 2);
}

#[test]
fn connections_are_shown_and_none_is_begun() {
    let lan = lan();
    let tool = lan.tool();
    lan.add_backend(0, "--reply nat");
    let packet = explained(&tool, &format!("{TO_SERVER} --in lan"));
    assert_eq!(packet["connection"], Value::Null);
    assert_eq!(packet["begins"]["server"], "172.17.0.2");
    assert_eq!(tool.json("flow count")["connections"], 0);

    let from = lan.vm_socket();
    from.send_to(b"question", "11.22.33.44:7999")
        .expect("it is sent");
    fixture::eventually("it is remembered", || {
        tool.json("flow count")["connections"] == 1
    });
    let sport = from.local_addr().expect("its address").port();
    let packet = explained(&tool, &format!("{TO_SERVER} --in lan --sport {sport}"));
    assert_eq!(packet["begins"], Value::Null);
    assert_eq!(packet["connection"]["src_port"], sport);
    let answer =
        format!("explain --in wan0 --src 172.17.0.2 --dst {VM} --sport 7999 --port {sport}");
    let answer = explained(&tool, &answer);
    assert_eq!(answer["connection"]["src_port"], sport);
    assert!(
        ["answered", "answer_passed"].contains(&answer["outcome"].as_str().unwrap()),
        "{answer}"
    );
    let counted = tool.json("flow list");
    assert_eq!(counted[0]["requests"]["packets"], 1, "{counted}");
    assert_eq!(tool.json("stats")["rules"][0]["forward_packages"], 1);
}

#[test]
fn frames_of_a_file_meet_what_those_before_them_have_left() {
    let lan = lan();
    let tool = lan.tool();
    lan.add_backend(0, "");
    let first = explained(&tool, TO_SERVER)["before"]
        .as_str()
        .expect("hex")
        .to_owned();
    // The same frame, as the first and as the second of two fragments.
    let fragment = |flags: &str| {
        let header = format!("{}{flags}{}", &first[..40], &first[44..]);
        header.as_bytes().to_vec()
    };
    let both = [fragment("2000"), fragment("0002")].join(&b"\n\n"[..]);
    let run = piped(&tool, "explain --in lan --json -", &both);
    let outcomes: Vec<Value> = run
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let outcomes: Vec<_> = outcomes
        .iter()
        .map(|packet| packet["outcome"].clone())
        .collect();
    assert_eq!(outcomes, ["redirected", "redirected"], "{run:?}");
    let later = piped(&tool, "explain --in lan --json -", &fragment("0002"));
    assert_eq!(later.code, 7);
    assert!(later.out.contains("fragment_without_first"), "{later:?}");
}

#[test]
fn what_is_no_packet_is_refused_in_a_line() {
    let lan = lan();
    let tool = lan.tool();
    for (words, code, said) in [
        ("explain", 2, "<--dst <ADDR>|FILE>"),
        ("explain --dst 1.2.3.4", 2, "--src"),
        (
            "explain --src fd00::1 --dst 1.2.3.4",
            2,
            "not of one IP version",
        ),
        (
            "explain --src 1.2.3.5 --dst 1.2.3.4 --proto any",
            2,
            "a frame has one protocol",
        ),
        (
            "explain --src 1.2.3.5 --dst 1.2.3.4 --len 20",
            2,
            "the headers of this frame have 42 bytes",
        ),
        (
            "explain --src 1.2.3.5 --dst 1.2.3.4 --len 18446744073709551615",
            2,
            "no frame has more than 65597 bytes",
        ),
        (
            "explain --src 1.2.3.5 --dst 1.2.3.4 --len 60000",
            1,
            "60000 bytes",
        ),
        (
            "explain --src 1.2.3.5 --dst 1.2.3.4 --in wan1",
            3,
            "wan1: not attached",
        ),
        ("explain --in lan /nonexistent", 1, "/nonexistent"),
    ] {
        let run = tool.run(words);
        assert_eq!(run.code, code, "{words}: {run:?}");
        assert!(run.err.contains(said), "{words}: {run:?}");
        assert_eq!(run.out, "", "{words}");
    }
    let no_hex = piped(&tool, "explain --in lan -", b"\x1b[31mred");
    assert_eq!(no_hex.code, 2, "{no_hex:?}");
    assert!(no_hex.err.contains("-: line 1: '\\u{1b}'"), "{no_hex:?}");
    tool.ok("attach wan0 --mode skb");
    let which = tool.run(TO_SERVER);
    assert_eq!(which.code, 2);
    assert!(which.err.contains("at which interface"), "{which:?}");
}
