//! The units in units/: a host that systemd boots redirects as the files in /etc/xdpredir say.

use std::process::Command;

use crate::fixture::systemd::{Booted, UNITS};
use crate::fixture::{BINARY, Run, eventually};
use serde_json::json;

const FILE: &str = r#"
[[interface]]
name = "lan"
mode = "skb"

[[interface]]
name = "vnet0"
mode = "skb"
policy = "drop"

[[rule]]
port = 53
reply = "none"
  [[rule.backend]]
  netns = "server"

[[rule]]
port = 54
action = "drop"
"#;

/// A host with the interface `lan` and a server.
fn host() -> Booted {
    let host = Booted::new();
    host.exec(
        "ip link add lan type veth peer name lan1 && ip link set lan up && ip link set lan1 up &&
        ip netns add server && ip link add wan type veth peer name eth0 netns server &&
        ip link set wan up && ip -n server link set eth0 up && ip -n server addr add 172.17.0.2/16 dev eth0",
    );
    host.write("/etc/xdpredir/rules.toml", FILE);
    host
}

#[test]
fn the_units_are_what_systemd_understands() {
    let directory = tempfile::tempdir().unwrap();
    let mut names = Vec::new();
    for unit in std::fs::read_dir(UNITS).unwrap().flatten() {
        let text = std::fs::read_to_string(unit.path()).unwrap();
        let name = unit
            .file_name()
            .into_string()
            .unwrap()
            .replace('@', "@vnet0");
        let path = directory.path().join(&name);
        std::fs::write(&path, text.replace("/usr/local/bin/xdpredir", BINARY)).unwrap();
        names.push(path);
    }
    let mut verify = Command::new("systemd-analyze");
    verify.arg("verify").args(&names);
    let run = Run::from(verify.output().expect("systemd is installed")).ok();
    assert_eq!(run.err, "");
}

#[test]
fn devices_and_backends_are_followed_from_boot_to_stop() {
    let host = host();
    // vnet0 is not there yet, and does not stop the rest.
    host.exec("systemctl start xdpredir.service");
    assert_eq!(host.attached(), ["lan"]);
    assert_eq!(host.json("status")["rules"], 3);
    let state = |unit: &str| host.try_exec(&format!("systemctl is-active {unit}")).out;
    assert_eq!(state("xdpredir"), "active\n");

    // A device comes, goes, and comes again with another index.
    host.exec("systemctl enable xdpredir@vnet0.service");
    for _ in 0..2 {
        host.exec("ip link add vnet0 type veth peer name vnet1");
        eventually("vnet0 is attached", || host.attached() == ["lan", "vnet0"]);
        eventually("its unit is active", || {
            state("xdpredir@vnet0") == "active\n"
        });
        let status = host.json("status");
        assert_eq!(status["interfaces"][1]["policy"], "drop");
        host.exec("ip link del vnet0");
        eventually("its unit ends", || state("xdpredir@vnet0") == "inactive\n");
        assert_eq!(
            host.json("status")["interfaces"].as_array().unwrap().len(),
            1
        );
    }

    // A backend moves.
    host.exec("ip -n server link set eth0 address 02:00:00:00:00:77");
    host.exec("systemctl start xdpredir-refresh.service");
    assert_eq!(
        host.json("rule list --port 53")[0]["mac"],
        "02:00:00:00:00:77"
    );

    // A file that is wrong changes nothing.
    host.exec("xdpredir rule add --port 55 --pass");
    host.write("/etc/xdpredir/worse.toml", "[[rule]]\nporn = 1\n");
    assert_ne!(host.try_exec("systemctl reload xdpredir").code, 0);
    assert_eq!(
        (host.attached(), host.json("status")["rules"].clone()),
        (vec!["lan".into()], json!(5))
    );
    host.exec("rm /etc/xdpredir/worse.toml && systemctl reload xdpredir");
    assert_eq!(host.json("status")["rules"], 3);

    host.exec("systemctl stop xdpredir");
    assert_eq!(host.exec("ls /sys/fs/bpf"), "maps.debug\nprogs.debug\n");
    assert_eq!(state("xdpredir"), "inactive\n");
    // Nothing to take off is no failure.
    host.exec("systemctl start xdpredir && xdpredir detach --all && systemctl stop xdpredir");
    assert_eq!(state("xdpredir"), "inactive\n");
    assert_eq!(host.exec("systemctl --failed --no-legend"), "");
}

#[test]
fn what_nobody_confirms_is_taken_back() {
    let host = host();
    let file = |text: &str| host.write("/etc/xdpredir/rules.toml", text);
    let lan = "[[interface]]\nname = \"lan\"\nmode = \"skb\"\npolicy = \"POLICY\"\n";
    let policy = || host.json("status")["interfaces"][0]["policy"].clone();
    file(&lan.replace("POLICY", "pass"));
    host.exec("xdpredir apply /etc/xdpredir");
    let before = host.json("history").as_array().unwrap().len();

    file(&(lan.replace("POLICY", "drop") + "[[rule]]\nport = 1\naction = \"drop\"\n"));
    let run = host.try_exec("xdpredir apply --confirm 1s --json /etc/xdpredir");
    let run = run.ok();
    assert_eq!(run.json()["on_trial"], true);
    let said = "taken back in 1s: `xdpredir apply --confirmed` keeps it";
    assert!(run.err.contains(said), "{run:?}");
    eventually("it is taken back", || {
        policy() == "pass" && host.json("history").as_array().unwrap().len() == before + 2
    });
    assert_eq!(host.json("status")["rules"], 0);
    let history = host.json("history");
    let command = history[0]["command"].as_str().unwrap();
    assert!(
        command.starts_with("xdpredir rollback --unless-confirmed "),
        "{command}"
    );
    eventually("the timer is gone", || timers(&host).is_empty());

    // Meanwhile nothing else changes; what is confirmed stays.
    host.exec("xdpredir apply --confirm 1h /etc/xdpredir");
    assert_eq!(host.json("history")[0]["unconfirmed"], true);
    host.try_exec("xdpredir rule add --port 2 --pass")
        .fails(4, &["is not confirmed", "apply --confirmed", "rollback"]);
    assert_eq!(
        (policy(), &host.json("status")["rules"]),
        (json!("drop"), &json!(2))
    );
    host.exec("xdpredir apply --confirmed");
    host.exec("xdpredir rule add --port 2 --pass");
    let history = host.json("history");
    run_timer(&host);
    assert_eq!(host.json("history"), history);
    host.try_exec("xdpredir apply --confirmed")
        .fails(3, &["needs no confirmation"]);

    // What somebody takes back is not taken back again.
    host.exec("xdpredir apply --confirm 1h /etc/xdpredir && xdpredir rollback");
    assert_eq!(host.json("status")["rules"], 4);
    let history = host.json("history");
    run_timer(&host);
    assert_eq!(host.json("history"), history);

    // What changes nothing needs no confirmation.
    host.exec("xdpredir apply /etc/xdpredir && xdpredir apply --confirm 1h /etc/xdpredir");
    host.try_exec("xdpredir apply --confirmed")
        .fails(3, &["needs no confirmation"]);
    assert_eq!(timers(&host), [] as [&str; 0]);
}

fn timers(host: &Booted) -> Vec<String> {
    let all =
        host.exec("systemctl list-units --all --plain --no-legend '*unless-confirmed*.timer'");
    let name = |line: &str| line.split(' ').next().map(String::from);
    all.lines().filter_map(name).collect()
}

/// Runs now what the only timer would run later, and ends it.
fn run_timer(host: &Booted) {
    let [timer] = timers(host).try_into().expect("one timer");
    let service = timer.replace(".timer", ".service");
    host.exec(&format!(
        "systemctl start {service} && systemctl stop {timer}"
    ));
}

/// A network namespace that systemd would not find, and a host without systemd.
#[test]
fn what_nobody_could_take_back_is_not_begun() {
    let host = host();
    let file = "[[interface]]\nname = \"lan\"\nmode = \"skb\"\n";
    host.write("/etc/xdpredir/rules.toml", file);
    let apply =
        "ip link add lan type veth peer name lan1 && xdpredir apply --confirm 1h /etc/xdpredir";
    let nowhere = host.try_exec(&format!("unshare --net sh -c '{apply}'"));
    let why = "has no name by which a timer would find it";
    nowhere.fails(6, &[why, "rollback"]);
    host.exec("ip netns add other && ip -n other link add lan type veth peer name lan1");
    host.exec("xdpredir --netns other apply --confirm 1s /etc/xdpredir");
    eventually("it is taken back there", || {
        host.exec("ls /sys/fs/bpf") == "maps.debug\nprogs.debug\n"
    });
    let refused = host.try_exec(
        "unshare --mount sh -c 'mount -t tmpfs none /run/systemd && xdpredir apply --confirm 1h /etc/xdpredir'",
    );
    refused.fails(6, &["does not run systemd", "rollback"]);
    assert_eq!(host.exec("ls /sys/fs/bpf"), "maps.debug\nprogs.debug\n");
}

#[test]
fn the_first_attachment_can_be_taken_back_too() {
    let host = host();
    host.write(
        "/etc/xdpredir/rules.toml",
        "[[interface]]\nname = \"lan\"\npolicy = \"drop\"\n",
    );
    host.exec("xdpredir apply --confirm 1s /etc/xdpredir");
    eventually("nothing is attached", || host.attached().is_empty());
    eventually("nothing is left", || {
        host.exec("ls /sys/fs/bpf") == "maps.debug\nprogs.debug\n"
    });
    host.write("/etc/xdpredir/rules.toml", "interface = []\n");
    host.exec("xdpredir attach lan");
    host.try_exec("xdpredir apply --confirm 1s /etc/xdpredir")
        .fails(2, &["nothing would be attached"]);
    assert_eq!(host.attached(), ["lan"]);
    assert_eq!(host.exec("systemctl --failed --no-legend"), "");
}
