//! Taking over what another version of this command attached: its programs are replaced by ours where they are, on the
//! same maps.

use anyhow::{Context, Result};

use super::attachment;
use super::bpffs::{exists, remove_file};
use super::interface::Interface;
use super::kernel_layout::LinkLayout;
use super::ledger::{self, Hook};
use super::load::{Variant, config};
use super::program::Exchange;
use super::signals::Uninterrupted;
use super::stances::interfaces;
use super::version::{missing_maps, own_difference, this_version};
use super::{Lock, Pins, detach};
use crate::error::{Exit, failure};
use crate::host::device;
use crate::model::{LedgerState, LinkState, Refusal, Remedy, TakenOver, Verb};

/// Takes over the interfaces of the network namespace that another version attached. All programs are loaded before
/// the first one is replaced.
pub fn upgrade(pins: &Pins) -> Result<Vec<TakenOver>> {
    let lock = Lock::take_over(pins)?;
    detach::sweep(pins)?;
    let taken_over = take_over(pins, &lock)?;
    match missing_maps(pins)?.first() {
        Some(map) => Err(needs_attach(map)),
        None => Ok(taken_over),
    }
}

/// Maps are made with a program, and there was none to load.
fn needs_attach(map: &str) -> anyhow::Error {
    let why = format!("the map {map}, which another version lacks, is made with an interface");
    let attach = Remedy::from("run ") + Verb::Plain("attach IFACE");
    failure(Exit::Conflict, Refusal::from((why, attach)))
}

/// Where nothing can be replaced because the program is not there, the interface stays as it is, or goes with its
/// device.
pub(super) fn take_over(pins: &Pins, _: &Lock) -> Result<Vec<TakenOver>> {
    let mut heirs = Vec::new();
    for interface in interfaces(pins)? {
        let differs = own_difference(pins, interface.ifindex)?;
        if differs.is_none() && interface.version.as_deref() == Some(this_version()) {
            continue;
        }
        match interface.ids(pins)?.state {
            LinkState::Attached => heirs.push(interface),
            LinkState::Gone => attachment::clear(pins, interface.ifindex)?,
            _ if differs.is_some() => return Err(out_of_reach(&interface)),
            _ => {}
        }
    }
    replace_all(pins, heirs).inspect_err(|_| drop(detach::sweep(pins)))
}

fn out_of_reach(interface: &Interface) -> anyhow::Error {
    let name = interface.name();
    let why = format!("{name}: another version attached it, and the program is no longer there");
    let detach = Remedy::from(Verb::Detach(vec![name])) + " first";
    failure(Exit::Conflict, Refusal::from((why, detach)))
}

fn replace_all(pins: &Pins, heirs: Vec<Interface>) -> Result<Vec<TakenOver>> {
    let missing = missing_maps(pins)?;
    let loaded = heirs.into_iter();
    let loaded = loaded.map(|interface| Ok((load(pins, &interface)?, interface)));
    let loaded: Result<Vec<_>> = loaded.collect();
    // The version that has them not would take them for those of another one.
    let unload = |_: &_| {
        drop(
            missing
                .iter()
                .try_for_each(|map| remove_file(&pins.map(map))),
        )
    };
    let loaded = loaded.inspect_err(unload)?;
    let _uninterrupted = Uninterrupted::new()?;
    for hook in Hook::ALL {
        let has_ledger = |(_, interface): &(Exchange, Interface)| {
            interface.ledger == LedgerState::On && Hook::of(interface.mode) == hook
        };
        if loaded.iter().any(has_ledger) {
            ledger::restart(pins, hook)?;
        }
    }
    let replaced = loaded
        .into_iter()
        .map(|(program, interface)| replace(pins, program, &interface));
    replaced.collect()
}

fn load(pins: &Pins, interface: &Interface) -> Result<Exchange> {
    let device = device::by_index(interface.ifindex)?;
    let device = device.with_context(|| format!("{} has just gone", interface.name()))?;
    let variant = Variant {
        mode: interface.mode,
        frags: interface.frags,
        joined: interface.joined,
        ledger: interface.ledger,
        purpose: interface.purpose,
        links: LinkLayout::of_kernel().ok(),
    };
    Exchange::with(pins, &config(&device, variant)?)
}

fn replace(pins: &Pins, program: Exchange, interface: &Interface) -> Result<TakenOver> {
    let (ifindex, ifname) = (interface.ifindex, interface.name());
    let counters_kept = exists(&pins.interface_map(ifindex, "outcomes"))?;
    let made = program.make(pins);
    made.with_context(|| format!("cannot replace the program at {ifname}"))?;
    Ok(TakenOver {
        ifname,
        ifindex,
        mode: interface.mode,
        from: interface.version.clone(),
        counters_kept,
    })
}
