//! Locators that lead nowhere any more, devices that lead to no server, and alternative names.

use std::process::{Child, Command, Stdio};

use crate::fixture::lan::{ANYWHERE, Lan, receive};
use crate::fixture::{Run, Tool};
use serde_json::Value;

/// Longer than the name of a device can be.
const LONG: &str = "a-name-of-more-than-15-bytes";
const PREFIX: &str = "rule add --src 192.168.122.10";

fn attached() -> Lan {
    let lan = Lan::new(false, 1);
    lan.host.ip("addr add 172.17.0.1/16 dev wan0");
    lan.tool().ok("attach lan");
    lan
}

fn locator(tool: &Tool) -> Value {
    tool.json("rule list")[0]["origin"].clone()
}

/// The findings of the check, and what doctor says of them to people.
fn found(tool: &Tool) -> (Vec<Value>, Run) {
    let all = tool.run("doctor --json").json();
    let all = all.as_array().expect("findings").iter();
    let of = all.filter(|finding| finding["check"] == "locator");
    (of.cloned().collect(), tool.run("doctor"))
}

#[track_caller]
fn one(tool: &Tool) -> (Value, String) {
    let (found, run) = found(tool);
    assert_eq!(found.len(), 1, "{run:?}");
    assert_eq!(found[0]["severity"], "warning");
    assert_eq!(found[0]["subject"], "server 172.17.0.2");
    (found[0].clone(), run.out)
}

/// Runs the command in the remedy as it is printed.
fn paste(finding: &Value) {
    let mend = finding["mend"].as_str().expect("words");
    let command = mend.split('`').nth(1).expect("a command");
    let binary = format!("{} ", crate::fixture::BINARY);
    let command = command.replace("xdpredir ", &binary);
    crate::fixture::command("sh", &["-c", &command]);
}

#[test]
fn a_renamed_device_is_told_and_its_new_name_is_the_remedy() {
    for server in ["", "--server 172.17.0.2"] {
        let lan = attached();
        let tool = lan.tool();
        tool.ok(&format!("{PREFIX} {server} --dev wan0"));
        assert_eq!(locator(&tool), "device wan0");
        assert!(found(&tool).0.is_empty());

        lan.host.ip("link set wan0 name uplink");
        let (finding, said) = one(&tool);
        assert!(said.contains("no device has that name now"), "{said}");
        assert!(said.contains("--dev uplink`"), "{said}");
        tool.run("rule refresh").fails(1, &["wan0"]);

        paste(&finding);
        assert!(found(&tool).0.is_empty());
        assert_eq!(locator(&tool), "device uplink");
        tool.ok("rule refresh");
    }
}

#[test]
fn a_device_that_is_gone_has_no_new_name() {
    let lan = attached();
    let tool = lan.tool();
    tool.ok(&format!("{PREFIX} --dev wan0"));
    lan.host.ip("link del wan0");
    let (finding, _) = one(&tool);
    assert_eq!(finding["mend"], "`rule add` it with another locator");
}

#[test]
fn a_network_namespace_without_its_name_is_told() {
    let lan = attached();
    let tool = lan.tool();
    let name = lan.servers[0].name.clone();
    tool.ok(&format!("{PREFIX} --server-netns {name}"));
    assert!(found(&tool).0.is_empty());
    let mut holder = sleeper(&name);
    crate::fixture::command("ip", &["netns", "del", &name]);
    let (finding, _) = one(&tool);
    let evidence = finding["evidence"].as_str().expect("words");
    assert!(
        evidence.contains(&format!("network namespace {name}, which is gone")),
        "{evidence}"
    );
    end(&mut holder);
    // For the fixture to remove.
    crate::fixture::command("ip", &["netns", "add", &name]);
}

#[test]
fn a_process_that_has_ended_is_told() {
    let lan = attached();
    let tool = lan.tool();
    let mut process = sleeper(&lan.servers[0].name);
    tool.ok(&format!("{PREFIX} --pid {}", process.id()));
    assert!(found(&tool).0.is_empty());
    end(&mut process);
    let (finding, _) = one(&tool);
    let evidence = finding["evidence"].as_str().expect("words");
    assert!(evidence.contains("which has ended"), "{evidence}");
}

/// A process in a namespace; once this returns it is there.
fn sleeper(netns: &str) -> Child {
    let file = format!("--net=/run/netns/{netns}");
    let mut child = Command::new("nsenter")
        .args([&file, "sh", "-c", "echo; exec sleep 60"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("nsenter can be run");
    let mut line = [0];
    let out = child.stdout.as_mut().expect("it is piped");
    std::io::Read::read_exact(out, &mut line).expect("it has started");
    child
}

fn end(child: &mut Child) {
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}

#[test]
fn what_is_routed_to_a_tun_has_no_neighbour_to_wait_for() {
    let lan = attached();
    lan.host.ip("tuntap add tun0 mode tun");
    lan.host.ip("addr add 10.9.0.1/24 dev tun0");
    lan.host.ip("link set tun0 up");
    let tool = lan.tool();
    for words in ["", "--dev wan0", "--mac 02:00:00:00:00:01 --dev tun0"] {
        tool.run(&format!("rule add --server 10.9.0.2 {words}"))
            .fails(6, &["tun0", "leads to no other host over Ethernet"]);
    }
    tool.run("rule add --server 10.9.0.2")
        .fails(6, &["10.9.0.2", "the host's route to it leaves by tun0"]);
    assert_eq!(tool.json("rule list"), serde_json::json!([]));
}

#[test]
fn a_long_alternative_name_is_as_good_as_a_name() {
    let lan = Lan::new(false, 1);
    let long = "n".repeat(127);
    for (device, name) in [("lan", long.as_str()), ("wan0", LONG)] {
        let words = format!("link property add dev {device} altname {name}");
        lan.host.ip(&words);
    }
    let tool = lan.tool();
    let out = tool.ok(&format!("attach {long}")).out;
    assert!(out.starts_with("lan: attached"), "{out}");
    assert_eq!(tool.json(&format!("features {LONG}"))[0]["ifname"], "wan0");

    tool.ok(&format!("rule add --dev {LONG}"));
    assert_eq!(locator(&tool), format!("device {LONG}"));
    let (server, vm) = (lan.server_socket(0), lan.vm_socket());
    vm.send_to(b"one", ANYWHERE).expect("it is sent");
    assert_eq!(receive(&server).0, "one");
    lan.host.ip("link set wan0 name uplink");
    assert!(found(&tool).0.is_empty());
    tool.ok("rule refresh");

    tool.ok("rule del");
    tool.ok(&format!("rule add --server 172.17.0.2 --dev {LONG}"));
    assert_eq!(locator(&tool), format!("device {LONG}"));
    tool.ok(&format!("detach {long}"));
    assert!(lan.pins.left().is_empty());
}

#[test]
fn an_alternative_name_that_is_too_long_to_be_remembered_is_refused() {
    let lan = attached();
    let name = "n".repeat(127);
    let words = format!("link property add dev wan0 altname {name}");
    lan.host.ip(&words);
    for server in ["", "--server 172.17.0.2"] {
        lan.tool()
            .run(&format!("rule add {server} --dev {name}"))
            .fails(2, &["--dev", "too long to be remembered"]);
    }
    for longer in ["n".repeat(128), "n".repeat(4000)] {
        let words = format!("features {longer}");
        lan.tool().run(&words).fails(3, &["no device"]);
    }
}
