//! Interfaces that are attached for answers alone: rules have that done, and undo it with the last one of them.

use std::net::{IpAddr, UdpSocket};

use crate::fixture::guest::is_kernel;
use crate::fixture::lan::mac;
use crate::fixture::routed::{Between, Routed as Bed};
use crate::fixture::{self, Ns, Pins, Run, Tool, eventually, kill};
use serde_json::Value;
use xdpredir::datapath::{self, Interfaces, Wanted};
use xdpredir::host::device;

const VIP: &str = "203.0.113.53";
const VIP6: &str = "2001:db8:53::53";
/// To VIP, port 80, with what a test says of the backend.
const RULE: &str = "rule add --dst 203.0.113.53 --port 80 --to-port 8080";
const DEL: &str = "rule del --dst 203.0.113.53 --port 80";

impl Bed {
    /// For rules at lan.
    fn attached(between: Between) -> Self {
        let bed = Bed::new(between);
        bed.tool().ok("attach lan");
        bed
    }

    /// Somebody else's program is at wan, with these pins.
    fn others(&self) -> Pins {
        let pins = Pins::new();
        self.tool_with(&pins).ok("attach wan --mode skb");
        pins
    }

    fn tool_with<'a>(&'a self, pins: &'a Pins) -> Tool<'a> {
        Tool {
            ns: &self.host,
            pins,
        }
    }

    /// The client's device takes frames that are redirected natively.
    fn reachable() -> Self {
        let bed = Bed::new(Between::Veth);
        bed.client.exec("ethtool -K eth0 gro on");
        bed.tool().ok("attach lan");
        bed
    }

    /// The rule with the server as its backend, by a device.
    fn rule(&self, device: &str) -> String {
        let mac = mac(&self.server, "eth0");
        format!("{RULE} --reply nat --server 172.17.0.2 --mac {mac} --dev {device}")
    }

    fn add(&self, device: &str) -> Run {
        self.tool().ok(&self.rule(device))
    }

    /// Names of interfaces, their modes, and what they are for.
    fn attached_to(&self) -> Vec<String> {
        let status = self.tool().json("status");
        let all = status["interfaces"].as_array().unwrap().iter();
        let text = |i: &Value, key: &str| i[key].as_str().unwrap().to_string();
        all.map(|i| {
            ["ifname", "mode", "purpose"]
                .map(|key| text(i, key))
                .join(" ")
        })
        .collect()
    }

    fn answers(&self) -> bool {
        self.answers_from(VIP, "172.17.0.2")
    }

    /// Whether a client that asks the address gets its answer from there.
    fn answers_from(&self, vip: &str, server: &str) -> bool {
        let server: IpAddr = server.parse().unwrap();
        let any: &str = if server.is_ipv4() { "0.0.0.0" } else { "::" };
        let client = self.client.enter(|| UdpSocket::bind((any, 0)).unwrap());
        let at = self
            .server
            .enter(|| UdpSocket::bind((server, 8080)).unwrap());
        client.connect((vip, 80)).unwrap();
        client.send(b"question").unwrap();
        for socket in [&client, &at] {
            let wait = fixture::guest::patience(800);
            socket.set_read_timeout(Some(wait)).unwrap();
        }
        let mut buffer = [0; 64];
        let Ok((_, from)) = at.recv_from(&mut buffer) else {
            return false;
        };
        at.send_to(b"answer", from).unwrap();
        client
            .recv(&mut buffer)
            .is_ok_and(|len| &buffer[..len] == b"answer")
    }
}

const LAN: &str = "lan skb rules";
const WAN: &str = "wan skb answers";

#[test]
fn a_rule_has_the_program_attached_where_answers_arrive_and_the_last_one_takes_it_away() {
    let bed = Bed::attached(Between::Veth);
    let added = bed.add("wan");
    let said =
        "attached to wan (skb) for the answers: as far as the kernel says, lan takes no frames";
    assert!(added.out.contains(said), "{added:?}");
    assert_eq!(bed.attached_to(), [LAN, WAN]);
    assert!(bed.answers());
    let table = bed.tool().ok("status").out;
    assert!(
        table.contains("purpose") && table.contains("answers"),
        "{table}"
    );
    let stats = bed.tool().json("stats");
    assert_eq!(stats["interfaces"][1]["purpose"], "answers");

    // Another rule needs it as well.
    let other = bed.rule("wan").replace("--port 80", "--port 81");
    let added = bed.tool().json(&other);
    assert_eq!(added["attached"], serde_json::json!([]));
    bed.tool().ok(DEL);
    assert_eq!(bed.attached_to(), [LAN, WAN]);
    let deleted = bed.tool().ok(&DEL.replace("80", "81"));
    let said = "detached from wan: no rule needs it for answers any more";
    assert!(deleted.out.contains(said), "{deleted:?}");
    assert_eq!(bed.attached_to(), [LAN]);
    bed.tool().ok("detach --all");
    assert!(bed.pins.left().is_empty());
}

#[test]
fn answers_are_seen_on_the_port_of_a_bridge_on_a_bridge_and_in_ipv6() {
    let bed = Bed::attached(Between::Bridge);
    bed.add("wan");
    assert_eq!(bed.attached_to(), [LAN, WAN]);
    assert!(bed.answers());
    // The bridge as the backend's device.
    let changed = bed.add("br0");
    assert!(changed.out.contains("attached to br0 (skb)"), "{changed:?}");
    assert!(changed.out.contains("detached from wan"), "{changed:?}");
    assert_eq!(bed.attached_to(), [LAN, "br0 skb answers"]);
    assert!(bed.answers());
    bed.tool().ok("rule del --all");
    assert_eq!(bed.attached_to(), [LAN]);

    let words =
        format!("rule add --dst {VIP6} --port 80 --to-port 8080 --reply nat --server fd00:17::2");
    assert!(bed.tool().ok(&words).out.contains("attached to wan (skb)"));
    assert!(bed.answers_from(VIP6, "fd00:17::2"));
}

#[test]
fn a_bridge_above_that_is_attached_sees_the_answers() {
    let bed = Bed::new(Between::Bridge);
    bed.tool().ok("attach lan br0");
    let added = bed.add("wan");
    assert!(!added.out.contains("for the answers"), "{added:?}");
    assert!(bed.answers());
}

#[test]
fn every_way_to_change_rules_attaches_and_detaches() {
    let bed = Bed::attached(Between::Veth);
    let tool = bed.tool();
    bed.add("wan");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), tool.ok("rule list --json").out).unwrap();
    let load = format!("rule load {}", file.path().display());

    assert_eq!(tool.json("rule del --all")["detached"][0], "wan");
    let loaded = tool.json(&load);
    assert_eq!(loaded["attached"][0]["ifname"], "wan");
    assert_eq!(loaded["attached"][0]["mode"], "skb");
    assert!(bed.answers());

    let changed = tool.ok(&format!("{RULE} --server 172.17.0.2 --reply none"));
    assert!(changed.out.contains("detached from wan"), "{changed:?}");
    assert!(tool.ok(&load).out.contains("attached to wan"));
    let none = tool
        .ok("rule list --json")
        .out
        .replace("\"nat\"", "\"none\"");
    std::fs::write(file.path(), none).unwrap();
    assert!(tool.ok(&load).out.contains("detached from wan"));

    bed.add("wan");
    tool.ok(&format!("{DEL} --server 172.17.0.2"));
    tool.ok("rule add --dst 203.0.113.53 --port 80 --pass");
    assert_eq!(bed.attached_to(), [LAN]);
}

#[test]
fn a_backend_that_moves_takes_the_interface_along() {
    let bed = Bed::attached(Between::Veth);
    bed.tool().ok(&format!(
        "{RULE} --reply nat --server-netns {}",
        bed.server.name
    ));
    assert_eq!(bed.attached_to(), [LAN, WAN]);
    bed.server.ip("link del eth0");
    eventually("the kernel has removed the veth", || {
        !bed.host.ip("-br link").contains("wan@")
    });
    // So that the new one has another index than the old one.
    bed.host.ip("link add dummy type bridge");
    bed.host.veth("wan2", &bed.server, "eth0");
    bed.host.ip("addr add 172.17.0.1/16 dev wan2");
    bed.server.ip("addr add 172.17.0.2/16 dev eth0");
    bed.server.ip("route add default via 172.17.0.1");
    let refreshed = bed.tool().ok("rule refresh");
    assert!(
        refreshed.out.contains("attached to wan2 (skb)"),
        "{refreshed:?}"
    );
    assert_eq!(bed.attached_to(), [LAN, "wan2 skb answers"]);
    assert!(bed.answers());
}

/// The server's own requests would meet them.
#[test]
fn rules_take_nothing_there_until_the_user_attaches_it() {
    let bed = Bed::attached(Between::Veth);
    let tool = bed.tool();
    bed.add("wan");
    tool.ok("rule add --port 9 --drop");
    let outcome = |name: &str| {
        let from = bed
            .server
            .enter(|| UdpSocket::bind("172.17.0.2:0").unwrap());
        from.send_to(b"own", "192.168.122.10:9").unwrap();
        let packets = || {
            let stats = tool.json("stats");
            let wan = &stats["interfaces"][1];
            assert_eq!(wan["ifname"], "wan");
            wan["outcomes"][name]["packets"].as_u64().unwrap()
        };
        eventually("the packet is counted", || packets() > 0);
    };
    outcome("no_rule");

    let refused = tool.run("policy wan drop");
    refused.fails(4, &["wan is attached for answers alone", "attach wan"]);
    tool.run("attach wan --mode native")
        .fails(4, &["wan is attached in skb mode"]);
    let attached = tool.ok("attach wan");
    assert!(attached.out.contains("for answers alone"), "{attached:?}");
    assert_eq!(bed.attached_to(), [LAN, "wan skb rules"]);
    outcome("dropped_by_rule");
    // It is the user's now.
    tool.ok("rule del --all");
    assert_eq!(bed.attached_to(), [LAN, "wan skb rules"]);
}

#[test]
fn the_user_s_attach_may_give_it_a_policy() {
    let bed = Bed::attached(Between::Veth);
    bed.add("wan");
    bed.tool()
        .run("attach wan --policy forward:wan")
        .fails(2, &["wan"]);
    assert_eq!(bed.attached_to(), [LAN, WAN]);
    // Its ARP is dropped, too.
    let mac = mac(&bed.host, "wan");
    bed.server
        .ip(&format!("neigh replace 172.17.0.1 lladdr {mac} dev eth0"));
    bed.tool().ok("attach wan --policy drop");
    let status = bed.tool().json("status");
    assert_eq!(status["interfaces"][1]["purpose"], "rules");
    assert_eq!(status["interfaces"][1]["policy"], "drop");
    assert!(bed.answers());
}

#[test]
fn the_last_interface_of_the_user_takes_them_along_and_the_next_one_brings_them_back() {
    let bed = Bed::attached(Between::Veth);
    let tool = bed.tool();
    bed.add("wan");
    let detached = tool.json("detach lan --keep-rules");
    assert_eq!(detached["detached"], serde_json::json!(["lan", "wan"]));
    let attached = tool.ok("attach lan");
    assert!(
        attached
            .out
            .contains("attached to wan (skb) for the answers"),
        "{attached:?}"
    );
    assert_eq!(bed.attached_to(), [LAN, WAN]);
    assert!(bed.answers());
    tool.ok("detach lan");
    assert!(bed.pins.left().is_empty());
}

#[test]
fn to_detach_it_is_said_to_leave_answers_untranslated() {
    let bed = Bed::attached(Between::Veth);
    let tool = bed.tool();
    bed.add("wan");
    let detached = tool.ok("detach wan");
    let said = "answers that arrive at wan are not translated any more";
    assert!(detached.err.contains(said), "{detached:?}");
    assert_eq!(bed.attached_to(), [LAN]);
    assert!(!bed.answers());
    // The rule goes on, and once it is added again, the program is back.
    let added = bed.add("wan");
    assert!(added.out.contains("attached to wan"), "{added:?}");
    assert!(bed.answers());
}

#[test]
fn a_bridge_is_detached_without_a_word_while_its_port_sees_the_answers() {
    let bed = Bed::new(Between::Bridge);
    let tool = bed.tool();
    let said = "not translated any more";
    tool.ok("attach lan");
    bed.add("wan");
    tool.ok("attach br0");
    let detached = tool.ok("detach br0");
    assert!(!detached.err.contains(said), "{detached:?}");
    assert!(bed.answers());
    // So is the port while the bridge does. The last of them is not.
    tool.ok("attach br0");
    let detached = tool.ok("detach wan");
    assert!(!detached.err.contains(said), "{detached:?}");
    assert!(bed.answers());
    let detached = tool.ok("detach br0");
    assert!(
        detached.err.contains(&format!("arrive at br0 are {said}")),
        "{detached:?}"
    );
    assert!(!bed.answers());
}

#[test]
fn where_the_program_cannot_be_attached_nothing_changes() {
    let bed = Bed::attached(Between::Veth);
    let others = bed.others();
    let added = bed.tool().run(&bed.rule("wan"));
    added.fails(
        4,
        &[
            "answers arrive at wan",
            "another XDP program",
            "attach wan --mode skb --force",
        ],
    );
    assert_eq!(bed.attached_to(), [LAN]);
    assert_eq!(bed.tool().json("status")["rules"], 0);
    // Of two backends, one is refused: the other's device is not kept either.
    bed.host.veth("dmz", &bed.server, "eth1");
    let two = [("dmz", 3), ("wan", 2)].map(|(device, last)| {
        let ifindex = bed.host.ifindex(device);
        format!(
            r#"{{"src":"0.0.0.0/0","proto":"udp","port":80,"server":"172.17.0.{last}","mac":"2:0:0:0:0:1","ifindex":{ifindex},"reply":"nat"}}"#
        )
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), two.join("\n")).unwrap();
    let load = format!("rule load {}", file.path().display());
    bed.tool().run(&load).fails(4, &["answers arrive at wan"]);
    assert_eq!(bed.attached_to(), [LAN]);
    bed.tool_with(&others).ok("detach --all");
    bed.tool().ok(&load);
    assert_eq!(bed.attached_to(), [LAN, WAN, "dmz skb answers"]);
}

#[test]
fn a_change_that_is_killed_leaves_nothing_that_the_next_one_does_not_take_away() {
    let bed = Bed::attached(Between::Veth);
    let tool = bed.tool();
    let (add, other) = (bed.rule("wan"), "rule add --port 9 --pass");
    for n in 0.. {
        let more = kill::before_change(&mut tool.command(&add), n);
        let rules = tool.json("status")["rules"].as_u64().unwrap();
        let is_attached = bed.attached_to().len() == 2;
        assert!(rules == 0 || is_attached, "{n}");
        assert!(rules == 0 || bed.answers(), "{n}");
        tool.ok(other);
        assert_eq!(bed.attached_to().len() as u64, 1 + rules, "{n}");
        tool.ok("rule del --all");
        assert_eq!(bed.attached_to(), [LAN], "{n}");
        if !more {
            break;
        }
    }
    for n in 0.. {
        bed.add("wan");
        let more = kill::before_change(&mut tool.command(DEL), n);
        let rules = tool.json("status")["rules"].as_u64().unwrap();
        assert!(rules == 0 || bed.answers(), "{n}");
        tool.ok(other);
        assert_eq!(bed.attached_to().len() as u64, 1 + rules, "{n}");
        tool.ok("rule del --all");
        if !more {
            break;
        }
    }
}

#[test]
fn rules_that_are_added_and_deleted_at_once_agree_about_it() {
    let bed = Bed::attached(Between::Veth);
    let tool = bed.tool();
    let rule = |port: u16| {
        bed.rule("wan")
            .replace("--port 80", &format!("--port {port}"))
    };
    for _ in 0..3 {
        let adds = [81, 82, 83].map(|port| tool.spawn(&rule(port)));
        for add in adds {
            assert!(add.wait_with_output().unwrap().status.success());
        }
        assert_eq!(bed.attached_to(), [LAN, WAN]);
        let both = [tool.spawn("rule del --all"), tool.spawn(&rule(80))];
        for run in both {
            run.wait_with_output().unwrap();
        }
        let rules = tool.json("status")["rules"].as_u64().unwrap();
        assert_eq!(bed.attached_to().len() as u64, 1 + rules.min(1));
        tool.run("rule del --all");
        assert_eq!(bed.attached_to(), [LAN]);
    }
}

#[test]
fn an_interface_whose_device_is_gone_goes_with_the_next_change() {
    let bed = Bed::attached(Between::Veth);
    bed.add("wan");
    bed.host.ip("link del wan");
    bed.tool().ok("rule add --port 9 --pass");
    assert_eq!(bed.attached_to(), [LAN]);
}

/// There, the program would go on taking packets.
#[test]
fn an_interface_whose_device_was_moved_goes_with_the_next_change_even_if_its_index_is_another_s() {
    let bed = Bed::attached(Between::Veth);
    bed.add("wan");
    let (ifindex, elsewhere) = (bed.host.ifindex("wan"), Ns::new("elsewhere"));
    bed.host
        .ip(&format!("link set wan netns {}", elsewhere.name));
    bed.host
        .ip(&format!("link add other index {ifindex} type bridge"));
    assert!(elsewhere.ip("link show wan").contains("prog/xdp"));
    bed.tool().ok("rule add --port 9 --pass");
    assert_eq!(bed.attached_to(), [LAN]);
    assert!(!elsewhere.ip("link show wan").contains("prog/xdp"));
}

/// Natively the kernel keeps a server's segments short, so that they go straight to the client.
#[test]
fn answers_are_seen_natively_where_clients_take_redirected_frames() {
    let bed = Bed::reachable();
    let added = bed.add("wan");
    let said =
        "attached to wan (native) for the answers: the kernel then keeps segmentation offload";
    assert!(added.out.contains(said) || !is_kernel(6, 3), "{added:?}");
    assert!(
        added.out.contains("answers go straight to lan"),
        "{added:?}"
    );
    assert!(bed.answers());
}

#[test]
fn the_mode_is_the_other_one_where_the_first_is_refused() {
    let bed = Bed::reachable();
    // A native program wants a receive queue for each of the peer's transmit queues.
    bed.server.ip("link del eth0");
    eventually("the kernel has removed the veth", || {
        !bed.host.ip("-br link").contains("wan@")
    });
    let queues = "numrxqueues 2 numtxqueues 2";
    bed.host.ip(&format!(
        "link add wan {queues} type veth peer name eth0 {queues} netns {}",
        bed.server.name
    ));
    bed.host.exec("ethtool -L wan rx 1");
    bed.host.ip("link set wan up");
    bed.host.ip("addr add 172.17.0.1/16 dev wan");
    bed.server.ip("link set eth0 up");
    bed.server.ip("addr add 172.17.0.2/16 dev eth0");
    bed.server.ip("route add default via 172.17.0.1");
    let added = bed.add("wan");
    let said = "attached to wan (skb) for the answers: its driver refused native mode: veth: ";
    assert!(added.out.contains(said) || !is_kernel(6, 3), "{added:?}");
    assert!(bed.answers());
}

impl Bed {
    /// Exactly as it is here, without a word of answers that the fixture adds.
    fn typed(&self, words: &str) -> Run {
        let output = self.tool().typed(words).output().unwrap();
        Run::from(output).ok()
    }

    /// How answers come back, of the only rule's backends.
    fn replies(&self) -> Vec<String> {
        let rows = self.tool().json("rule list");
        let rows = rows.as_array().unwrap().iter();
        rows.map(|row| row["reply"].as_str().unwrap().into())
            .collect()
    }
}

#[test]
fn answers_are_translated_unless_somebody_says_otherwise() {
    let bed = Bed::attached(Between::Veth);
    let ask = "rule add --dst 203.0.113.53 --port 80";
    let added = bed.typed(&format!("{ask} --server 172.17.0.2 --to-port 8080"));
    assert_eq!(added.err, "");
    let said = "answers go straight to lan";
    assert!(added.out.contains("attached to wan (skb)"), "{added:?}");
    assert!(added.out.contains(said), "{added:?}");
    assert!(bed.answers());
    // An update keeps what the rule has.
    bed.typed(&format!("{ask} --server 172.17.0.2 --weight 2"));
    bed.typed(&format!("{ask} --server 172.17.0.2 --to-port 8080"));
    bed.typed(&format!(
        "{ask} --server 172.17.0.3 --mac 2:0:0:0:0:3 --dev wan"
    ));
    assert_eq!(bed.replies(), ["nat", "nat"]);
    bed.tool().ok(&format!("{DEL} --server 172.17.0.3"));
    // This changes nothing else.
    let changed = bed.typed(&format!("{ask} --server 172.17.0.2 --reply none"));
    assert!(changed.out.contains("weight 2 to-port 8080"), "{changed:?}");
    assert_eq!(bed.attached_to(), [LAN]);
    bed.typed(&format!("{ask} --server 172.17.0.2 --to-port 8080"));
    assert_eq!(bed.replies(), ["none"]);
    assert!(!bed.answers());
    bed.typed(&format!("{ask} --server 172.17.0.2 --reply nat"));
    assert!(bed.answers());
    // With the address that clients ask, a server answers itself.
    bed.typed(&format!("{ask} --server 172.17.0.2 --keep-ip"));
    assert_eq!(bed.replies(), ["direct"]);
    assert_eq!(bed.attached_to(), [LAN]);
    bed.typed(&format!("{ask} --server 172.17.0.2 --to-port 8080"));
    assert_eq!(bed.replies(), ["nat"]);
}

#[test]
fn a_file_that_does_not_say_it_has_them_translated() {
    let bed = Bed::attached(Between::Veth);
    bed.typed(&format!("{RULE} --server 172.17.0.2"));
    let file = tempfile::NamedTempFile::new().unwrap();
    let said = bed.tool().ok("rule list --json").out;
    let unsaid = said.replace(r#""reply": "nat","#, "");
    assert_ne!(said, unsaid);
    std::fs::write(file.path(), unsaid).unwrap();
    bed.tool().ok("rule del --all");
    bed.tool()
        .ok(&format!("rule load {}", file.path().display()));
    assert_eq!(bed.replies(), ["nat"]);
    assert!(bed.answers());
}

#[test]
fn where_the_program_cannot_see_them_they_are_not_translated_and_that_is_said() {
    let bed = Bed::attached(Between::Veth);
    let others = bed.others();
    let is_said = |run: &Run, why: &str| {
        let said = "answers leave with the server's own address";
        assert!(run.err.contains(said) && run.err.contains(why), "{run:?}");
        let said = run.err.lines().filter(|line| line.contains(said));
        assert_eq!(said.count(), 1, "{run:?}");
    };
    let added = bed.typed("rule add --port 80 --server 172.17.0.2");
    is_said(&added, "attach wan --mode skb --force");
    let file = tempfile::NamedTempFile::new().unwrap();
    let list = bed.tool().ok("rule list --json").out;
    std::fs::write(file.path(), list.replace(r#""reply": "none","#, "")).unwrap();
    let loaded = bed
        .tool()
        .ok(&format!("rule load {}", file.path().display()));
    is_said(&loaded, "attach wan --mode skb --force");
    assert_eq!(bed.replies(), ["none"]);
    assert_eq!(bed.attached_to(), [LAN]);
    bed.tool_with(&others).ok("detach --all");

    let added = bed.typed("rule add --vlan 5 --server 172.17.0.2 --pop-vlan --pop-vlan");
    is_said(&added, "answers get one tag back at most");
    assert_eq!(bed.attached_to(), [LAN]);
}

/// From one instant to the next, rules take nothing there any more, and answers are seen all the time.
#[test]
fn an_interface_that_rules_are_for_no_longer_is_kept_where_answers_arrive() {
    let bed = Bed::attached(Between::Veth);
    bed.tool().ok("attach wan --policy drop");
    let added = bed.add("wan");
    assert!(!added.out.contains("for the answers"), "{added:?}");
    assert_eq!(bed.attached_to(), [LAN, "wan skb rules"]);
    let report = bed.host.enter(|| {
        let pins = datapath::locate(Some(&bed.pins.dir())).unwrap();
        let lan = Wanted {
            device: device::by_name("lan").unwrap(),
            mode: None,
            ledger: true,
            policy: None,
            others: Default::default(),
        };
        let interfaces = Interfaces {
            wanted: vec![lan],
            only_these: true,
            ..Interfaces::default()
        };
        datapath::attach(&pins, &interfaces).unwrap()
    });
    assert_eq!(report.for_answers.attached[0].ifname, "wan");
    assert_eq!(report.detached, Vec::<String>::new());
    assert_eq!(bed.attached_to(), [LAN, WAN]);
    assert!(bed.answers());
    bed.tool().ok(DEL);
    assert_eq!(bed.attached_to(), [LAN]);
}
