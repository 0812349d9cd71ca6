//! Tables for people.

use std::io::stdout;

use indicatif::HumanCount;

use super::columns::Columns;
use super::escape::escape;
use super::style::Tone;
use super::{terminal, units};
use crate::model::{
    ConnectionsInUse, InterfaceStatus, LedgerState, LinkState, Mebibytes, Mode, Policy, Purpose,
    Status,
};

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
    let lines = status.interfaces.iter().filter_map(joined);
    let lines = lines
        .chain(no_ledger(&status.interfaces))
        .chain(not_known(&status.interfaces))
        .chain(no_links(&status.interfaces));
    let lines = lines.chain(status.interfaces.iter().filter_map(chained));
    let lines = lines.chain(of_others(status));
    let lines = lines.chain(status.connections.map(in_use)).chain([summary]);
    table + &lines.map(|line| fit(&line)).collect::<String>()
}

/// That libxdp's dispatcher calls ours.
fn joined(interface: &InterfaceStatus) -> Option<String> {
    let (name, priority) = (&interface.ifname, interface.priority?);
    Some(format!(
        "{name}: in libxdp's dispatcher, with priority {priority}"
    ))
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

/// A line for all interfaces of which the same is said.
fn lines(
    interfaces: &[InterfaceStatus],
    say: impl Fn(&InterfaceStatus) -> Option<&'static str>,
) -> Vec<String> {
    let mut all: Vec<(&str, Vec<&str>)> = Vec::new();
    for interface in interfaces {
        let Some(said) = say(interface) else { continue };
        match all.iter_mut().find(|(other, _)| *other == said) {
            Some((_, names)) => names.push(&interface.ifname),
            None => all.push((said, vec![&interface.ifname])),
        }
    }
    let line = |(said, names): (&str, Vec<&str>)| format!("{}: {said}", names.join(", "));
    all.into_iter().map(line).collect()
}

fn no_ledger(interfaces: &[InterfaceStatus]) -> Vec<String> {
    lines(interfaces, |interface| {
        let why = match interface.ledger {
            LedgerState::On => return None,
            LedgerState::Unwanted => "no ledger of lost frames: attached without one",
            LedgerState::Unavailable if interface.joined => {
                "no ledger of lost frames: the kernel names libxdp's dispatcher, not ours"
            }
            LedgerState::Unavailable => {
                "no ledger of lost frames: this kernel refused the tracing programs; a verbose attach shows why"
            }
        };
        Some(why)
    })
}

/// What the ledger does not know of an interface.
fn not_known(interfaces: &[InterfaceStatus]) -> Vec<String> {
    let said =
        "behind the tc hook, the ledger does not see what bridges, tunnels and network cards lose";
    lines(interfaces, |interface| {
        let has_one = interface.ledger == LedgerState::On;
        (has_one && interface.mode == Mode::Tc).then_some(said)
    })
}

fn no_links(interfaces: &[InterfaceStatus]) -> Vec<String> {
    let said = "links are not seen: backends whose link is down get new flows, too";
    lines(interfaces, |interface| {
        (!interface.sees_links).then_some(said)
    })
}
