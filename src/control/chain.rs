//! Other people's XDP programs that are asked before ours.

use anyhow::Result;
use serde::Serialize;

use super::policy::find;
use crate::datapath::{self, Interface, Lock, Pins};
use crate::model::{ChainProgram, Verdicts};

/// A program for a chain.
#[derive(Clone, Debug)]
pub struct ChainRequest {
    pub interface: String,
    /// Where it is pinned, or its object file, with its section or name after a colon.
    pub source: String,
    /// None: behind all others.
    pub priority: Option<u32>,
    /// After which verdicts the next program is asked.
    pub on: Verdicts,
}

/// The chain of an interface.
#[derive(Clone, Debug, Serialize)]
pub struct ChainReport {
    pub ifname: String,
    pub ifindex: u32,
    pub programs: Vec<ChainProgram>,
}

/// Adds a program to the chain of an interface. Packets meet the chain as it was or as it is then.
pub fn chain_add(pins: &Pins, request: &ChainRequest) -> Result<ChainReport> {
    let lock = Lock::take(pins)?;
    let interface = find(pins, &request.interface)?;
    let ChainRequest {
        source,
        priority,
        on,
        ..
    } = request;
    let added = datapath::add_to_chain(pins, &lock, &interface, source, *priority, *on)?;
    Ok(report(&interface, vec![added]))
}

/// Deletes a program from the chain of an interface, by its name or priority.
pub fn chain_delete(pins: &Pins, interface: &str, which: &str) -> Result<ChainReport> {
    let lock = Lock::take(pins)?;
    let interface = find(pins, interface)?;
    let deleted = datapath::delete_from_chain(pins, &lock, &interface, which)?;
    Ok(report(&interface, vec![deleted]))
}

/// The chains of an interface, or of all that have one.
pub fn chain_list(pins: &Pins, interface: Option<&str>) -> Result<Vec<ChainReport>> {
    let read = || match interface {
        Some(name) => Ok(vec![chain_of(pins, &find(pins, name)?)?]),
        None => {
            let all = datapath::interfaces(pins)?.into_iter();
            let all: Result<Vec<_>> = all.map(|interface| chain_of(pins, &interface)).collect();
            let has_one = |report: &ChainReport| !report.programs.is_empty();
            Ok(all?.into_iter().filter(has_one).collect())
        }
    };
    datapath::read(pins, read)?.ok_or_else(|| datapath::not_attached(pins))
}

fn chain_of(pins: &Pins, interface: &Interface) -> Result<ChainReport> {
    Ok(report(interface, interface.chain(pins)?))
}

fn report(interface: &Interface, programs: Vec<ChainProgram>) -> ChainReport {
    ChainReport {
        ifname: interface.name(),
        ifindex: interface.ifindex,
        programs,
    }
}
