//! Other people's XDP programs that are asked before ours at an interface.
//!
//! An entry program is attached in the place of ours, and calls them and ours. A chain never changes: another one is
//! another entry with its own slots, pinned in a directory with the entry's number as its name, and takes the place of
//! the one before in one step. So the chain of an interface is the one whose entry is attached, and the directories of
//! others are what killed runs have left.

mod change;
mod entry;
mod object;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use libbpf_rs::{MapCore, MapFlags, MapHandle, Program};

use super::bpffs::{At, entries, exists, remove_tree};
use super::cause::exit_code;
use super::maps::Map;
use super::schema::{CHAIN, pin_of};
use super::{Pins, abi, attachment, sys};
use crate::error::Exit;
use crate::host::kernel;
use crate::model::{ChainProgram, ChainStats, CpuVerdicts, VerdictCounts, Verdicts};

pub use change::{add, delete};
pub use entry::{Code, Member, stage};
pub use object::{MAX as MAX_PROGRAMS, about, open};

/// The pin of the entry's slots. A pin has to stay for as long as packets are in the entry: the kernel empties slots
/// that nobody has a descriptor or a pin of.
const SLOTS: &str = "slots";

/// The priority of the first program of a chain, unless somebody says another one.
pub const FIRST_PRIORITY: u32 = 50;

/// A chain as it is pinned.
pub struct Chain {
    directory: PathBuf,
    programs: Vec<abi::chain_program>,
}

impl Chain {
    /// The chain of an interface; None where it has none.
    pub fn live(pins: &Pins, ifindex: u32) -> Result<Option<Self>> {
        let all = numbers(pins, ifindex)?;
        let at = match all[..] {
            [] => None,
            _ => match attachment::program(pins, ifindex) {
                // Members of a group may not ask. What killed runs have left is seldom there.
                Err(error) if exit_code(&error) == Exit::Permission => all.iter().max().copied(),
                program => program?,
            },
        };
        let live = at.filter(|number| all.contains(number));
        let live = live.map(|number| Chain::read(&directory(pins, ifindex, number)));
        live.transpose()
    }

    fn read(directory: &Path) -> Result<Self> {
        let path = directory.join(pin("programs"));
        let map: Map<u32, abi::chain> = Map::open(&path, "programs")?;
        let chain = map.get(&0)?.context("a chain has no programs")?;
        let count = chain.count.min(abi::CHAIN_PROGRAMS) as usize;
        Ok(Chain {
            directory: directory.into(),
            programs: chain.program[..count].to_vec(),
        })
    }

    /// The programs, in the order in which they are asked. Only root may ask for their numbers.
    pub fn programs(&self) -> Result<Vec<ChainProgram>> {
        let numbers = match self.program_numbers() {
            Err(error) if exit_code(&error) == Exit::Permission => vec![None; self.programs.len()],
            numbers => numbers?.into_iter().map(Some).collect(),
        };
        let all = self.programs.iter().zip(numbers);
        Ok(all
            .map(|(program, program_id)| ChainProgram {
                name: text(&program.name),
                program_id,
                priority: program.priority,
                on: Verdicts::from_bits(program.on),
                source: text(&program.source),
                taken_in: program.taken_in != 0,
            })
            .collect())
    }

    fn program_numbers(&self) -> Result<Vec<u32>> {
        let slots = self.slots()?;
        let all = 0..self.programs.len() as u32;
        all.map(|slot| in_slot(&slots, slot)).collect()
    }

    /// The number of our program, which is asked last.
    pub fn ours(&self) -> Result<u32> {
        in_slot(&self.slots()?, abi::CHAIN_PROGRAMS)
    }

    fn slots(&self) -> Result<MapHandle> {
        let path = self.directory.join(SLOTS);
        MapHandle::from_pinned_path(&path).at("cannot open", &path)
    }

    /// The programs, for another chain.
    pub fn members(&self) -> Result<Vec<Member>> {
        let all = self.programs.iter().zip(self.program_numbers()?);
        all.map(|(about, number)| {
            Ok(Member {
                about: *about,
                code: Code::Loaded(Program::fd_from_id(number)?),
            })
        })
        .collect()
    }

    pub fn about(&self) -> &[abi::chain_program] {
        &self.programs
    }

    /// The program that was attached alone before; None where there was none.
    fn taken_in(&self) -> Result<Option<u32>> {
        let Some(slot) = self.programs.iter().position(|p| p.taken_in != 0) else {
            return Ok(None);
        };
        Ok(self.program_numbers()?.get(slot).copied())
    }

    fn verdicts(&self) -> Result<Map<u32, abi::chain_counters>> {
        Map::open(&self.directory.join(pin("verdicts")), "verdicts")
    }

    fn verdicts_handle(&self) -> Result<MapHandle> {
        let path = self.directory.join(pin("verdicts"));
        MapHandle::from_pinned_path(&path).at("cannot open", &path)
    }

    /// What was counted of each program; `by_cpu`: also by each CPU that has counted something.
    pub fn stats(&self, by_cpu: bool) -> Result<Vec<ChainStats>> {
        let verdicts = self.verdicts()?;
        let numbers = kernel::possible_cpus()?;
        let all = self.programs.iter();
        all.map(|program| {
            let counted = verdicts.per_cpu(program.counters)?.into_iter().map(counts);
            let counted: Vec<_> = counted.collect();
            let cpus = || {
                let cpus = numbers.iter().zip(&counted);
                let cpus = cpus.map(|(&cpu, &counts)| CpuVerdicts { cpu, counts });
                cpus.filter(|cpu| cpu.counts != VerdictCounts::default())
                    .collect()
            };
            Ok(ChainStats {
                name: text(&program.name),
                priority: program.priority,
                counts: counted.iter().fold(Default::default(), |a, b| a + *b),
                cpus: by_cpu.then(cpus),
            })
        })
        .collect()
    }

    /// How many packets did not get to our program, because the kernel allowed no more tail calls.
    pub fn not_reached(&self) -> Result<u64> {
        let per_cpu = self.verdicts()?.per_cpu(abi::CHAIN_OURS)?;
        Ok(per_cpu.into_iter().map(|all| counts(all).skipped).sum())
    }
}

/// The number of the program in a slot.
fn in_slot(slots: &MapHandle, slot: u32) -> Result<u32> {
    let number = slots.lookup(&slot.to_ne_bytes(), MapFlags::ANY)?;
    abi::from_bytes(&number.with_context(|| format!("slot {slot} of a chain is empty"))?)
}

fn counts(counters: abi::chain_counters) -> VerdictCounts {
    let [aborted, drop, pass, tx, redirect, skipped] = counters.packets;
    VerdictCounts {
        aborted,
        drop,
        pass,
        tx,
        redirect,
        skipped,
    }
}

fn text(chars: &[std::ffi::c_char]) -> String {
    String::from_utf8_lossy(&abi::text_of(chars)).into_owned()
}

fn pin(map: &str) -> String {
    pin_of(&CHAIN, map).unwrap_or_else(|| map.into())
}

/// The directory of the chain whose entry has this number.
fn directory(pins: &Pins, ifindex: u32, number: u32) -> PathBuf {
    pins.chains(ifindex).join(number.to_string())
}

/// The numbers of the entries whose chains are pinned.
fn numbers(pins: &Pins, ifindex: u32) -> Result<Vec<u32>> {
    let names = entries(&pins.chains(ifindex))?;
    Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
}

/// The directories of an interface's chains.
pub fn directories(pins: &Pins, ifindex: u32) -> Result<Vec<PathBuf>> {
    let numbers = numbers(pins, ifindex)?.into_iter();
    let mut all: Vec<_> = numbers.map(|n| directory(pins, ifindex, n)).collect();
    if !all.is_empty() {
        all.push(pins.chains(ifindex));
    }
    Ok(all)
}

/// The numbers of those entries that are attached, or whose taken in program is attached in their place again.
fn standing(pins: &Pins, ifindex: u32) -> Result<Vec<u32>> {
    let mut all = numbers(pins, ifindex)?;
    let at = match all[..] {
        [] => None,
        _ => attachment::program(pins, ifindex)?,
    };
    let stands = |number: &u32| {
        let chain = || Chain::read(&directory(pins, ifindex, *number));
        // One that is not whole was never attached.
        let taken_in = || chain().and_then(|chain| chain.taken_in()).unwrap_or(None);
        at.is_some() && (at == Some(*number) || at == taken_in())
    };
    all.retain(stands);
    Ok(all)
}

/// The program that was attached alone before ours, and is to be attached alone again; None where there was none.
pub fn taken_in(pins: &Pins, ifindex: u32) -> Result<Option<OwnedFd>> {
    for number in standing(pins, ifindex)? {
        let chain = Chain::read(&directory(pins, ifindex, number))?;
        if let Some(program) = chain.taken_in()? {
            return Ok(Some(Program::fd_from_id(program)?));
        }
    }
    Ok(None)
}

/// Removes the chains of an attached interface that are not its own any more, or not yet.
pub fn settle(pins: &Pins, ifindex: u32) -> Result<()> {
    let all = numbers(pins, ifindex)?;
    if all.is_empty() || !attachment::is_there(pins, ifindex)? {
        return Ok(());
    }
    let standing = match standing(pins, ifindex) {
        // Members of a group may not ask, nor remove anything.
        Err(error) if exit_code(&error) == Exit::Permission => return Ok(()),
        standing => standing?,
    };
    if standing.len() < all.len() {
        sys::wait_for_readers();
    }
    let mut ended = all.into_iter().filter(|number| !standing.contains(number));
    ended.try_for_each(|number| remove_tree(&directory(pins, ifindex, number)))
}

/// Removes the chains of an interface that is not attached any more.
pub fn clear(pins: &Pins, ifindex: u32) -> Result<()> {
    let chains = pins.chains(ifindex);
    if !exists(&chains)? {
        return Ok(());
    }
    // Packets may still be on their way from one program to the next.
    sys::wait_for_readers();
    remove_tree(&chains)
}
