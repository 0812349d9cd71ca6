//! The ledger: tracing programs that count, by backend, reason and error, the frames that were lost after
//! the program had redirected them. Those for XDP and the one for the tc hook come and go apart, because the
//! latter runs for every packet that the host drops.
//!
//! They run for as long as their links are pinned, in `<state>/ledger/` and `<state>/ledger-tc/`: from the first
//! `attach` to the last `detach` of such an interface.

use std::cell::LazyCell;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::mem::MaybeUninit;

use anyhow::{Context, Result};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{Link, MapCore, MapHandle, OpenObject};
use nix::errno::Errno;

use super::abi::{self, LedgerSkel, LedgerSkelBuilder, LedgerTcSkel, LedgerTcSkelBuilder};
use super::bpffs::{At, exists, mkdir, remove_tree};
use super::drop_reasons::DropReasons;
use super::load::reuse_shared;
use super::maps::Map;
use super::{Error, Pins, exit_code, stand_in};
use crate::error::{Failure, refusal};
use crate::host::netns;
use crate::model::{Failures, Loss, Mode};

/// What the map is called in which programs write down what they redirect.
pub(super) const LEDGERS: &str = "ledgers";

/// Whose losses tracing programs count.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    Xdp,
    Tc,
}

impl Hook {
    pub const ALL: [Hook; 2] = [Hook::Xdp, Hook::Tc];

    pub fn of(mode: Mode) -> Self {
        match mode {
            Mode::Native | Mode::Skb => Hook::Xdp,
            Mode::Tc => Hook::Tc,
        }
    }
}

/// Ends the tracing programs for a hook, and removes what an interrupted run has left of them.
pub(super) fn end(pins: &Pins, hook: Hook) -> Result<()> {
    remove_tree(&pins.staged_ledger(hook))?;
    remove_tree(&pins.ledger(hook))
}

/// Starts the tracing programs, unless they run.
pub fn start(pins: &Pins, hook: Hook) -> Result<()> {
    match exists(&pins.ledger(hook))? {
        true => Ok(()),
        false => restart(pins, hook),
    }
}

/// Starts them, and ends others that run: a frame that is lost in between is counted by both.
pub fn restart(pins: &Pins, hook: Hook) -> Result<()> {
    Ledger::open(pins)?.make_room()?;
    let links = attach(hook, pins).map_err(|error| {
        let (exit, refusal) = (exit_code(&error), refusal(&error));
        Failure::new(Error::Ledger { exit, refusal })
    })?;
    let staged = pins.staged_ledger(hook);
    remove_tree(&staged)?;
    mkdir(&staged, 0o700).at("cannot make", &staged)?;
    for (name, mut link) in links {
        let path = staged.join(name);
        link.pin(&path).at("cannot pin", &path)?;
    }
    remove_tree(&pins.ledger(hook))?;
    fs::rename(&staged, pins.ledger(hook)).at("cannot make", &pins.ledger(hook))
}

/// That this kernel loads the tracing programs: on maps of their own, which go with them.
pub fn try_out() -> Result<()> {
    load_xdp(None, &mut MaybeUninit::uninit())?;
    load_tc(None, &mut MaybeUninit::uninit()).map(drop)
}

fn attach(hook: Hook, pins: &Pins) -> Result<Vec<(&'static str, Link)>> {
    let mut storage = MaybeUninit::uninit();
    match hook {
        Hook::Xdp => {
            let skel = load_xdp(Some(pins), &mut storage)?;
            let programs = &skel.progs;
            Ok(vec![
                ("redirect_err", programs.redirect_err.attach_trace()?),
                ("devmap_xmit", programs.devmap_xmit.attach_trace()?),
                ("exception", programs.exception.attach_trace()?),
            ])
        }
        Hook::Tc => {
            let skel = load_tc(Some(pins), &mut storage)?;
            let link = skel.progs.skb_dropped.attach_trace()?;
            Ok(vec![("skb_dropped", link)])
        }
    }
}

/// Without pins, on maps of its own.
fn load_xdp<'a>(
    pins: Option<&Pins>,
    storage: &'a mut MaybeUninit<OpenObject>,
) -> Result<LedgerSkel<'a>> {
    let mut open = LedgerSkelBuilder::default().open(storage)?;
    let constants = open.maps.rodata_data.as_deref_mut();
    let constants = constants.context("the ledger has no constants")?;
    constants.netns = netns::inode()?;
    constants.yields = stand_in::has_slots().into();
    if let Some(pins) = pins {
        reuse_shared(pins, open.open_object_mut(), |_| true)?;
    }
    let mut skel = super::refusal::explain(|| open.load())?;
    if let Some(pins) = pins {
        let data = skel.maps.bss_data.as_deref_mut();
        data.context("the ledger has no variables")?.egress_id = egress_id(pins)?;
    }
    Ok(skel)
}

fn load_tc<'a>(
    pins: Option<&Pins>,
    storage: &'a mut MaybeUninit<OpenObject>,
) -> Result<LedgerTcSkel<'a>> {
    let mut open = LedgerTcSkelBuilder::default().open(storage)?;
    let constants = open.maps.rodata_data.as_deref_mut();
    constants.context("the ledger has no constants")?.netns = netns::inode()?;
    if let Some(pins) = pins {
        reuse_shared(pins, open.open_object_mut(), |_| true)?;
    }
    super::refusal::explain(|| open.load())
}

/// What was lost, by backend.
pub struct Ledger(Map<abi::failure_key, u64>);

impl Ledger {
    pub fn open(pins: &Pins) -> Result<Self> {
        Ok(Ledger(Map::shared(pins, "failures")?))
    }

    /// Room for what finds none, so that nothing is lost without being counted.
    fn make_room(&self) -> Result<()> {
        for reason in 0..abi::FAILURES {
            let key = abi::failure_key {
                counter: abi::UNATTRIBUTED,
                reason: reason as u16,
                error: 0,
            };
            if self.0.get(&key)?.is_none() {
                self.0.put(&key, &0)?;
            }
        }
        Ok(())
    }

    /// By the backends' counters, those that have any; None where no ledger was ever kept.
    pub fn failures(&self) -> Result<Option<HashMap<u32, Failures>>> {
        let entries = self.0.entries()?;
        if entries.is_empty() {
            return Ok(None);
        }
        let reasons: LazyCell<DropReasons> = LazyCell::new(DropReasons::of_kernel);
        let mut all: HashMap<u32, Failures> = HashMap::new();
        for (key, frames) in entries.into_iter().filter(|(_, frames)| *frames > 0) {
            let (loss, error) = in_words(key.reason, key.error, &reasons);
            all.entry(key.counter).or_default().add(loss, frames, error);
        }
        Ok(Some(all))
    }

    /// Those that are no backend's; None where no ledger was ever kept.
    pub fn unattributed(&self) -> Result<Option<Failures>> {
        let mut all = self.failures()?;
        Ok(all
            .as_mut()
            .map(|all| all.remove(&abi::UNATTRIBUTED).unwrap_or_default()))
    }

    /// Forgets what was lost under counters that others had before.
    pub fn forget(&self, counters: &[u32]) -> Result<()> {
        let counters: HashSet<&u32> = counters.iter().collect();
        self.0.retain(|key| !counters.contains(&key.counter))
    }
}

/// A reason and an error in words.
pub(super) fn in_words(
    reason: u16,
    error: u16,
    reasons: &LazyCell<DropReasons>,
) -> (Loss, Option<String>) {
    match u32::from(reason) & abi::BY_DROP_REASON {
        0 => (loss(reason), errno(error)),
        _ => reasons.of(loss(reason), error),
    }
}

/// By which the tracing programs know the devmap of redirects.
pub(super) fn egress_id(pins: &Pins) -> Result<u32> {
    let egress = MapHandle::from_pinned_path(pins.map("egress"))?;
    Ok(egress.info()?.info.id)
}

fn loss(reason: u16) -> Loss {
    match u32::from(reason) & !abi::BY_DROP_REASON {
        abi::FAILURE_NOT_SUPPORTED => Loss::NotSupported,
        abi::FAILURE_MTU => Loss::Mtu,
        abi::FAILURE_LINK_DOWN => Loss::LinkDown,
        abi::FAILURE_NO_DEVICE => Loss::NoDevice,
        abi::FAILURE_QUEUE_FULL => Loss::QueueFull,
        _ => Loss::Other,
    }
}

/// What C calls the kernel's error, or its number; None where it gave none.
fn errno(number: u16) -> Option<String> {
    let number = i32::from(number);
    match Errno::from_raw(number) {
        _ if number == 0 => None,
        Errno::UnknownErrno => Some(number.to_string()),
        errno => Some(format!("{errno:?}")),
    }
}
