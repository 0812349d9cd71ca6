//! A stand-in: the program of an interface once more, on the same maps and with more stages, in its place for as long
//! as this process lives.
//!
//! The interface's program has a slot for it, which nothing pins: the kernel clears the slot when the last process is
//! gone that has it open, after `kill -9`, too. A packet meets the one program or the other, and each of them whole,
//! so none is lost or passed meanwhile. See bpf/stand_in.h.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use libbpf_rs::query::{ProgInfoIter, ProgInfoQueryOptions};
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, MapHandle, Object, OpenObject, Program};

use super::bpffs::exists;
use super::chain::Chain;
use super::interface::constants_of;
use super::ledger::LEDGERS;
use super::load::{open, program_of, reuse_all, reuse_map};
use super::version::this_version;
use super::{Interface, Lock, Pins, abi, attachment, refusal};
use crate::error::{Exit, failure};
use crate::host::capability;
use crate::model::{LinkState, Mode, Remedy, Verb};

/// What the slots of a program are called, and the key of the only one.
const SLOTS: &str = "stand_in";
const SLOT: [u8; 4] = [0; 4];

/// What a process that was killed had in a slot is gone after this time: the kernel clears it a moment later.
const CLEARED_WITHIN: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(10);

/// A program in the place of an interface's, until this is dropped.
pub struct StandIn {
    interface: Interface,
    /// The program that is attached: the one that it stands for, or the entry of a chain that asks that one.
    live: u32,
    program: OwnedFd,
    id: u32,
    slots: MapHandle,
}

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Stands,
    /// The interface has another program, which packets meet.
    Replaced,
    /// The interface is no longer attached.
    Detached,
}

/// Where one is to stand.
pub struct Place<'p> {
    pins: &'p Pins,
    interface: &'p Interface,
    live: u32,
    slots: MapHandle,
    /// Where the program writes down what it redirects, though the interface keeps no ledger.
    pub ledger: Option<MapHandle>,
}

impl<'p> Place<'p> {
    /// That of an interface's program.
    pub fn of(pins: &'p Pins, interface: &'p Interface) -> Result<Self> {
        require_place(pins, interface)?;
        let live = interface.ids(pins)?.program;
        // What is attached is the entry of a chain, where there is one, and has no slot.
        let chain = Chain::live(pins, interface.ifindex)?;
        let ours = chain.map_or(Ok(live), |chain| chain.ours())?;
        Ok(Place {
            pins,
            interface,
            live,
            slots: map_of_program(ours, SLOTS).with_context(|| interface.name())?,
            ledger: None,
        })
    }

    pub fn mode(&self) -> Mode {
        self.interface.mode
    }

    /// Loads the program of a skeleton, as the interface's program is loaded; so that it writes down what it decides,
    /// if it `shows` that. `prepare` is given it before it is loaded, and `take` after that.
    pub fn load<'a, T>(
        &self,
        builder: impl SkelBuilder<'a>,
        shows: bool,
        prepare: impl FnOnce(&mut OpenObject) -> Result<()>,
        take: impl FnOnce(&Object) -> Result<T>,
    ) -> Result<(OwnedFd, T)> {
        let ifindex = self.interface.ifindex;
        let mut constants = abi::interface {
            shows: shows.into(),
            yields: 0,
            stands_for: self.live,
            ..constants_of(self.pins, ifindex)?
        };
        if self.ledger.is_some() {
            constants.ledger = abi::LEDGER_ON;
        }
        // It has to outlive the skeleton, whose type says that of the builder. It is small, and a run has few.
        let storage: &'a mut MaybeUninit<OpenObject> = Box::leak(Box::new(MaybeUninit::uninit()));
        let (mut opened, _banks) = open(builder, storage, &constants)?;
        reuse_all(self.pins, ifindex, opened.open_object_mut())?;
        if let Some(ledger) = &self.ledger {
            reuse_map(opened.open_object_mut(), LEDGERS, ledger)?;
        }
        prepare(opened.open_object_mut())?;
        let mut loaded = refusal::explain(|| opened.load())?;
        let taken = take(loaded.object())?;
        Ok((program_of(loaded.object_mut())?, taken))
    }

    /// From now on, packets meet the program.
    pub fn give(self, program: OwnedFd) -> Result<StandIn> {
        let stand_in = StandIn {
            interface: self.interface.clone(),
            live: self.live,
            id: Program::id_from_fd(program.as_fd())?,
            program,
            slots: self.slots,
        };
        // Two runs would take the slot from each other.
        let _lock = Lock::take(self.pins)?;
        stand_in.step_in()?;
        Ok(stand_in)
    }
}

impl StandIn {
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    fn step_in(&self) -> Result<()> {
        let start = Instant::now();
        while occupant(&self.slots, SLOT)?.is_some() {
            if start.elapsed() > CLEARED_WITHIN {
                return Err(occupied(&self.interface.name()));
            }
            sleep(PAUSE);
        }
        self.put()
    }

    fn put(&self) -> Result<()> {
        let program = self.program.as_raw_fd().to_ne_bytes();
        Ok(self.slots.update(&SLOT, &program, MapFlags::ANY)?)
    }

    /// Whether packets still meet it. To be asked from time to time.
    pub fn look(&self, pins: &Pins) -> Result<Standing> {
        let ifindex = self.interface.ifindex;
        if !exists(&pins.interface(ifindex))? || !attachment::is_there(pins, ifindex)? {
            return Ok(Standing::Detached);
        }
        let ids = match self.interface.ids(pins) {
            // It has just been detached.
            Err(_) if !attachment::is_there(pins, ifindex)? => return Ok(Standing::Detached),
            ids => ids?,
        };
        if ids.state != LinkState::Attached {
            return Ok(Standing::Detached);
        }
        if ids.program != self.live {
            return Ok(Standing::Replaced);
        }
        match occupant(&self.slots, SLOT)? {
            Some(id) if id == self.id => {}
            Some(_) => return Err(occupied(&self.interface.name())),
            // The kernel has cleared the slot for a process that ended before this one came.
            None => self.put()?,
        }
        Ok(Standing::Stands)
    }
}

impl Drop for StandIn {
    /// The kernel would do so, too, a moment later.
    fn drop(&mut self) {
        if occupant(&self.slots, SLOT).is_ok_and(|id| id == Some(self.id)) {
            let _ = self.slots.delete(&SLOT);
        }
    }
}

/// That a stand-in of this version does what the interface's program does, and that it has a place there.
fn require_place(pins: &Pins, interface: &Interface) -> Result<()> {
    let name = interface.name();
    if interface.version.as_deref() != Some(this_version()) {
        let why = format!("{name}: another version attached it, whose packets this one cannot see");
        let upgrade = Remedy::from(Verb::Plain("upgrade")) + " takes it over";
        return Err(failure(Exit::Conflict, (why, upgrade)));
    }
    if constants_of(pins, interface.ifindex)?.yields == 0 {
        let why = format!(
            "{name}: this kernel did not compile the program when it was attached (net.core.bpf_jit_enable), or \
             does not run such programs on this processor, so that nothing can look at its packets"
        );
        return Err(failure(Exit::Unsupported, why));
    }
    Ok(())
}

/// A map of a program, by its name. Only root may ask.
pub(super) fn map_of_program(program: u32, name: &str) -> Result<MapHandle> {
    let with_maps = ProgInfoQueryOptions::default().include_map_ids(true);
    let mut programs = ProgInfoIter::with_query_opts(with_maps);
    let found = programs.find(|info| info.id == program);
    let found = found.ok_or_else(|| match &capability::missing(capability::ENTER)[..] {
        [] => anyhow!("its program has just been replaced"),
        lacking => {
            let why = format!("this process lacks {}", lacking.concat());
            failure(Exit::Permission, (why, "run it as root"))
        }
    })?;
    for id in found.map_ids {
        let map = MapHandle::from_map_id(id)?;
        if map.name() == name {
            return Ok(map);
        }
    }
    bail!("its program is another version's: it has no map {name}")
}

/// The id of the program in a slot.
pub(super) fn occupant(slots: &MapHandle, slot: [u8; 4]) -> Result<Option<u32>> {
    let value = slots.lookup(&slot, MapFlags::ANY)?;
    value.map(|id| abi::from_bytes(&id)).transpose()
}

fn occupied(name: &str) -> anyhow::Error {
    let why = format!("{name}: another run looks at its packets, and there can be one at a time");
    failure(Exit::Conflict, (why, "end that one first"))
}

/// Whether programs can have a slot: on processors whose kernel takes tail calls beside functions, and that
/// compiles programs. Other network namespaces than the first one don't see that setting.
pub fn has_slots() -> bool {
    let is_compiled = std::fs::read_to_string("/proc/sys/net/core/bpf_jit_enable");
    cfg!(any(target_arch = "x86_64", target_arch = "aarch64"))
        && is_compiled.map_or(true, |setting| setting.trim() != "0")
}
