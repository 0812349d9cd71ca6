//! Tracing programs that tell a capture which of its frames the kernel lost. They belong to this process.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{Link, MapCore, MapFlags, MapHandle, OpenObject, Program, ProgramMut};

use super::abi::{self, LostSkel, LostSkelBuilder, LostTcSkel, LostTcSkelBuilder};
use super::bpffs::At;
use super::ledger::{self, Hook, LEDGERS};
use super::load::{reuse_map, reuse_shared};
use super::stand_in::{map_of_program, occupant};
use super::{Lock, Pins, refusal};
use crate::error::{Exit, failure};
use crate::host::netns;

/// What the map is called in which programs name tellers.
pub const TELLING: &str = "telling";

/// Those for one hook.
pub struct Lost {
    programs: Programs,
    held: Held,
}

enum Programs {
    Xdp(LostSkel<'static>),
    Tc(LostTcSkel<'static>),
}

/// What has them run.
enum Held {
    Links {
        _links: Vec<Link>,
    },
    /// The ledger's programs call them where frames are lost: see bpf/tellers.h.
    Tellers(Tellers),
}

impl Lost {
    /// Has them run, with what `prepare` does to them before they are loaded. For interfaces of XDP that keep no ledger,
    /// with one of their own.
    pub fn begin(
        pins: &Pins,
        hook: Hook,
        own: Option<&MapHandle>,
        prepare: impl FnOnce(&mut OpenObject) -> Result<()>,
    ) -> Result<Self> {
        // It has to outlive the skeleton, and a run has three at most.
        let storage: &'static mut MaybeUninit<OpenObject> =
            Box::leak(Box::new(MaybeUninit::uninit()));
        match hook {
            Hook::Xdp => {
                let mut open = LostSkelBuilder::default().open(storage)?;
                let constants = open.maps.rodata_data.as_deref_mut();
                constants.context("no constants")?.netns = netns::inode()?;
                match own {
                    Some(ledger) => reuse_map(open.open_object_mut(), LEDGERS, ledger)?,
                    None => reuse_shared(pins, open.open_object_mut(), |_| true)?,
                }
                prepare(open.open_object_mut())?;
                let mut skeleton = refusal::explain(|| open.load())?;
                let data = skeleton.maps.bss_data.as_deref_mut();
                data.context("no variables")?.egress_id = ledger::egress_id(pins)?;
                let programs = &skeleton.progs;
                let programs = [
                    ("redirect_err", &programs.redirect_err),
                    ("devmap_xmit", &programs.devmap_xmit),
                    ("exception", &programs.exception),
                ];
                let held = match own {
                    Some(_) => Held::links(&programs.map(|(_, program)| program))?,
                    None => Held::Tellers(Tellers::begin(pins, programs)?),
                };
                Ok(Lost {
                    programs: Programs::Xdp(skeleton),
                    held,
                })
            }
            Hook::Tc => {
                let mut open = LostTcSkelBuilder::default().open(storage)?;
                let constants = open.maps.rodata_data.as_deref_mut();
                constants.context("no constants")?.netns = netns::inode()?;
                reuse_shared(pins, open.open_object_mut(), |_| true)?;
                prepare(open.open_object_mut())?;
                let skeleton = refusal::explain(|| open.load())?;
                let held = Held::links(&[&skeleton.progs.skb_dropped])?;
                Ok(Lost {
                    programs: Programs::Tc(skeleton),
                    held,
                })
            }
        }
    }

    /// The number by which the ledger's programs call them, and the map of such numbers.
    pub fn teller(&self) -> Option<(u32, &MapHandle)> {
        match &self.held {
            Held::Tellers(tellers) => Some((tellers.number, &tellers.telling)),
            Held::Links { .. } => None,
        }
    }

    /// Has them run again where they have been taken out. To be called from time to time.
    pub fn stay(&self) -> Result<()> {
        match &self.held {
            Held::Tellers(tellers) => tellers.put(),
            Held::Links { .. } => Ok(()),
        }
    }

    /// How many lost frames there was no room to tell of.
    pub fn missed(&self) -> u64 {
        let missed = match &self.programs {
            Programs::Xdp(skeleton) => skeleton.maps.bss_data.as_deref().map(|data| data.missed),
            Programs::Tc(skeleton) => skeleton.maps.bss_data.as_deref().map(|data| data.missed),
        };
        missed.unwrap_or(0)
    }
}

impl Held {
    fn links(programs: &[&ProgramMut<'_>]) -> Result<Self> {
        let links: Result<_, _> = programs
            .iter()
            .map(|program| program.attach_trace())
            .collect();
        Ok(Held::Links { _links: links? })
    }
}

/// Programs in slots of the ledger's. The kernel clears these when no process has them open any longer.
pub struct Tellers {
    number: u32,
    /// With their ids.
    programs: Vec<(OwnedFd, u32)>,
    /// One of each.
    slots: Vec<MapHandle>,
    telling: MapHandle,
}

impl Tellers {
    /// Under a number that no other capture has.
    fn begin<'o>(pins: &Pins, programs: [(&str, &ProgramMut<'o>); 3]) -> Result<Self> {
        let slots = programs
            .iter()
            .map(|(name, _)| map_of_ledger(pins, name, &format!("{name}_to")));
        let slots = slots.collect::<Result<Vec<_>>>()?;
        let programs = programs.iter().map(|(_, program)| {
            let id = Program::id_from_fd(program.as_fd())?;
            Ok((program.as_fd().try_clone_to_owned()?, id))
        });
        let programs = programs.collect::<Result<Vec<_>>>()?;
        let telling = map_of_ledger(pins, "devmap_xmit", TELLING)?;
        let _lock = Lock::take(pins)?; // two runs would take the same
        let number = free_number(&slots)?;
        let tellers = Tellers {
            number,
            programs,
            slots,
            telling,
        };
        tellers.put()?;
        Ok(tellers)
    }

    /// Where nobody is. The kernel may have cleared the slots for a process that ended before this one came.
    fn put(&self) -> Result<()> {
        let slot = self.number.to_ne_bytes();
        for ((program, _), slots) in self.programs.iter().zip(&self.slots) {
            if occupant(slots, slot)?.is_none() {
                let program = program.as_raw_fd().to_ne_bytes();
                slots.update(&slot, &program, MapFlags::ANY)?;
            }
        }
        Ok(())
    }
}

impl Drop for Tellers {
    /// But not another capture's, which took the number while the slots were empty.
    fn drop(&mut self) {
        let slot = self.number.to_ne_bytes();
        for ((_, id), slots) in self.programs.iter().zip(&self.slots) {
            if occupant(slots, slot).is_ok_and(|occupant| occupant == Some(*id)) {
                let _ = slots.delete(&slot);
            }
        }
    }
}

/// A map of the ledger's program of this name.
fn map_of_ledger(pins: &Pins, program: &str, map: &str) -> Result<MapHandle> {
    let path = pins.ledger(Hook::Xdp).join(program);
    let link = Link::open(&path).at("cannot open", &path)?;
    map_of_program(link.info()?.prog_id, map).context("the ledger")
}

fn free_number(slots: &[MapHandle]) -> Result<u32> {
    for number in 0..abi::TELLERS {
        let occupants: Result<Vec<_>> = slots
            .iter()
            .map(|slots| occupant(slots, number.to_ne_bytes()))
            .collect();
        if occupants?.iter().all(Option::is_none) {
            return Ok(number);
        }
    }
    let why = format!("{} captures are told of lost frames already", abi::TELLERS);
    Err(failure(Exit::Conflict, why))
}
