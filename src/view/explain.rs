//! A packet's way through the program, stage by stage.

use std::io::stdout;

use super::doctor::sentence;
use super::remedy::Shell;
use super::style::{self, Tone, paint};
use super::{escape, terminal};
use crate::model::{
    ActionKind, Candidate, Check, Connection, Explanation, Finding, Packet, RuleRecord, VlanId,
};

/// The column of the stages' names.
const INDENT: usize = 12;
/// The slots of each Maglev table.
const SLOTS: u32 = 16127;
/// Bytes in a row of a frame.
const ROW: usize = 16;

/// All of it, with an empty line at the end.
pub fn explanation(explained: &Explanation, shell: &Shell) -> String {
    let mut text = Lines::default();
    let (name, mode) = (escape(&explained.ifname), explained.mode);
    text.line(
        "frame",
        &format!("{} bytes at {name} ({mode})", explained.before.len()),
    );
    if !explained.chain.is_empty() {
        let names = escape(&explained.chain.join(", "));
        text.line("chain", &format!("as if all of these pass it on: {names}"));
    }
    text.line("parsed as", &parsed(explained.parsed.as_ref()));
    text.line("connection", &connection(explained));
    rules(&mut text, explained);
    if let Some(backend) = explained
        .backend
        .as_ref()
        .filter(|row| row.server.is_some())
    {
        text.line("backend", &way(backend, explained.maglev_slot));
    }
    for check in &explained.checks {
        text.line("check", &checked(check));
    }
    changes(&mut text, explained);
    text.line("outcome", &outcome(explained));
    doctor(&mut text, explained.findings.as_deref(), shell);
    text.0 + "\n"
}

#[derive(Default)]
struct Lines(String);

impl Lines {
    /// A stage's name, and what there is to say of it.
    fn line(&mut self, name: &str, value: &str) {
        let columns = terminal::width(&stdout()).map(usize::from);
        self.0 += &terminal::entry(name, value, INDENT, columns);
        self.0.push('\n');
    }
}

fn parsed(packet: Option<&Packet>) -> String {
    let Some(packet) = packet else {
        return "no Ethernet frame".into();
    };
    let mut said = match &packet.ip {
        None => "no IP packet".to_string(),
        Some(ip) => {
            let end = |addr, port: Option<u16>| match port {
                Some(port) => std::net::SocketAddr::new(addr, port).to_string(),
                None => addr.to_string(),
            };
            let ports = ip.ports;
            let from = end(ip.src, ports.map(|ports| ports.src));
            let to = end(ip.dst, ports.map(|ports| ports.dst));
            let mut said = format!("{} {from} -> {to}, TTL {}", ip.protocol(), ip.ttl);
            if !ip.tcp_flags.is_empty() {
                said += &format!(", {}", ip.tcp_flags.join(" "));
            }
            if ip.later_fragment {
                said += ", a later fragment, which follows the first one of its datagram";
            } else if ip.fragment {
                said += ", the first fragment of a datagram";
            }
            said
        }
    };
    let names = ["VLAN", "inner VLAN", "third VLAN"];
    for (name, id) in names.iter().zip(&packet.vlans) {
        said += &format!(", {name} {id}");
    }
    said
}

fn connection(explained: &Explanation) -> String {
    match (&explained.connection, &explained.begins) {
        (Some(connection), _) => format!("{}, {}", ends(connection), connection.state),
        (None, Some(connection)) => format!("none; one begins: {}", ends(connection)),
        (None, None) => "none".into(),
    }
}

fn ends(connection: &Connection) -> String {
    let end = |addr, port| std::net::SocketAddr::new(addr, port);
    let client = end(connection.src, connection.src_port);
    let asked = end(connection.dst, connection.port);
    let server = end(connection.server, connection.server_port);
    let seen = end(connection.snat, connection.snat_port);
    let vlan = |vlan: Option<VlanId>| vlan.map_or_else(String::new, |id| format!(" in VLAN {id}"));
    let as_seen = match seen == client {
        true => String::new(),
        false => format!(" as {seen}"),
    };
    format!(
        "{client} asked {asked}{}, served by {server}{as_seen}",
        vlan(connection.vlan)
    )
}

fn rules(text: &mut Lines, explained: &Explanation) {
    let rules = &explained.rules;
    if rules.is_empty() {
        return text.line("rules", "none matches");
    }
    for (place, candidate) in rules.iter().enumerate() {
        let name = if place == 0 { "rules" } else { "" };
        text.line(name, &rule(candidate));
    }
}

fn rule(candidate: &Candidate) -> String {
    let does = candidate
        .rows
        .first()
        .map_or_else(String::new, |row| match row.action {
            ActionKind::Redirect => format!(
                "redirect to {}",
                super::count(candidate.rows.len(), "backend")
            ),
            ActionKind::Forward => {
                format!("forward to {}", escape(&row.device().unwrap_or_default()))
            }
            other => other.to_string(),
        });
    let takes = match (candidate.takes, candidate.by) {
        (true, Some(by)) => format!(" (takes it: more specific by {by})"),
        (true, None) => " (takes it)".into(),
        (false, _) => String::new(),
    };
    format!("{}: {does}{takes}", escape(&candidate.text))
}

fn way(row: &RuleRecord, slot: Option<u32>) -> String {
    let mut said = row
        .server
        .map_or_else(String::new, |server| server.to_string());
    if let Some(device) = row.device() {
        said += &format!(" by {}", escape(&device));
    }
    if let Some(mac) = row.mac {
        said += &format!(", MAC {mac}");
    }
    if row.state != Default::default() {
        said += &format!(", {}", row.state);
    }
    if let Some(slot) = slot {
        said += &format!("; slot {slot} of {SLOTS} of the rule's Maglev table");
    }
    said
}

fn checked(check: &Check) -> String {
    let name = match check.check {
        "ttl" => "TTL",
        "mtu" => "MTU",
        other => other,
    };
    let said = format!("{name}: {}", escape(&check.text));
    match check.passed {
        true => said,
        false => paint(&format!("{said} (fails)"), Tone::Bad, &stdout()),
    }
}

/// The frame before and after, with the bytes that change in colours, or in brackets where there are none.
fn changes(text: &mut Lines, explained: &Explanation) {
    let (before, after) = (&explained.before, &explained.after);
    if before == after {
        return text.line("bytes", "none changes");
    }
    let changed = |at: usize| before.get(at) != after.get(at);
    for (name, frame) in [("before", before), ("after", after)] {
        for (row, bytes) in frame.chunks(ROW).enumerate() {
            let first = row * ROW;
            let is_shown = row < 6 || (first..first + bytes.len()).any(changed);
            if !is_shown {
                continue;
            }
            let bytes = bytes.iter().enumerate();
            let bytes: String = bytes
                .map(|(at, byte)| shown(*byte, changed(first + at)))
                .collect();
            text.line(
                if row == 0 { name } else { "" },
                &format!("{first:04x} {bytes}"),
            );
        }
    }
}

fn shown(byte: u8, is_changed: bool) -> String {
    let gap = terminal::NO_BREAK;
    if !is_changed {
        return format!("{gap}{byte:02x}{gap}");
    }
    if style::is_wanted(&stdout()) {
        return format!(
            "{gap}{}{gap}",
            style::painted(&format!("{byte:02x}"), Tone::Doubtful)
        );
    }
    format!("[{byte:02x}]")
}

fn outcome(explained: &Explanation) -> String {
    let words = explained.outcome.replace('_', " ");
    let leaves = match (&explained.egress, explained.action) {
        (Some(device), "redirect") => format!(": leaves by {}", escape(device)),
        (_, "tx") => ": an answer leaves by the interface".into(),
        (_, "drop") => ": dropped".into(),
        (_, "pass") => ": goes to the host's network stack".into(),
        _ => String::new(),
    };
    let because = because(explained.outcome).map_or_else(String::new, |why| format!("; {why}"));
    let said = format!("{words}{leaves}{because}");
    match explained.is_sent() {
        true => said,
        false => paint(&said, Tone::Doubtful, &stdout()),
    }
}

/// Why a packet is not sent on, where the outcome's name does not say it all.
fn because(outcome: &str) -> Option<&'static str> {
    Some(match outcome {
        "answer_passed" => {
            "the client's device takes no redirected frames, so the host's stack sends it on"
        }
        "no_connection" => "its connection cannot be remembered: there is no room",
        "no_source_port" => "no source port is free for its connection",
        "to_socket" => "`dump --rules` reads it",
        "no_reader" => "no `dump --rules` reads there",
        "not_ip" => "it is neither IPv4 nor IPv6",
        "not_udp_tcp" => "no rule matches, and its protocol has no ports",
        "not_unicast" => "it is broadcast, multicast or link-local, and no rule names its address",
        "truncated" => "its headers are cut off",
        "malformed" => "its headers contradict each other",
        "too_many_tags" => {
            "it has more than two VLAN tags, or two of which the backend takes one away"
        }
        "extension_headers" => {
            "its IPv6 extension headers are too many, too long, or not to be followed"
        }
        "fragment_without_first" => {
            "the first fragment of its datagram was not seen, or was not redirected"
        }
        "late_first_fragment" => "a later fragment of its datagram came first",
        "ttl_exceeded" => "its TTL or hop limit is 1",
        "too_big_sent" => "its sender is told what fits",
        "announced" => "a rule announces this address",
        "echo_answered" => "a rule announces this address, and none takes the echo request",
        "too_long" => "its sender cannot be told what fits, or the rule says so",
        "too_long_dropped" => "too many senders were told in this second, or the rule says so",
        "no_headroom" => "there is no room in front of the frame for a VLAN tag",
        "policy_drop" => "no rule matches, and the interface's policy is drop",
        "policy_forward" => "no rule matches, and the interface's policy forwards",
        _ => return None,
    })
}

fn doctor(text: &mut Lines, findings: Option<&[Finding]>, shell: &Shell) {
    match findings {
        None => text.line("doctor", "could not look at this way"),
        Some(findings) => {
            for finding in findings {
                text.line("doctor", &escape(&sentence(finding, shell)));
            }
        }
    }
}
