//! Rules as the command reads them: words of a command line, and rows of a file.

use std::collections::HashMap;
use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::fixture::model::{Action, Backend, Match, Prefix, Rule, TooLong};
use crate::fixture::{Run, Tool};

pub fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|b| format!("{b:02x}")).join(":")
}

/// What a rule matches.
pub fn matching(matches: &Match) -> String {
    let [dst, src] = [matches.dst, matches.src].map(prefix);
    let mut all = format!("--dst {dst} --src {src} --proto {}", matches.proto.name());
    let mut told = |word: Option<String>| all.push_str(&word.unwrap_or_default());
    told(Some(format!(" --port {}", ports(matches))));
    told((matches.vlan > 0).then(|| format!(" --vlan {}", matches.vlan)));
    told(
        matches
            .inner_vlan
            .map(|vlan| format!(" --inner-vlan {vlan}")),
    );
    told(matches.ingress.map(|name| format!(" --in {name}")));
    all
}

fn prefix(Prefix { addr, len }: Prefix) -> String {
    format!("{addr}/{len}")
}

fn ports(matches: &Match) -> String {
    match matches.ports {
        None => "any".into(),
        Some((first, last)) if first == last => first.to_string(),
        Some((first, last)) => format!("{first}-{last}"),
    }
}

pub fn too_long(too_long: TooLong) -> &'static str {
    match too_long {
        TooLong::Icmp => "icmp",
        TooLong::Pass => "pass",
        TooLong::Drop => "drop",
    }
}

/// The action of a rule without backends.
pub fn acting(rule: &Rule) -> String {
    match rule.action {
        Action::Redirect => String::new(),
        Action::Pass => " --pass".into(),
        Action::Drop => " --drop".into(),
        Action::Socket => " --socket".into(),
        Action::Forward(device, to) => {
            let to = to.map(|to| format!(" --mac {}", mac(to)));
            let to = to.unwrap_or_default();
            format!(
                " --forward {device}{to} --too-long {}",
                too_long(rule.too_long)
            )
        }
    }
}

/// The commands that add a rule as it is.
pub fn adding(rule: &Rule) -> Vec<String> {
    let matches = matching(&rule.matches);
    if rule.action != Action::Redirect {
        return vec![format!("rule add {matches}{}", acting(rule))];
    }
    let backend = |backend| format!("rule add {matches}{}", backend_words(rule, backend));
    rule.backends.iter().map(backend).collect()
}

/// How answers come back.
pub fn reply(nat: bool) -> &'static str {
    if nat { " --reply nat" } else { " --reply none" }
}

/// What chooses a backend.
pub fn hash(by_source: bool) -> &'static str {
    match by_source {
        true => " --hash source",
        false => " --hash flow",
    }
}

fn backend_words(rule: &Rule, backend: &Backend) -> String {
    let mut all = format!(
        " --server {} --dev {} --mac {} --weight {} --too-long {}",
        backend.server,
        backend.device,
        mac(backend.mac),
        backend.weight,
        too_long(rule.too_long),
    );
    let mut told = |word: Option<String>| all.push_str(&word.unwrap_or_default());
    told(Some(hash(rule.by_source).into()));
    told(backend.to_port.map(|port| format!(" --to-port {port}")));
    told(backend.push_vlan.map(|vlan| format!(" --push-vlan {vlan}")));
    told(Some(" --pop-vlan".repeat(backend.pops)));
    told(backend.keep_ip.then(|| " --keep-ip".into()));
    told((!backend.keep_ip).then(|| reply(rule.options.nat).into()));
    told(rule.options.sticky.then(|| " --sticky".into()));
    told((!rule.decrement_ttl).then(|| " --keep-ttl".into()));
    told(rule.announce.then(|| " --announce".into()));
    let snat = rule.snat.filter(|_| !backend.keep_ip);
    told(snat.map(|addr| format!(" --snat {addr}")));
    all
}

fn row_reply(rule: &Rule, backend: &Backend) -> &'static str {
    match (backend.keep_ip, rule.options.nat) {
        (true, _) => "direct",
        (_, true) => "nat",
        _ => "none",
    }
}

/// The rule's rows in a file, by the indexes of devices.
pub fn rows(rule: &Rule, ifindexes: &HashMap<&str, u32>) -> Vec<Value> {
    let Match {
        proto,
        vlan,
        inner_vlan,
        ingress,
        ..
    } = rule.matches;
    let ports = match rule.matches.ports {
        Some((first, last)) if first == last => first.into(),
        _ => Value::from(ports(&rule.matches)),
    };
    let whole = json!({
        "dst": prefix(rule.matches.dst), "src": prefix(rule.matches.src), "proto": proto.name(), "port": ports,
        "vlan": (vlan > 0).then_some(vlan), "inner_vlan": inner_vlan, "in": ingress,
        "too_long": too_long(rule.too_long),
    });
    let with = |more: Value| {
        let mut row = whole.clone();
        row.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        row
    };
    let act = |name: &str| vec![with(json!({ "action": name }))];
    match rule.action {
        Action::Pass => act("pass"),
        Action::Drop => act("drop"),
        Action::Socket => act("socket"),
        Action::Forward(device, to) => vec![with(json!({
            "action": "forward", "ifindex": ifindexes[device], "mac": to.map(mac),
        }))],
        Action::Redirect => {
            let backends = rule.backends.iter().map(|backend| {
                with(json!({
                    "server": backend.server.to_string(), "mac": mac(backend.mac),
                    "ifindex": ifindexes[backend.device], "weight": backend.weight, "marked_down": backend.down,
                    "to_port": backend.to_port, "keep_ip": backend.keep_ip, "push_vlan": backend.push_vlan,
                    "pop_vlan": backend.pops > 0, "pop_vlans": backend.pops,
                    "sticky": rule.options.sticky, "reply": row_reply(rule, backend),
                    "decrement_ttl": rule.decrement_ttl, "announce": rule.announce,
                    "hash": if rule.by_source { "source" } else { "flow" },
                    "snat": rule.snat.filter(|_| !backend.keep_ip),
                }))
            });
            backends.collect()
        }
    }
}

/// Loads rows from standard input.
pub fn load(tool: &Tool, rows: impl Iterator<Item = Value>) -> Run {
    let rows: String = rows.map(|row| format!("{row}\n")).collect();
    let mut command = tool.command("rule load -");
    command.stdin(Stdio::piped());
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut input = child.stdin.take().expect("a pipe");
    // A run that fails may not read all of it.
    let _ = input.write_all(rows.as_bytes());
    drop(input);
    child.wait_with_output().expect("it ends").into()
}
