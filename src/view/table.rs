//! Tables for people.

use std::io::stdout;
use std::time::Duration;

use super::columns::Columns;
use super::escape::escape;
use super::failures::Advice;
use super::style::Tone;
use super::{failures, terminal, units};
use crate::model::{
    BackendState, Counter, InterfaceStats, InterfaceStatus, LedgerState, LinkState, Rate,
    RuleRecord, Snapshot, Status,
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
    let mut table = Columns::new(&["interface", "ifindex", "mode", "program", "link"]);
    for interface in &status.interfaces {
        let state = match interface.state {
            LinkState::Attached => "",
            LinkState::Gone => " (gone)",
            LinkState::Moved => " (moved)",
            LinkState::Detached => " (detached by another)",
        };
        table.color("interface", is_marked);
        table.add([
            format!("{}{state}", interface.ifname),
            interface.ifindex.to_string(),
            interface.mode.to_string(),
            id(interface.program_id),
            id(interface.link_id),
        ]);
    }
    let numbers = ["ifindex", "program", "link"];
    let table = table.text(&numbers, &["link", "program", "ifindex"]);
    let lines: String = no_ledger(&status.interfaces)
        .chain([summary])
        .map(|line| fit(&line))
        .collect();
    table + &lines
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
    let mut table = Columns::new(&[
        "source", "port", "server", "mac", "device", "weight", "packets", "bytes",
    ]);
    let lost = rows.iter().any(|row| row.lost() > 0);
    table.extend_if(lost, &["lost"]);
    let state = rows.iter().any(|row| row.state != BackendState::Up);
    table.extend_if(state, &["state"]);
    let rewriting = rows.iter().any(|row| !rewriting(row).is_empty());
    table.extend_if(rewriting, &["rewriting"]);
    for row in rows {
        let [packets, bytes] = totals(row.counter());
        let mut cells = vec![
            row.src.to_string(),
            port(row),
            row.server.to_string(),
            row.mac.to_string(),
            row.device(),
            row.weight.to_string(),
            packets,
            bytes,
        ];
        cells.extend(Some(units::number(row.lost() as f64)).filter(|_| lost));
        cells.extend(Some(row.state.to_string()).filter(|_| state));
        cells.extend(Some(self::rewriting(row)).filter(|_| rewriting));
        table.add(cells);
    }
    table.color("device", is_marked);
    table.color("lost", is_some);
    table.color("state", is_not_up);
    let numbers = ["weight", "packets", "bytes", "lost"];
    table.text(&numbers, &["mac", "weight", "bytes"])
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
    let mut table = Columns::new(&["interface", "mode", "action", "packets", "bytes"]);
    table.extend_if(earlier.is_some(), RATES);
    for interface in &snapshot.interfaces {
        let before = earlier.and_then(|(snapshot, _)| {
            snapshot
                .interfaces
                .iter()
                .find(|other| other.ifindex == interface.ifindex)
        });
        for (index, (name, counter)) in actions(interface).into_iter().enumerate() {
            let first = |text: String| if index == 0 { text } else { String::new() };
            let mut cells = vec![
                first(interface.ifname.clone()),
                first(interface.mode.to_string()),
            ];
            cells.push(name.clone());
            cells.extend(totals(counter));
            if let Some((_, elapsed)) = earlier {
                let before = before.map_or(counter, |i| earlier_of(i, &name));
                cells.extend(rates(counter.rate_since(before, elapsed)));
            }
            table.add(cells);
        }
    }
    table.text(NUMBERS, &["mode", "bytes", "bytes/s"])
}

fn backends(snapshot: &Snapshot, earlier: Earlier) -> String {
    let mut table = Columns::new(&["source", "port", "server", "device", "packets", "bytes"]);
    let lost = snapshot.rules.iter().any(|row| row.lost() > 0);
    table.extend_if(lost, &["lost"]);
    table.extend_if(earlier.is_some(), RATES);
    for row in &snapshot.rules {
        let mut cells = vec![
            row.src.to_string(),
            port(row),
            row.server.to_string(),
            row.device(),
        ];
        cells.extend(totals(row.counter()));
        cells.extend(Some(units::number(row.lost() as f64)).filter(|_| lost));
        if let Some((snapshot, elapsed)) = earlier {
            let before = snapshot
                .rules
                .iter()
                .find(|other| other.identity() == row.identity());
            let before = before.map_or(Counter::default(), RuleRecord::counter);
            cells.extend(rates(row.counter().rate_since(before, elapsed)));
        }
        table.add(cells);
    }
    table.color("device", is_marked);
    table.color("lost", is_some);
    let dispensable = ["device", "bytes", "bytes/s", "source", "port"];
    table.text(NUMBERS, &dispensable)
}

const RATES: &[&str] = &["packets/s", "bytes/s"];
const NUMBERS: &[&str] = &["packets", "bytes", "lost", "packets/s", "bytes/s"];

fn port(row: &RuleRecord) -> String {
    match row.vlan {
        Some(vlan) => format!("{}/{}@{vlan}", row.proto, row.port),
        None => format!("{}/{}", row.proto, row.port),
    }
}

/// The rewriting that is not the default, in the words of the command line.
pub fn rewriting(row: &RuleRecord) -> String {
    let words = [
        row.to_port.map(|port| format!("to-port {port}")),
        row.snat.map(|addr| format!("snat {addr}")),
        row.keep_ip.then(|| "keep-ip".into()),
        (!row.decrement_ttl).then(|| "keep-ttl".into()),
        row.pop_vlan.then(|| "pop-vlan".into()),
        row.push_vlan.map(|vlan| format!("push-vlan {vlan}")),
    ];
    let words: Vec<String> = words.into_iter().flatten().collect();
    words.join(" ")
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

fn totals(counter: Counter) -> [String; 2] {
    [
        units::number(counter.packets as f64),
        units::bytes(counter.bytes as f64),
    ]
}

fn rates(rate: Rate) -> [String; 2] {
    [units::rate(rate.packets), units::bytes(rate.bytes)]
}
