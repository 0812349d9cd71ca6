//! Tables for people.

use std::io::stdout;
use std::time::Duration;

use indicatif::HumanCount;

use super::columns::Columns;
use super::escape::escape;
use super::failures::Advice;
use super::style::Tone;
use super::{chain, failures, flows, rules, terminal, units};
use crate::model::{
    ConnectionsInUse, Counter, InterfaceStats, InterfaceStatus, LedgerState, LinkState, Mebibytes,
    Mode, Policy, Purpose, Rate, Snapshot, Status,
};

/// An earlier snapshot, and the time that has passed since.
pub(super) type Earlier<'a> = Option<(&'a Snapshot, Duration)>;

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
    let mut all = status.interfaces.iter();
    let has_policy = all.any(|interface| interface.policy.policy != Policy::Pass);
    let mut all = status.interfaces.iter();
    let for_answers = all.any(|interface| interface.purpose == Purpose::Answers);
    let table = Columns::of(&status.interfaces)
        .text("interface", named_with_state)
        .color(is_marked)
        .number("ifindex", |interface| interface.ifindex.to_string())
        .text("mode", |interface| interface.mode.to_string())
        .when(for_answers, |table| {
            table.text("purpose", |interface| interface.purpose.to_string())
        })
        .when(has_policy, |table| {
            table
                .text("policy", |interface| interface.policy.to_string())
                .color(is_marked)
        })
        .number("program", |interface| id(interface.program_id))
        .number("link", |interface| id(interface.link_id))
        .lines(&["link", "program", "ifindex"]);
    let lines = no_ledger(&status.interfaces)
        .chain(not_known(&status.interfaces))
        .chain(no_links(&status.interfaces));
    let lines = lines.chain(status.interfaces.iter().filter_map(chained));
    let lines = lines.chain(of_others(status));
    let lines = lines.chain(status.connections.map(in_use)).chain([summary]);
    table + &lines.map(|line| fit(&line)).collect::<String>()
}

/// Which programs are asked before ours.
fn chained(interface: &InterfaceStatus) -> Option<String> {
    let names: Vec<_> = interface.chain.iter().map(|p| &*p.name).collect();
    let say = || format!("{}: asks {} first", interface.ifname, names.join(", "));
    (!names.is_empty()).then(say)
}

/// The interfaces that another version attached.
fn of_others(status: &Status) -> impl Iterator<Item = String> {
    let all = status.interfaces.iter();
    let others = all.filter(|interface| interface.version.as_deref() != Some(status.version));
    others.map(|interface| {
        let version = interface.version.as_deref().unwrap_or("an earlier one");
        let (name, ours) = (&interface.ifname, status.version);
        format!("{name}: attached by another version, {version}; this is {ours}, and `upgrade` takes it over")
    })
}

fn in_use(connections: ConnectionsInUse) -> String {
    let now = units::count(connections.now as usize, "connection");
    let most = HumanCount(connections.most);
    let memory = Some(connections.bytes).filter(|bytes| *bytes > 0);
    let memory = memory.map(|bytes| format!(", in {}", Mebibytes(bytes)));
    format!("{now} of {most} at most{}", memory.unwrap_or_default())
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
pub(super) fn is_marked(name: &str) -> Option<Tone> {
    name.contains(" (").then_some(Tone::Bad)
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

/// What the ledger does not know of an interface.
fn not_known(interfaces: &[InterfaceStatus]) -> impl Iterator<Item = String> {
    let behind_tc = interfaces
        .iter()
        .filter(|interface| interface.ledger == LedgerState::On && interface.mode == Mode::Tc);
    behind_tc.map(|interface| {
        let name = &interface.ifname;
        format!(
            "{name}: behind the tc hook, the ledger does not see what bridges, tunnels and network cards lose"
        )
    })
}

fn no_links(interfaces: &[InterfaceStatus]) -> impl Iterator<Item = String> {
    let blind = interfaces.iter().filter(|interface| !interface.sees_links);
    blind.map(|interface| {
        let name = &interface.ifname;
        format!("{name}: links are not seen: backends whose link is down get new flows, too")
    })
}

/// Counters of interfaces and backends; with an earlier snapshot, rates as well.
pub fn stats(snapshot: &Snapshot, earlier: Earlier, advice: &Advice) -> String {
    let mut text = format!("{}\n", snapshot.timestamp);
    if !snapshot.interfaces.is_empty() {
        text += &format!("\n{}", interfaces(snapshot, earlier));
    }
    let chains = chain::stats(&snapshot.interfaces);
    if !chains.is_empty() {
        text += &format!("\n{chains}");
    }
    if !snapshot.rules.is_empty() {
        text += &format!("\n{}", rules::backends(snapshot, earlier));
    }
    if let Some(connections) = &snapshot.connections {
        text += &format!("\n{}", flows::stats(connections, earlier));
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
pub(super) fn rate(counter: Counter, before: Counter, earlier: Earlier) -> Rate {
    let since = |(_, elapsed)| counter.rate_since(before, elapsed);
    earlier.map_or(Rate::default(), since)
}

pub(super) fn with_rates<T>(table: Columns<T>, rate: impl Fn(&T) -> Rate) -> Columns<T> {
    table
        .number("packets/s", |row| units::rate(rate(row).packets))
        .number("bytes/s", |row| units::bytes(rate(row).bytes))
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
        of.filter(|o| o.name != "redirected" && o.counter.packets > 0)
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

pub(super) fn packets(counter: Counter) -> String {
    units::number(counter.packets as f64)
}

pub(super) fn bytes(counter: Counter) -> String {
    units::bytes(counter.bytes as f64)
}
