//! What devices can do with XDP and what they are connected to, as `features` says it.

use std::fs::File;
use std::process::{Child, Command, Stdio};

use crate::fixture::guest;
use crate::fixture::tap::Tap;
use crate::fixture::{self, Ns, Pins, Tool, chmod, command, install};
use serde_json::{Value, json};

/// The veth v0 with its peer p0 in a second namespace.
struct Bed {
    ns: Ns,
    peer: Ns,
    pins: Pins,
}

impl Bed {
    fn new() -> Self {
        let (ns, peer) = (Ns::new("host"), Ns::new("peer"));
        ns.veth("v0", &peer, "p0");
        let pins = Pins::new();
        Bed { ns, peer, pins }
    }

    fn tool(&self) -> Tool<'_> {
        Tool {
            ns: &self.ns,
            pins: &self.pins,
        }
    }

    fn features(&self, device: &str) -> Value {
        let all = self.tool().json(&format!("features {device}"));
        assert_eq!(all.as_array().expect("an array").len(), 1);
        all[0].clone()
    }

    fn xdp(&self, device: &str, feature: &str) -> bool {
        guest::needs_kernel(6, 3, "what drivers say of XDP");
        let features = self.features(device);
        assert_eq!(features["xdp"]["source"], "kernel", "{features}");
        features["xdp"][feature].as_bool().expect("it is known")
    }
}

fn names(devices: &Value) -> Vec<&str> {
    let devices = devices.as_array().expect("an array").iter();
    devices
        .map(|device| device["ifname"].as_str().expect("a name"))
        .collect()
}

fn keys(object: &Value) -> Vec<&str> {
    let object = object.as_object().expect("an object");
    object.keys().map(String::as_str).collect()
}

/// The line of a device in a table, from its first heading on.
fn row(out: &str, heading: &str, device: &str) -> String {
    let table = &out[out.find(heading).expect("the heading is there")..];
    let first = format!("{device} ");
    let line = table.lines().find(|line| line.starts_with(&first));
    let words = line.expect("the device is there").split_whitespace();
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_veth_takes_redirected_frames_once_its_peer_has_gro() {
    let bed = Bed::new();
    for on in [false, true, false] {
        let word = if on { "on" } else { "off" };
        bed.peer.exec(&format!("ethtool -K p0 gro {word}"));
        assert!(bed.xdp("v0", "native"));
        assert_eq!(bed.xdp("v0", "redirect_target"), on);
        assert_eq!(bed.xdp("v0", "multi_buffer_tx"), on);
        assert_eq!(bed.features("v0")["peer"]["gro"], on);
    }
}

#[test]
fn a_veth_takes_redirected_frames_while_its_peer_runs_a_native_program() {
    let bed = Bed::new();
    let there = Tool {
        ns: &bed.peer,
        pins: &bed.pins,
    };
    for (mode, is_native) in [("skb", false), ("native", true)] {
        there.ok(&format!("attach p0 --mode {mode}"));
        assert_eq!(bed.xdp("v0", "redirect_target"), is_native);
        assert_eq!(bed.features("v0")["peer"]["native_program"], is_native);
        there.ok("detach p0");
    }
}

#[test]
fn why_a_veth_takes_no_redirected_frames_is_said() {
    let bed = Bed::new();
    let out = bed.tool().ok("features v0").out;
    assert!(out.contains("no: its peer has neither GRO"), "{out}");
    bed.peer.exec("ethtool -K p0 gro on");
    let out = bed.tool().ok("features v0").out;
    assert!(!out.contains("neither"), "{out}");
}

#[test]
fn a_tap_has_native_xdp_and_a_tun_has_not() {
    let bed = Bed::new();
    let _tap = Tap::new(&bed.ns, "tap0", false);
    bed.ns.ip("tuntap add tun0 mode tun");
    for (device, bus, has) in [("tap0", "tap", true), ("tun0", "tun", false)] {
        let features = bed.features(device);
        assert_eq!(features["driver"], "tun");
        assert_eq!(features["bus"], bus);
        for feature in ["native", "redirect", "redirect_target"] {
            assert_eq!(features["xdp"][feature], has, "{device} {feature}");
        }
        assert_eq!(features["xdp"]["zero_copy"], false);
    }
    assert_eq!(bed.features("tun0")["mac"], Value::Null);
}

#[test]
fn a_bridge_names_its_ports_and_they_name_it() {
    let bed = Bed::new();
    bed.ns.ip("link add br0 type bridge");
    bed.ns.ip("link set v0 master br0");
    let (bridge, port) = (bed.features("br0"), bed.features("v0"));
    assert_eq!(bridge["kind"], "bridge");
    assert_eq!(bridge["xdp"]["native"], false);
    assert_eq!(bridge["xdp"]["redirect_target"], false);
    assert_eq!(names(&bridge["ports"]), ["v0"]);
    assert_eq!(bridge["master"], Value::Null);
    assert_eq!(
        port["master"],
        json!({ "ifname": "br0", "ifindex": bed.ns.ifindex("br0"), "kind": "bridge" })
    );
    let out = bed.tool().ok("features").out;
    assert!(row(&out, "connections", "br0").ends_with("ports v0"));
    assert!(row(&out, "connections", "v0").ends_with("port of br0"));
}

#[test]
fn a_device_that_sends_by_another_names_it_and_is_named_by_it() {
    let bed = Bed::new();
    bed.ns.ip("link add mv0 link v0 type macvlan");
    let (upper, lower) = (bed.features("mv0"), bed.features("v0"));
    assert_eq!(upper["lower"]["ifname"], "v0");
    assert_eq!(upper["lower"]["ifindex"], bed.ns.ifindex("v0"));
    assert_eq!(upper["peer"], Value::Null);
    assert_eq!(names(&lower["upper"]), ["mv0"]);
    assert_eq!(lower["lower"], Value::Null);
}

#[test]
fn a_peer_in_another_namespace_is_named_with_it() {
    let bed = Bed::new();
    bed.peer.ip("link set p0 mtu 1400");
    let peer = bed.features("v0")["peer"].clone();
    assert_eq!(peer["ifname"], "p0");
    assert_eq!(peer["ifindex"], bed.peer.ifindex("p0"));
    assert_eq!(peer["mac"], fixture::lan::mac(&bed.peer, "p0"));
    assert_eq!(peer["mtu"], 1400);
    assert_eq!(peer["up"], true);
    assert!(peer["nsid"].is_i64());
    assert_eq!(peer["netns"]["name"], bed.peer.name.as_str());
    assert_eq!(peer["netns"]["path"], bed.peer.path().to_str().unwrap());

    let out = bed.tool().ok("features v0").out;
    let said = format!("peer p0 in {}, GRO off", bed.peer.name);
    assert!(out.contains(&said), "{out}");
}

#[test]
fn a_peer_in_the_same_namespace_has_no_other() {
    let bed = Bed::new();
    bed.ns.ip("link add v1 type veth peer name v2");
    let peer = bed.features("v1")["peer"].clone();
    assert_eq!(peer["ifname"], "v2");
    assert_eq!(peer["nsid"], Value::Null);
    assert_eq!(peer["netns"], Value::Null);
    assert_eq!(bed.features("v1")["upper"], json!([]));
}

/// A process in a network namespace of its own.
struct Sleeper(Child);

impl Sleeper {
    fn new() -> Self {
        let mut sleep = Command::new("unshare");
        sleep.args(["--net", "sh", "-c", "echo in; exec sleep 1000"]);
        let mut child = sleep.stdout(Stdio::piped()).spawn().expect("unshare runs");
        let out = child.stdout.as_mut().expect("a pipe");
        std::io::Read::read_exact(out, &mut [0; 3]).expect("it is in");
        Sleeper(child)
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_namespace_without_a_name_is_known_by_its_process() {
    let bed = Bed::new();
    let sleeper = Sleeper::new();
    let pid = sleeper.0.id();
    bed.ns
        .ip(&format!("link add c0 type veth peer name eth0 netns {pid}"));
    let peer = bed.features("c0")["peer"].clone();
    assert_eq!(peer["ifname"], "eth0");
    assert_eq!(peer["netns"]["name"], Value::Null);
    assert_eq!(peer["netns"]["pid"], pid);
    // What the shell became may still have its first name.
    assert!(peer["netns"]["command"].is_string());
    let out = bed.tool().ok("features c0").out;
    assert!(out.contains(&format!("peer eth0 in pid {pid} (")), "{out}");

    // The path that it gives is one that `--netns` takes.
    let path = peer["netns"]["path"].as_str().expect("a path");
    let there = command(fixture::BINARY, &["--netns", path, "features", "eth0"]);
    assert!(there.starts_with("eth0 (ifindex "), "{there}");
}

#[test]
fn a_namespace_with_neither_name_nor_process_is_a_number() {
    guest::needs_kernel(6, 3, "what drivers say of XDP");
    let bed = Bed::new();
    let nameless = Ns::new("nameless");
    bed.ns.veth("v1", &nameless, "p1");
    let open = File::open(nameless.path()).expect("the namespace is there");
    command("ip", &["netns", "del", &nameless.name]);
    std::mem::forget(nameless);
    let peer = bed.features("v1")["peer"].clone();
    let nsid = peer["nsid"].as_i64().expect("a number");
    for unknown in ["ifname", "netns", "mac", "mtu", "up", "gro"] {
        assert_eq!(peer[unknown], Value::Null, "{unknown}");
    }
    let out = bed.tool().ok("features v1").out;
    assert!(out.contains(&format!("in nsid {nsid}, which has")), "{out}");
    assert!(out.contains("needs GRO or"), "{out}");
    drop(open);
}

#[test]
fn mtu_link_and_offloads_are_as_they_are_now() {
    let bed = Bed::new();
    let before = bed.features("v0");
    assert_eq!(before["mtu"], 1500);
    assert_eq!(before["up"], true);
    assert_eq!(before["mac"], fixture::lan::mac(&bed.ns, "v0"));
    let on = |features: &Value, name: &str| features["offloads"][name].as_bool().unwrap();
    for (key, name) in [
        ("tx_checksum", "tx"),
        ("gro", "gro"),
        ("tso", "tso"),
        ("gso", "gso"),
        ("tx_udp_segmentation", "tx-udp-segmentation"),
        ("rx_vlan", "rxvlan"),
        ("tx_vlan", "txvlan"),
    ] {
        let was_on = on(&before, key);
        for wanted in [!was_on, was_on] {
            let word = if wanted { "on" } else { "off" };
            bed.ns.exec(&format!("ethtool -K v0 {name} {word}"));
            assert_eq!(on(&bed.features("v0"), key), wanted, "{name}");
        }
    }
    assert!(!on(&before, "lro"));
    bed.ns.ip("link set v0 mtu 1400");
    bed.peer.ip("link set p0 down");
    let after = bed.features("v0");
    assert_eq!((&after["mtu"], &after["up"]), (&json!(1400), &json!(false)));
    let out = bed.tool().ok("features v0").out;
    assert!(out.contains("down, MTU 1400"), "{out}");
}

/// Root may ask the kernel, and others go by its version.
#[test]
fn a_device_with_ethernet_frames_has_a_tc_hook() {
    let bed = Bed::new();
    bed.ns.ip("tuntap add tun0 mode tun");
    let hook = if guest::is_kernel(6, 6) {
        "tcx"
    } else {
        "clsact"
    };
    assert_eq!(bed.features("v0")["tc"], hook);
    assert_eq!(bed.features("lo")["tc"], hook);
    assert_eq!(bed.features("tun0")["tc"], Value::Null);
    let out = bed.tool().ok("features v0").out;
    assert!(out.contains(&format!("yes ({hook})")), "{out}");
    let out = bed.tool().ok("features tun0").out;
    assert!(out.contains("no Ethernet header"), "{out}");
}

#[test]
fn the_keys_of_the_json_are_these() {
    let bed = Bed::new();
    let features = bed.features("v0");
    assert_eq!(
        keys(&features),
        [
            "bus", "driver", "ifindex", "ifname", "kind", "lower", "mac", "master", "mtu",
            "offloads", "peer", "ports", "tc", "up", "upper", "vlan", "xdp"
        ]
    );
    assert_eq!(
        keys(&features["xdp"]),
        [
            "multi_buffer_rx",
            "multi_buffer_tx",
            "native",
            "redirect",
            "redirect_target",
            "source",
            "zero_copy"
        ]
    );
    assert_eq!(
        keys(&features["offloads"]),
        [
            "gro",
            "gso",
            "lro",
            "rx_vlan",
            "tso",
            "tx_checksum",
            "tx_udp_segmentation",
            "tx_vlan"
        ]
    );
    assert_eq!(
        keys(&features["peer"]),
        [
            "gro",
            "ifindex",
            "ifname",
            "mac",
            "mtu",
            "native_program",
            "netns",
            "nsid",
            "tso",
            "tx_udp_segmentation",
            "up"
        ]
    );
    assert_eq!(
        keys(&features["peer"]["netns"]),
        ["command", "name", "path", "pid"]
    );
}

#[test]
fn without_names_all_devices_of_the_namespace_are_shown() {
    let bed = Bed::new();
    bed.ns.ip("link add a-long-name-015 type bridge");
    bed.ns.ip("link set v0 master a-long-name-015");
    let all = bed.tool().json("features");
    let mut shown = names(&all);
    shown.sort_unstable();
    let there: Value = serde_json::from_str(&bed.ns.ip("-j link")).expect("JSON");
    let mut there = names(&there);
    there.sort_unstable();
    assert_eq!(shown, there);

    let out = bed.tool().ok("features").out;
    assert_eq!(row(&out, "native", "v0"), "v0 veth 1500 yes no rx no");
    assert_eq!(row(&out, "native", "lo"), "lo - 65536 no no no no");
    let first = out.split("\n\n").next().expect("a table");
    assert!(first.lines().all(|line| line.len() <= 80), "{out}");
    let further = format!("peer p0 in {}, GRO off", bed.peer.name);
    assert!(out.contains(&further), "{out}");
}

#[test]
fn named_devices_are_shown_once_and_in_their_order() {
    let bed = Bed::new();
    let named = bed.tool().json("features v0 lo v0");
    assert_eq!(names(&named), ["v0", "lo"]);
    let there = Tool {
        ns: &bed.peer,
        pins: &bed.pins,
    };
    assert_eq!(there.json("features p0")[0]["peer"]["ifname"], "v0");
}

#[test]
fn an_unknown_device_is_named_and_nothing_else_is_said() {
    let bed = Bed::new();
    for words in ["features nope0", "features v0 nope0 --json"] {
        let run = bed.tool().run(words).fails(3, &["\"nope0\""]);
        assert!(run.out.is_empty(), "{run:?}");
    }
    // The peer is not in this namespace.
    bed.tool().run("features p0").fails(3, &["\"p0\""]);
}

#[test]
fn a_user_without_rights_sees_all_but_into_other_namespaces() {
    guest::needs_kernel(6, 3, "what drivers say of XDP");
    let bed = Bed::new();
    let dir = tempfile::tempdir().expect("a directory");
    chmod(dir.path(), 0o755);
    let binary = dir.path().join("xdpredir");
    install(&binary);
    let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    let words = format!("{nobody} {} features v0 --json", binary.display());
    let seen: Value = serde_json::from_str(&bed.ns.exec(&words)).expect("JSON");
    assert_eq!(seen[0]["xdp"], bed.features("v0")["xdp"]);
    assert_eq!(seen[0]["offloads"], bed.features("v0")["offloads"]);
    assert_eq!(seen[0]["peer"]["netns"]["name"], bed.peer.name.as_str());
    assert_eq!(seen[0]["peer"]["ifname"], Value::Null);
}
