//! Loading the program for an interface.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use libbpf_rs::{MapCore, MapHandle, Object, OpenObject, Program, libbpf_sys};

use super::abi::{self, OpenXdpredirSkel, XdpredirSkelBuilder};
use super::banks::Kind;
use super::bpffs::{At, mkdir, remove_tree};
use super::link_layout::LinkLayout;
use super::permissions::{group_of, share_pins_of};
use super::ruleset::slots;
use super::schema::{OWN, SHARED, Schema, pin_of};
use super::state::has_state;
use super::{Pins, banks, ledger, policy, refusal, ruleset, sys};
use crate::host::device::{self, Device};
use crate::host::xdp;
use crate::model::{LedgerState, Mode, Policy, Purpose};

/// What the verifier folds into an interface's own copy of the program.
#[derive(Clone, Copy)]
pub struct Variant {
    pub mode: Mode,
    /// Frames in several buffers come along.
    pub frags: bool,
    pub ledger: LedgerState,
    pub purpose: Purpose,
    /// None: whether egress devices have a link is not known.
    pub links: Option<LinkLayout>,
}

/// The program with the interface's constants and its policy, on the namespace's maps; its own maps are
/// pinned.
pub fn load(pins: &Pins, device: &Device, variant: Variant, policy: &Policy) -> Result<OwnedFd> {
    let mut storage = MaybeUninit::uninit();
    let (mut open, banks) = open(&mut storage, device, variant)?;
    let state_is_there = has_state(pins)?;
    if state_is_there {
        reuse_shared(pins, open.open_object_mut())?;
    }
    let mut loaded = refusal::explain(|| open.load())?;
    if !state_is_there {
        banks::put(&loaded.maps.counters, 0, &banks.counters)?;
        banks::put(&loaded.maps.lines, 0, &banks.lines)?;
        banks::take_first(&loaded.maps.line_bitmaps, ruleset::FIRST_LINE)?;
        slots::init(&loaded.maps.rulesets, random())?;
        pin_state(pins, &banks, loaded.object_mut())?;
    }
    if variant.ledger == LedgerState::On {
        ledger::start(pins)?;
        let id = Program::id_from_fd(loaded.progs.xdpredir.as_fd())?;
        let data = loaded.maps.bss_data.as_deref_mut();
        data.context("the program has no variables")?.program_id = id;
    }
    policy::put(&loaded.maps.policy, policy, variant.purpose)?;
    pin_interface(pins, device.ifindex, loaded.object_mut())?;
    Ok(loaded.progs.xdpredir.as_fd().try_clone_to_owned()?)
}

/// That this kernel loads the program: on maps of its own, which go with it. It is loaded as for the loopback
/// device, which each network namespace has, because it has what the kernel says of its device in it.
pub fn try_out() -> Result<()> {
    let variant = Variant {
        mode: Mode::Skb,
        frags: false,
        ledger: LedgerState::On,
        purpose: Purpose::Answers, // so that all of the program is verified
        links: LinkLayout::of_kernel().ok(),
    };
    let mut storage = MaybeUninit::uninit();
    let (open, _banks) = open(&mut storage, &device::by_name("lo")?, variant)?;
    refusal::explain(|| open.load()).map(drop)
}

/// The first bank of each kind.
struct FirstBanks {
    counters: MapHandle,
    lines: MapHandle,
}

/// The program before it is loaded, and the first banks.
fn open<'a>(
    storage: &'a mut MaybeUninit<OpenObject>,
    device: &Device,
    variant: Variant,
) -> Result<(OpenXdpredirSkel<'a>, FirstBanks)> {
    let mut open = XdpredirSkelBuilder::default().open(storage)?;
    let constants = open.maps.rodata_data.as_deref_mut();
    constants.context("the program has no constants")?.interface = config(device, variant)?;
    if variant.frags {
        let frags = libbpf_sys::BPF_F_XDP_HAS_FRAGS;
        open.progs.xdpredir.set_flags(frags);
    }
    let banks = FirstBanks {
        counters: Kind::Counters.create()?,
        lines: Kind::Lines.create()?,
    };
    // Tells the kernel how large a bank is.
    let maps = &mut open.maps;
    maps.counters.set_inner_map_fd(banks.counters.as_fd())?;
    maps.lines.set_inner_map_fd(banks.lines.as_fd())?;
    Ok((open, banks))
}

/// Whether frames arrive that are redirected natively to the device: not where the kernel doesn't say so.
fn is_reachable(device: &Device) -> Result<bool> {
    let features = xdp::of(device.ifindex)?;
    Ok(features.is_some_and(|features| features.redirect_target == Some(true)))
}

/// How the program sends something back out of its interface. Natively a veth drops that, as it drops redirected
/// frames, where its peer does not poll.
fn answers(device: &Device, mode: Mode) -> Result<u32> {
    if mode == Mode::Skb || !device.is_veth() {
        return Ok(abi::ANSWERS_SENT);
    }
    Ok(if is_reachable(device)? {
        abi::ANSWERS_REDIRECTED
    } else {
        abi::ANSWERS_NONE
    })
}

fn config(device: &Device, variant: Variant) -> Result<abi::interface> {
    let mut config = abi::interface {
        ifindex: device.ifindex,
        mode: match variant.mode {
            Mode::Native => abi::MODE_NATIVE,
            Mode::Skb => abi::MODE_SKB,
        },
        frags: variant.frags.into(),
        ledger: match variant.ledger {
            LedgerState::On => abi::LEDGER_ON,
            LedgerState::Unwanted => abi::LEDGER_UNWANTED,
            LedgerState::Unavailable => abi::LEDGER_UNAVAILABLE,
        },
        answers: answers(device, variant.mode)?,
        reachable: is_reachable(device)?.into(),
        completes_checksum: device.completes_checksum()?.into(),
        mac: device.mac.map_or([0; 6], |mac| mac.0),
        for_answers: (variant.purpose == Purpose::Answers).into(),
        ..Default::default()
    };
    if let Some(links) = variant.links {
        links.put(&mut config);
    }
    abi::put_text(&mut config.name, &device.name);
    Ok(config)
}

fn reuse_shared(pins: &Pins, object: &mut OpenObject) -> Result<()> {
    for mut map in object.maps_mut() {
        if let Some(pin) = pin_of(&SHARED, &map.name().to_string_lossy()) {
            let path = pins.state().join(pin);
            map.reuse_pinned_map(&path).at("cannot use", &path)?;
        }
    }
    Ok(())
}

/// All shared maps at once: a directory in the making, then renamed.
fn pin_state(pins: &Pins, banks: &FirstBanks, object: &mut Object) -> Result<()> {
    let staged = pins.staged();
    pin_maps(&staged, &SHARED, object)?;
    let both = [
        (Kind::Counters, &banks.counters),
        (Kind::Lines, &banks.lines),
    ];
    for (kind, bank) in both {
        sys::pin(bank.as_fd(), &staged.join(kind.pin(0)))?;
    }
    fs::rename(&staged, pins.state()).at("cannot make", &pins.state())
}

fn pin_interface(pins: &Pins, ifindex: u32, object: &mut Object) -> Result<()> {
    let directory = pins.interface(ifindex);
    remove_tree(&directory)?;
    pin_maps(&directory, &OWN, object)?;
    match group_of(&pins.state()) {
        Some(gid) => share_pins_of(&directory, gid),
        None => Ok(()),
    }
}

fn pin_maps(directory: &Path, maps: &[Schema], object: &mut Object) -> Result<()> {
    mkdir(directory, 0o700).at("cannot make", directory)?;
    for map in object.maps_mut() {
        if let Some(pin) = pin_of(maps, &map.name().to_string_lossy()) {
            sys::pin(map.as_fd(), &directory.join(pin))?;
        }
    }
    Ok(())
}

/// A number that nobody can guess, so that nobody can send packets whose hashes collide.
fn random() -> u64 {
    RandomState::new().hash_one(0)
}
