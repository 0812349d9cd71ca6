//! Loading the program for an interface.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use libbpf_rs::{Map, MapCore, MapFlags, MapHandle, Object, OpenObject, Program, libbpf_sys};

use super::abi::{self, XdpredirSkelBuilder, XdpredirTcSkelBuilder};
use super::banks::Kind;
use super::bpffs::{At, mkdir, remove_tree};
use super::kernel_layout::{LinkLayout, NetnsLayout};
use super::maps::Map as PinnedMap;
use super::permissions::{group_of, share_pins_of};
use super::ruleset::slots;
use super::schema::{CONFIG, OWN, SHARED, Schema, pin_of};
use super::state::has_state;
use super::{Pins, banks, ledger, policy, refusal, ruleset, sys};
use crate::host::device::{self, Device};
use crate::host::{netns, xdp};
use crate::model::{LedgerState, Mode, Purpose};

/// What the variables of the XDP program are called in the BPF object.
const VARIABLES: &str = "xdpredir.bss";

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

/// The program with the interface's constants, on the namespace's maps; its own maps are pinned. What it is to do
/// is given, whichever slot is live.
pub fn load(
    pins: &Pins,
    device: &Device,
    variant: Variant,
    stance: &abi::policy,
) -> Result<OwnedFd> {
    let loaded = load_with(pins, &config(device, variant)?, Some(stance))?;
    Ok(loaded.program)
}

/// The program of an interface once more, with other constants and on the maps that it has.
pub fn load_again(pins: &Pins, constants: &abi::interface) -> Result<Loaded> {
    load_with(pins, constants, None)
}

/// A program, and the map with its constants.
pub struct Loaded {
    pub program: OwnedFd,
    pub constants: OwnedFd,
}

/// The constants with which the program of an interface was loaded.
pub fn constants_of(pins: &Pins, ifindex: u32) -> Result<abi::interface> {
    let path = pins.interface_map(ifindex, "config");
    let constants = PinnedMap::<u32, abi::interface>::open(&path, "config")?.get(&0)?;
    constants.with_context(|| format!("{} is empty", path.display()))
}

/// Without a stance, on the maps that the interface has.
fn load_with(
    pins: &Pins,
    constants: &abi::interface,
    stance: Option<&abi::policy>,
) -> Result<Loaded> {
    let mut storage = MaybeUninit::uninit();
    match constants.mode {
        abi::MODE_TC => {
            let builder = XdpredirTcSkelBuilder::default();
            load_from(builder, &mut storage, pins, constants, stance)
        }
        _ => {
            let builder = XdpredirSkelBuilder::default();
            load_from(builder, &mut storage, pins, constants, stance)
        }
    }
}

fn load_from<'a>(
    builder: impl SkelBuilder<'a>,
    storage: &'a mut MaybeUninit<OpenObject>,
    pins: &Pins,
    constants: &abi::interface,
    stance: Option<&abi::policy>,
) -> Result<Loaded> {
    let (mut open, banks) = open(builder, storage, constants)?;
    let state_is_there = has_state(pins)?;
    if state_is_there {
        reuse(&pins.state(), &SHARED, open.open_object_mut())?;
    }
    if stance.is_none() {
        let own = pins.interface(constants.ifindex);
        reuse(&own, &OWN, open.open_object_mut())?;
    }
    let mut loaded = refusal::explain(|| open.load())?;
    let object = loaded.object_mut();
    if !state_is_there {
        banks::put(&map_of(object, "counters")?, 0, &banks.counters)?;
        banks::put(&map_of(object, "lines")?, 0, &banks.lines)?;
        banks::take_first(&map_of(object, "line_bitmaps")?, ruleset::FIRST_LINE)?;
        slots::init(&map_of(object, "rulesets")?, random())?;
        pin_state(pins, &banks, object)?;
    }
    let program = program_of(object)?;
    if constants.ledger == abi::LEDGER_ON {
        ledger::start(pins)?;
        tell_its_id(object, Program::id_from_fd(program.as_fd())?)?;
    }
    if let Some(stance) = stance {
        policy::put(&map_of(object, "policy")?, stance)?;
        pin_interface(pins, constants.ifindex, object)?;
    }
    let constants = map_of(object, CONFIG)?.as_fd().try_clone_to_owned()?;
    Ok(Loaded { program, constants })
}

/// The skeletons of all hooks have the same maps, by these names.
fn map_of<'o>(object: &'o Object, name: &str) -> Result<Map<'o>> {
    let found = object.maps().find(|map| map.name() == name);
    found.with_context(|| format!("the program has no map {name}"))
}

fn program_of(object: &Object) -> Result<OwnedFd> {
    let program = object.progs().next().context("the object has no program")?;
    Ok(program.as_fd().try_clone_to_owned()?)
}

/// Before it is attached: the variables are those with which it begins, all zero.
fn tell_its_id(object: &Object, id: u32) -> Result<()> {
    let variables = map_of(object, VARIABLES)?;
    let mut bytes = vec![0; variables.value_size() as usize];
    let place = bytes.get_mut(abi::PROGRAM_ID..abi::PROGRAM_ID + size_of_val(&id));
    let place = place.context("the program has no variable for its id")?;
    place.copy_from_slice(&id.to_ne_bytes());
    Ok(variables.update(&0u32.to_ne_bytes(), &bytes, MapFlags::ANY)?)
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
    let builder = XdpredirSkelBuilder::default();
    let constants = config(&device::by_name("lo")?, variant)?;
    let (open, _banks) = open(builder, &mut storage, &constants)?;
    refusal::explain(|| open.load()).map(drop)
}

/// The first bank of each kind.
struct FirstBanks {
    counters: MapHandle,
    lines: MapHandle,
}

/// The program before it is loaded, and the first banks.
fn open<'a, B: SkelBuilder<'a>>(
    builder: B,
    storage: &'a mut MaybeUninit<OpenObject>,
    constants: &abi::interface,
) -> Result<(B::Output, FirstBanks)> {
    let mut open = builder.open(storage)?;
    let banks = FirstBanks {
        counters: Kind::Counters.create()?,
        lines: Kind::Lines.create()?,
    };
    for mut map in open.open_object_mut().maps_mut() {
        match &*map.name().to_string_lossy() {
            CONFIG => map.set_initial_value(abi::bytes_of(constants))?,
            // Tells the kernel how large a bank is.
            "counters" => map.set_inner_map_fd(banks.counters.as_fd())?,
            "lines" => map.set_inner_map_fd(banks.lines.as_fd())?,
            _ => {}
        }
    }
    if constants.frags != 0 {
        for mut program in open.open_object_mut().progs_mut() {
            program.set_flags(libbpf_sys::BPF_F_XDP_HAS_FRAGS);
        }
    }
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
    if mode == Mode::Tc {
        return Ok(abi::ANSWERS_REDIRECTED);
    }
    if mode == Mode::Skb || !device.is_veth() {
        return Ok(abi::ANSWERS_SENT);
    }
    Ok(if is_reachable(device)? {
        abi::ANSWERS_REDIRECTED
    } else {
        abi::ANSWERS_NONE
    })
}

/// A ledger's state as the constants have it.
pub fn number_of(ledger: LedgerState) -> u32 {
    match ledger {
        LedgerState::On => abi::LEDGER_ON,
        LedgerState::Unwanted => abi::LEDGER_UNWANTED,
        LedgerState::Unavailable => abi::LEDGER_UNAVAILABLE,
    }
}

fn config(device: &Device, variant: Variant) -> Result<abi::interface> {
    let mut config = abi::interface {
        ifindex: device.ifindex,
        mode: match variant.mode {
            Mode::Native => abi::MODE_NATIVE,
            Mode::Skb => abi::MODE_SKB,
            Mode::Tc => abi::MODE_TC,
        },
        frags: variant.frags.into(),
        ledger: number_of(variant.ledger),
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
    if variant.mode == Mode::Tc
        && let Some(layout) = NetnsLayout::of_kernel()
    {
        layout.put(&mut config);
        config.netns = netns::inode()?;
    }
    abi::put_text(&mut config.name, &device.name);
    Ok(config)
}

/// Has a program use maps that are pinned in a directory. Its constants are always its own.
fn reuse(directory: &Path, maps: &[Schema], object: &mut OpenObject) -> Result<()> {
    for mut map in object.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        if let Some(pin) = pin_of(maps, &name).filter(|_| name != CONFIG) {
            let path = directory.join(pin);
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
