//! Tables for people.

use std::io::stdout;
use std::time::Duration;

use super::columns::Columns;
use super::escape::escape;
use super::failures::Advice;
use super::style::Tone;
use super::{failures, terminal, units};
use crate::model::{
    ActionKind, BackendState, Counter, InterfaceStats, InterfaceStatus, LedgerState, LinkState,
    Pops, Proto, Rate, RuleRecord, Snapshot, Status, TooLong,
};

/// An earlier snapshot, and the time that has passed since.
type Earlier<'a> = Option<(&'a Snapshot, Duration)>;

/// What is attached.
pub fn status(status: &Status) -> String {
    let rules = units::count(status.rules, "rule");
    let summary = format!("{rules} under {}", status.pin_dir.display());
    let fit = |line: &str| terminal::fit(&escape(line), 2, stdout()) + "\n";
    if status.interfaces.is_empty() {
        return fit(&format!(
            "not attached in this network namespace; {summary}"
        ));
    }
    let table = Columns::of(&status.interfaces)
        .text("interface", named_with_state)
        .color(is_marked)
        .number("ifindex", |interface| interface.ifindex.to_string())
        .text("mode", |interface| interface.mode.to_string())
        .number("program", |interface| id(interface.program_id))
        .number("link", |interface| id(interface.link_id))
        .lines(&["link", "program", "ifindex"]);
    let lines = no_ledger(&status.interfaces).chain([summary]);
    table + &lines.map(|line| fit(&line)).collect::<String>()
}

fn named_with_state(interface: &InterfaceStatus) -> String {
    let state = match interface.state {
        LinkState::Attached => "",
        LinkState::Gone => " (gone)",
        LinkState::Moved => " (moved)",
        LinkState::Detached => " (detached by another)",
    };
    format!("{}{state}", interface.ifname)
}

/// A number that only root may ask for.
fn id(number: Option<u32>) -> String {
    number.map_or_else(|| "-".into(), |number| number.to_string())
}

/// Whether a device's name is followed by what is wrong with the device. Names have no spaces.
fn is_marked(name: &str) -> Option<Tone> {
    name.contains(" (").then_some(Tone::Bad)
}

fn is_some(number: &str) -> Option<Tone> {
    (number != "0").then_some(Tone::Bad)
}

fn is_not_up(state: &str) -> Option<Tone> {
    (state != "up").then_some(Tone::Bad)
}

fn no_ledger(interfaces: &[InterfaceStatus]) -> impl Iterator<Item = String> {
    let line = |interface: &InterfaceStatus| {
        let why = match interface.ledger {
            LedgerState::On => return None,
            LedgerState::Unwanted => "attached without one",
            LedgerState::Unavailable => {
                "this kernel refused the tracing programs; a verbose attach shows why"
            }
        };
        Some(format!(
            "{}: no ledger of lost frames: {why}",
            interface.ifname
        ))
    };
    interfaces.iter().filter_map(line)
}

/// One backend a row.
pub fn rules(rows: &[RuleRecord]) -> String {
    if rows.is_empty() {
        return "no rules\n".into();
    }
    let is_rewritten = rows.iter().any(|row| !rewriting(row).is_empty());
    let has_state = rows.iter().any(|row| row.state != BackendState::Up);
    with_match(Columns::of(rows), rows)
        .text("server", |row| or_dash(row.server))
        .text("mac", |row| or_dash(row.mac))
        .text("device", |row| or_dash(row.device()))
        .color(is_marked)
        .number("weight", |row| or_dash(row.server.map(|_| row.weight)))
        .number("packets", |row| packets(row.counter()))
        .number("bytes", |row| bytes(row.counter()))
        .when(any_lost(rows), with_lost)
        .when(has_state, |table| {
            table
                .text("state", |row| row.state.to_string())
                .color(is_not_up)
        })
        .when(is_rewritten, |table| table.text("rewriting", rewriting))
        .lines(&["mac", "weight", "bytes"])
}

/// What rules match, and their actions; of what few rules say, a column only where some rule says it.
fn with_match<'a>(table: Columns<'a, RuleRecord>, rows: &[RuleRecord]) -> Columns<'a, RuleRecord> {
    let any = |says: fn(&RuleRecord) -> bool| rows.iter().any(says);
    let has_interface = any(|row| row.in_ifindex.is_some());
    let has_dst = any(|row| row.matches().dst.prefix_len() > 0);
    let has_action = any(|row| row.action != ActionKind::Redirect);
    table
        .when(has_interface, |table| {
            table
                .text("in", |row| row.interface().unwrap_or_else(|| "any".into()))
                .color(is_marked)
        })
        .when(has_dst, |table| {
            table.text("destination", |row| row.matches().dst.to_string())
        })
        .text("source", |row| row.src.to_string())
        .text("port", port)
        .when(has_action, |table| {
            table.text("action", |row| row.action.to_string())
        })
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

fn any_lost(rows: &[RuleRecord]) -> bool {
    rows.iter().any(|row| row.lost() > 0)
}

fn with_lost(table: Columns<RuleRecord>) -> Columns<RuleRecord> {
    let lost = |row: &RuleRecord| units::number(row.lost() as f64);
    table.number("lost", lost).color(is_some)
}

/// Counters of interfaces and backends; with an earlier snapshot, rates as well.
pub fn stats(snapshot: &Snapshot, earlier: Earlier, advice: &Advice) -> String {
    let mut text = format!("{}\n", snapshot.timestamp);
    if !snapshot.interfaces.is_empty() {
        text += &format!("\n{}", interfaces(snapshot, earlier));
    }
    if !snapshot.rules.is_empty() {
        text += &format!("\n{}", backends(snapshot, earlier));
    }
    text + &failures::lines(snapshot, advice)
}

fn interfaces(snapshot: &Snapshot, earlier: Earlier) -> String {
    let all = snapshot.interfaces.iter();
    let lines: Vec<_> = all
        .flat_map(|interface| action_lines(interface, earlier))
        .collect();
    Columns::of(&lines)
        .text("interface", |([name, _], ..)| name.clone())
        .text("mode", |([_, mode], ..)| mode.clone())
        .text("action", |(_, action, ..)| action.clone())
        .number("packets", |(.., counter, _)| packets(*counter))
        .number("bytes", |(.., counter, _)| bytes(*counter))
        .when(earlier.is_some(), |table| {
            with_rates(table, |(.., rate)| *rate)
        })
        .lines(&["mode", "bytes", "bytes/s"])
}

/// A line for each action. The first one has the interface's name and mode, too.
fn action_lines(
    interface: &InterfaceStats,
    earlier: Earlier,
) -> impl Iterator<Item = ([String; 2], String, Counter, Rate)> {
    let mut title = [interface.ifname.clone(), interface.mode.to_string()];
    let before = earlier.and_then(|(snapshot, _)| {
        let mut all = snapshot.interfaces.iter();
        all.find(|other| other.ifindex == interface.ifindex)
    });
    actions(interface)
        .into_iter()
        .map(move |(action, counter)| {
            let before = before.map_or(counter, |interface| earlier_of(interface, &action));
            let rate = rate(counter, before, earlier);
            (std::mem::take(&mut title), action, counter, rate)
        })
}

/// Zero where there is no earlier snapshot.
fn rate(counter: Counter, before: Counter, earlier: Earlier) -> Rate {
    let since = |(_, elapsed)| counter.rate_since(before, elapsed);
    earlier.map_or(Rate::default(), since)
}

fn backends(snapshot: &Snapshot, earlier: Earlier) -> String {
    let rate = |row: &RuleRecord| {
        let same = |other: &&RuleRecord| other.identity() == row.identity();
        let before = earlier.and_then(|(snapshot, _)| snapshot.rules.iter().find(same));
        let before = before.map_or(Counter::default(), RuleRecord::counter);
        rate(row.counter(), before, earlier)
    };
    with_match(Columns::of(&snapshot.rules), &snapshot.rules)
        .text("server", |row| or_dash(row.server))
        .text("device", |row| or_dash(row.device()))
        .color(is_marked)
        .number("packets", |row| packets(row.counter()))
        .number("bytes", |row| bytes(row.counter()))
        .when(any_lost(&snapshot.rules), with_lost)
        .when(earlier.is_some(), |table| with_rates(table, rate))
        .lines(&[
            "device",
            "bytes",
            "bytes/s",
            "source",
            "port",
            "destination",
            "in",
        ])
}

fn with_rates<T>(table: Columns<T>, rate: impl Fn(&T) -> Rate) -> Columns<T> {
    table
        .number("packets/s", |row| units::rate(rate(row).packets))
        .number("bytes/s", |row| units::bytes(rate(row).bytes))
}

/// udp/53, tcp/7000-7010, udp/any, icmp; with tags, udp/53@5 or udp/53@5.6.
fn port(row: &RuleRecord) -> String {
    let proto = match row.proto {
        Proto::Icmp | Proto::Any if row.port.is_any() => row.proto.to_string(),
        proto => format!("{proto}/{}", row.port),
    };
    match (row.vlan, row.inner_vlan) {
        (None, None) => proto,
        (vlan, None) => format!("{proto}@{}", or_dash(vlan)),
        (vlan, Some(inner)) => format!("{proto}@{}.{inner}", or_dash(vlan)),
    }
}

/// The action of a rule without backends, in the words of the command line.
pub fn action(row: &RuleRecord) -> String {
    let device = row.device().map(|device| format!(" {device}"));
    let mac = row.mac.map(|mac| format!(" mac {mac}"));
    let too_long = too_long(row).map(|words| format!(" {words}"));
    let words = [device, mac, too_long].into_iter().flatten();
    row.action.to_string() + &words.collect::<String>()
}

fn too_long(row: &RuleRecord) -> Option<String> {
    let choice = row.too_long;
    (choice != TooLong::default()).then(|| format!("too-long {choice}"))
}

/// The rewriting that is not the default, in the words of the command line.
pub fn rewriting(row: &RuleRecord) -> String {
    let words = [
        row.to_port.map(|port| format!("to-port {port}")),
        row.snat.map(|addr| format!("snat {addr}")),
        row.keep_ip.then(|| "keep-ip".into()),
        (row.server.is_some() && !row.decrement_ttl).then(|| "keep-ttl".into()),
        row.pops().and_then(pop_vlan),
        row.push_vlan.map(|vlan| format!("push-vlan {vlan}")),
        too_long(row),
    ];
    let words: Vec<String> = words.into_iter().flatten().collect();
    words.join(" ")
}

fn pop_vlan(pops: Pops) -> Option<String> {
    match pops.get() {
        0 => None,
        1 => Some("pop-vlan".into()),
        _ => Some("pop-vlan twice".into()),
    }
}

/// The actions, each followed by the outcomes that led to it.
fn actions(interface: &InterfaceStats) -> Vec<(String, Counter)> {
    let actions = &interface.actions;
    let all = [
        ("redirect", actions.redirect),
        ("pass", actions.pass),
        ("drop", actions.drop),
        ("tx", actions.tx),
        ("aborted", actions.aborted),
    ];
    let outcomes = |action| {
        let of = interface
            .outcomes
            .0
            .iter()
            .filter(move |o| o.action == action);
        of.filter(|o| o.action != "redirect" && o.counter.packets > 0)
            .map(|o| (format!("- {}", o.name.replace('_', " ")), o.counter))
    };
    all.into_iter()
        .flat_map(|(action, counter)| {
            std::iter::once((action.to_string(), counter)).chain(outcomes(action))
        })
        .collect()
}

/// The counter at that time; zero for an outcome that no packet had yet.
fn earlier_of(interface: &InterfaceStats, name: &str) -> Counter {
    let found = actions(interface).into_iter().find(|(n, _)| n == name);
    found.map_or(Counter::default(), |(_, counter)| counter)
}

fn packets(counter: Counter) -> String {
    units::number(counter.packets as f64)
}

fn bytes(counter: Counter) -> String {
    units::bytes(counter.bytes as f64)
}
