//! Adding programs to the chain of an interface, and deleting them.

use anyhow::{Context, Result};

use super::{Chain, FIRST_PRIORITY, MAX_PROGRAMS, Member, open, text};
use crate::datapath::program::Exchange;
use crate::datapath::signals::Uninterrupted;
use crate::datapath::{Interface, Lock, Pins, abi, detach, this_version};
use crate::error::{Exit, failure};
use crate::model::{ChainProgram, LinkState, Mode, Remedy, Verb, Verdicts};

const MAX_NAME: usize = abi::CHAIN_NAME_LEN as usize - 1;

/// How far apart priorities are that nobody has said, so that there is room between them.
const STEP: u32 = 10;

/// Has a program of others asked before ours: a pinned one, or one of an object file.
pub fn add(
    pins: &Pins,
    _: &Lock,
    interface: &Interface,
    source: &str,
    priority: Option<u32>,
    on: Verdicts,
) -> Result<ChainProgram> {
    detach::sweep(pins)?;
    require_xdp(pins, interface)?;
    let chain = Chain::live(pins, interface.ifindex)?;
    let about = chain.as_ref().map_or(&[][..], Chain::about);
    if about.len() == MAX_PROGRAMS {
        let why = format!(
            "{} has {MAX_PROGRAMS} programs in its chain, and the kernel calls no more",
            interface.name()
        );
        let list = Remedy::from("delete one of those that ") + Verb::ChainList + " shows first";
        return Err(failure(Exit::Conflict, (why, list)));
    }
    let priority = free_priority(interface, about, priority)?;
    let mut member = open(source)?;
    member.about.priority = priority;
    member.about.on = on.bits();
    let mut members = members(chain.as_ref())?;
    let slot = members.partition_point(|other| other.about.priority < priority);
    members.insert(slot, member);
    exchange(pins, interface, members)?;
    let chain = Chain::live(pins, interface.ifindex)?;
    let programs = chain.map(|chain| chain.programs()).transpose()?;
    let mut programs = programs.unwrap_or_default().into_iter();
    let added = programs.find(|program| program.priority == priority);
    added.context("somebody has replaced the chain")
}

/// Deletes a program, named by its name or its priority.
pub fn delete(pins: &Pins, _: &Lock, interface: &Interface, which: &str) -> Result<ChainProgram> {
    detach::sweep(pins)?;
    let chain = Chain::live(pins, interface.ifindex)?;
    let about = chain.as_ref().map_or(&[][..], Chain::about);
    let slot = find(interface, about, which)?;
    let chain = chain.context("a program of a chain that is not there")?;
    let deleted = chain.programs()?.swap_remove(slot);
    let mut members = chain.members()?;
    members.remove(slot);
    exchange(pins, interface, members)?;
    Ok(deleted)
}

fn members(chain: Option<&Chain>) -> Result<Vec<Member>> {
    chain.map_or_else(|| Ok(Vec::new()), Chain::members)
}

fn exchange(pins: &Pins, interface: &Interface, members: Vec<Member>) -> Result<()> {
    let exchange = Exchange::of_chain(pins, interface.ifindex, members);
    let made = exchange.and_then(|exchange| {
        let _uninterrupted = Uninterrupted::new()?;
        let made = exchange.make(pins);
        made.with_context(|| format!("cannot replace the program at {}", interface.name()))
    });
    made.inspect_err(|_| drop(detach::sweep(pins)))
}

/// That the interface has a program of this version that others can be asked before.
fn require_xdp(pins: &Pins, interface: &Interface) -> Result<()> {
    let name = interface.name();
    if interface.mode == Mode::Tc {
        let why = format!("{name} is attached at the tc hook, and chains are for XDP programs");
        let remedy = Remedy::from("attach them by themselves: they run before it; or ")
            + Verb::Detach(vec![name])
            + ", and attach it in native or skb mode";
        return Err(failure(Exit::Unsupported, (why, remedy)));
    }
    if interface.joined {
        let why =
            format!("{name}: libxdp's dispatcher calls our program there, and others beside it");
        let remedy = "load the other program with xdp-loader";
        return Err(failure(Exit::Unsupported, (why, remedy)));
    }
    if interface.version.as_deref() != Some(this_version()) {
        let why = format!("{name}: another version attached it");
        let upgrade = Remedy::from(Verb::Plain("upgrade")) + " takes it over";
        return Err(failure(Exit::Conflict, (why, upgrade)));
    }
    match interface.ids(pins)?.state {
        LinkState::Attached | LinkState::Moved => Ok(()),
        _ => {
            let why = format!("{name}: the program is no longer there");
            let detach = Remedy::from(Verb::Detach(vec![name])) + " first";
            Err(failure(Exit::Conflict, (why, detach)))
        }
    }
}

/// A priority that no program of the chain has; behind all of them, if nobody says which.
fn free_priority(
    interface: &Interface,
    chain: &[abi::chain_program],
    wanted: Option<u32>,
) -> Result<u32> {
    let Some(wanted) = wanted else {
        let last = chain.iter().map(|program| program.priority).max();
        let next = last.map_or(Some(FIRST_PRIORITY), |last| last.checked_add(STEP));
        return next.ok_or_else(|| failure(Exit::Usage, "no priority is left behind the last one"));
    };
    match chain.iter().find(|program| program.priority == wanted) {
        None => Ok(wanted),
        Some(other) => {
            let (name, other) = (interface.name(), text(&other.name));
            let why = format!("{name}: {other} has priority {wanted} already");
            Err(failure(Exit::Conflict, (why, "choose another one")))
        }
    }
}

/// Where in the chain the program stands that is meant.
fn find(interface: &Interface, chain: &[abi::chain_program], which: &str) -> Result<usize> {
    let priority: Option<u32> = which.parse().ok();
    // The kernel keeps so much of a name.
    let name: String = which.chars().take(MAX_NAME).collect();
    let is_it = |program: &abi::chain_program| {
        priority.map_or_else(|| text(&program.name) == name, |p| program.priority == p)
    };
    let found: Vec<usize> = (0..chain.len())
        .filter(|slot| is_it(&chain[*slot]))
        .collect();
    let ifname = interface.name();
    match found[..] {
        [slot] => Ok(slot),
        [] => {
            let why = format!("{ifname}: no program {which} is in its chain");
            let list = Remedy::from(Verb::ChainList) + " shows those that are";
            Err(failure(Exit::NotFound, (why, list)))
        }
        _ => {
            let priorities = found.iter().map(|slot| chain[*slot].priority.to_string());
            let priorities: Vec<_> = priorities.collect();
            let why = format!("{ifname}: several programs of its chain are called {which}");
            let remedy = format!("name one by its priority: {}", priorities.join(", "));
            Err(failure(Exit::Usage, (why, remedy)))
        }
    }
}
