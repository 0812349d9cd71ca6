//! How a chain is put together.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, MapHandle, OpenObject, Program, libbpf_sys, num_possible_cpus};

use super::object::Opened;
use super::{Chain, SLOTS, directory, pin, text};
use crate::datapath::bpffs::{At, mkdir};
use crate::datapath::load::Caller;
use crate::datapath::permissions::{group_of, share_pins_of};
use crate::datapath::{Pins, abi, refusal, sys};
use crate::error::{Exit, failure};
use crate::host::device;
use crate::model::ETHERNET_MTU;

/// A program for a chain, and what is known of it.
pub struct Member {
    pub about: abi::chain_program,
    pub code: Code,
}

pub enum Code {
    Loaded(OwnedFd),
    /// In an object file, not loaded yet.
    Object(Opened),
}

/// The program that calls the others.
struct Entry {
    program: OwnedFd,
    number: u32,
    slots: MapHandle,
    programs: MapHandle,
    verdicts: MapHandle,
}

impl Entry {
    fn load(chain: &abi::chain, frags: bool, verdicts: Option<&MapHandle>) -> Result<Self> {
        let mut storage: MaybeUninit<OpenObject> = MaybeUninit::uninit();
        let mut open = abi::ChainSkelBuilder::default().open(&mut storage)?;
        let constants = open.maps.rodata_data.as_deref_mut();
        constants.context("the entry has no constants")?.chain = *chain;
        if let Some(verdicts) = verdicts {
            open.maps.verdicts.reuse_fd(verdicts.as_fd())?;
        }
        for mut program in open.open_object_mut().progs_mut() {
            if frags {
                program.set_flags(libbpf_sys::BPF_F_XDP_HAS_FRAGS);
            }
        }
        let loaded = refusal::explain(|| open.load())?;
        let program = loaded.progs.xdpredir_chain.as_fd().try_clone_to_owned()?;
        Ok(Entry {
            number: Program::id_from_fd(program.as_fd())?,
            program,
            slots: MapHandle::try_from(&loaded.maps.slots)?,
            programs: MapHandle::try_from(&loaded.maps.rodata)?,
            verdicts: MapHandle::try_from(&loaded.maps.verdicts)?,
        })
    }

    /// Has it call a program. Both have to take frames in several buffers, or neither.
    fn put(&self, slot: u32, program: &OwnedFd) -> libbpf_rs::Result<()> {
        let program = program.as_raw_fd().to_ne_bytes();
        self.slots
            .update(&slot.to_ne_bytes(), &program, MapFlags::ANY)
    }

    /// Counts of a program that was there before are not those of another one.
    fn reset(&self, counters: u32) -> Result<()> {
        let size = self.verdicts.value_size() as usize;
        let zero = vec![vec![0; size]; num_possible_cpus()?];
        let key = counters.to_ne_bytes();
        Ok(self.verdicts.update_percpu(&key, &zero, MapFlags::ANY)?)
    }

    fn pin(&self, pins: &Pins, ifindex: u32) -> Result<()> {
        let (above, directory) = (pins.chains(ifindex), directory(pins, ifindex, self.number));
        mkdir(&above, 0o700).at("cannot make", &above)?;
        mkdir(&directory, 0o700).at("cannot make", &directory)?;
        sys::pin(self.slots.as_fd(), &directory.join(SLOTS))?;
        sys::pin(self.programs.as_fd(), &directory.join(pin("programs")))?;
        sys::pin(self.verdicts.as_fd(), &directory.join(pin("verdicts")))?;
        let Some(gid) = group_of(&pins.interface(ifindex)) else {
            return Ok(());
        };
        share_pins_of(&above, gid)?;
        share_pins_of(&directory, gid)
    }
}

/// A chain of these programs and ours, pinned, but not attached. `before` is the one whose place it takes; its
/// counters stay. Ours is loaded as the caller needs it.
pub fn stage(
    pins: &Pins,
    constants: &abi::interface,
    members: Vec<Member>,
    before: Option<&Chain>,
    load_ours: impl FnOnce(&abi::interface, Caller) -> Result<OwnedFd>,
) -> Result<OwnedFd> {
    let frags = frags_of(constants, &members)?;
    let mut chain: abi::chain = abi::zero();
    let mut programs = Vec::new();
    let mut fresh = Vec::new();
    for (slot, member) in members.into_iter().enumerate() {
        let place = chain.program.get_mut(slot).context("a chain is too long")?;
        *place = member.about;
        programs.push(match member.code {
            Code::Loaded(program) => program,
            Code::Object(object) => object.load()?,
        });
        chain.count += 1;
    }
    for slot in 0..chain.count as usize {
        if chain.program[slot].counters == abi::CHAIN_OURS {
            let counters = free_counters(&chain, before)?;
            chain.program[slot].counters = counters;
            fresh.push(counters);
        }
    }
    let verdicts = before.map(|before| before.verdicts_handle()).transpose()?;
    let entry = Entry::load(&chain, frags, verdicts.as_ref())?;
    fresh
        .into_iter()
        .try_for_each(|counters| entry.reset(counters))?;
    let all = chain.program.iter().zip(&programs).zip(0..);
    for ((about, program), slot) in all {
        let put = entry.put(slot, program);
        put.with_context(|| format!("{} cannot be called", text(&about.name)))?;
    }
    let mut constants = *constants;
    constants.frags = frags.into();
    let ours = load_ours(&constants, Caller(entry.number))?;
    entry.put(abi::CHAIN_PROGRAMS, &ours)?;
    entry.pin(pins, constants.ifindex)?;
    Ok(entry.program)
}

/// Counters that neither this chain nor the one before has.
fn free_counters(chain: &abi::chain, before: Option<&Chain>) -> Result<u32> {
    let before = before.map_or(&[][..], Chain::about);
    let taken = |n: u32| chain.program.iter().chain(before).any(|p| p.counters == n);
    let free = (abi::CHAIN_OURS + 1..abi::CHAIN_COUNTERS).find(|n| !taken(*n));
    free.context("a chain has no counters left")
}

/// Whether frames in several buffers come to the programs, and so to the entry and ours: to all or to none.
fn frags_of(constants: &abi::interface, members: &[Member]) -> Result<bool> {
    let before = constants.frags != 0;
    let mut accepted = Vec::new();
    for frags in [before, !before] {
        let entry = Entry::load(&abi::zero(), frags, None)?;
        let accepts = |member: &Member| match &member.code {
            Code::Loaded(program) => entry.put(0, program).is_ok(),
            Code::Object(object) => object.frags() == frags,
        };
        let accepts: Vec<bool> = members.iter().map(accepts).collect();
        if !accepts.iter().all(|accepts| *accepts) {
            accepted.push(accepts);
            continue;
        }
        if before && !frags {
            require_one_buffer(constants, members)?;
        }
        return Ok(frags);
    }
    // Those that were tried with one buffer first.
    if before {
        accepted.reverse();
    }
    Err(differ(members, &accepted))
}

/// That no frames come in several buffers, which these programs do not take.
fn require_one_buffer(constants: &abi::interface, members: &[Member]) -> Result<()> {
    let device = device::by_index(constants.ifindex)?;
    let Some(device) = device.filter(|device| device.mtu > ETHERNET_MTU) else {
        return Ok(());
    };
    let names: Vec<_> = members
        .iter()
        .map(|member| text(&member.about.name))
        .collect();
    let why = format!(
        "{} has an MTU of {}, so that frames come in several buffers, which {} does not take",
        device.name,
        device.mtu,
        names.join(", ")
    );
    let remedy = "load it from a section xdp.frags, or lower the MTU";
    Err(failure(Exit::Unsupported, (why, remedy)))
}

/// Why the programs cannot be in one chain, of which only some are accepted in either way.
fn differ(members: &[Member], accepted: &[Vec<bool>]) -> anyhow::Error {
    let name = |index: usize| text(&members[index].about.name);
    let refuses = |way: usize| (0..members.len()).find(|index| !accepted[way][*index]);
    let never = (0..members.len()).find(|index| accepted.iter().all(|way| !way[*index]));
    match (never, refuses(0), refuses(1)) {
        (None, Some(with), Some(without)) => {
            let why = format!(
                "{} takes frames in several buffers (its section is xdp.frags), and {} does not",
                name(with),
                name(without)
            );
            failure(Exit::Conflict, (why, "load both in the same way"))
        }
        (never, ..) => {
            let why = format!(
                "this kernel lets no other program call {}, which others extend (as libxdp's dispatcher), or which was \
                 loaded without the attach type of XDP or for one device alone",
                never.map(name).unwrap_or_default()
            );
            failure(
                Exit::Unsupported,
                (why, "give object files of programs, loaded by this command"),
            )
        }
    }
}
