//! Loading the program for an interface.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use libbpf_rs::skel::{OpenSkel, Skel, SkelBuilder};
use libbpf_rs::{
    Map, MapCore, MapFlags, MapHandle, MapType, Object, OpenObject, Program, libbpf_sys,
};

use super::abi::{self, XdpredirSkelBuilder, XdpredirTcSkelBuilder};
use super::banks::Kind;
use super::bpffs::{At, entries, mkdir, remove_file, remove_tree};
use super::kernel_layout::{LinkLayout, NetnsLayout};
use super::ledger::{self, Hook};
use super::permissions::{group_of, share_pin, share_pins_of};
use super::ruleset::slots;
use super::schema::{CONFIG, OWN, SHARED, Schema, difference, pin_of};
use super::state::has_state;
use super::version::{missing_maps, this_version};
use super::{Pins, banks, dispatcher, policy, refusal, ruleset, stand_in, sys};
use crate::host::device::{self, Device};
use crate::host::{netns, xdp};
use crate::model::{LedgerState, Mode, Purpose};

/// The map of the sockets that rules hand packets to. Some kernels have none.
pub(super) const SOCKETS: &str = "sockets";

/// What the variables of the XDP program are called in the BPF object.
pub(super) const VARIABLES: &str = "xdpredir.bss";

/// What the verifier folds into an interface's own copy of the program.
#[derive(Clone, Copy)]
pub struct Variant {
    pub mode: Mode,
    /// Frames in several buffers come along.
    pub frags: bool,
    /// libxdp's dispatcher calls it.
    pub joined: bool,
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
    load_first(pins, &config(device, variant)?, stance, None)
}

/// The same with these constants, for whoever calls it.
pub fn load_first(
    pins: &Pins,
    constants: &abi::interface,
    stance: &abi::policy,
    caller: Option<Caller>,
) -> Result<OwnedFd> {
    load_with(pins, constants, Own::New(stance), caller)
}

/// The program that is to take the place of an interface's, with other constants and on the same maps. Those that it
/// has otherwise are pinned where `take_place` finds them.
pub fn load_successor(
    pins: &Pins,
    constants: &abi::interface,
    caller: Option<Caller>,
) -> Result<OwnedFd> {
    load_with(pins, constants, Own::Kept, caller)
}

/// The number of the program that is attached in the place of ours, and calls it: the kernel names that where it tells
/// of frames that it has lost.
#[derive(Clone, Copy)]
pub struct Caller(pub u32);

/// The maps that an interface has of its own.
#[derive(Clone, Copy)]
enum Own<'a> {
    /// They are made, and this is what the program is to do.
    New(&'a abi::policy),
    /// They are there, and are used as far as they have our schemas: another version may have made them.
    Kept,
}

fn load_with(
    pins: &Pins,
    constants: &abi::interface,
    own: Own,
    caller: Option<Caller>,
) -> Result<OwnedFd> {
    let mut storage = MaybeUninit::uninit();
    match constants.mode {
        abi::MODE_TC => {
            let builder = XdpredirTcSkelBuilder::default();
            load_from(builder, &mut storage, pins, constants, own, caller)
        }
        _ => {
            let builder = XdpredirSkelBuilder::default();
            load_from(builder, &mut storage, pins, constants, own, caller)
        }
    }
}

fn load_from<'a>(
    builder: impl SkelBuilder<'a>,
    storage: &'a mut MaybeUninit<OpenObject>,
    pins: &Pins,
    constants: &abi::interface,
    own: Own,
    caller: Option<Caller>,
) -> Result<OwnedFd> {
    let (mut open, banks) = open(builder, storage, constants)?;
    let state_is_there = has_state(pins)?;
    // Another version may lack some of them.
    let missing = match state_is_there {
        true => missing_maps(pins)?,
        false => Vec::new(),
    };
    if state_is_there {
        reuse_shared(pins, open.open_object_mut(), |map| !missing.contains(&map))?;
    }
    if let Own::Kept = own {
        let directory = pins.interface(constants.ifindex);
        reuse(&directory, &kept(&directory)?, open.open_object_mut())?;
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
        let is_tc = constants.mode == abi::MODE_TC;
        ledger::start(pins, if is_tc { Hook::Tc } else { Hook::Xdp })?;
        if !is_tc {
            let attached = match caller {
                Some(Caller(number)) => number,
                None => Program::id_from_fd(program.as_fd())?,
            };
            tell_its_id(object, attached)?;
        }
    }
    pin_missing(pins, object, &missing)?;
    match own {
        Own::New(stance) => {
            policy::put(&map_of(object, "policy")?, stance)?;
            pin_interface(pins, constants.ifindex, object)?;
        }
        Own::Kept => pin_new_maps(pins, constants.ifindex, object)?,
    }
    Ok(program)
}

/// The skeletons of all hooks have the same maps, by these names.
pub(super) fn map_of<'o>(object: &'o Object, name: &str) -> Result<Map<'o>> {
    let found = object.maps().find(|map| map.name() == name);
    found.with_context(|| format!("the program has no map {name}"))
}

pub(super) fn program_of(object: &Object) -> Result<OwnedFd> {
    let program = object.progs().next().context("the object has no program")?;
    Ok(program.as_fd().try_clone_to_owned()?)
}

/// The number of the program that is attached: this one, or the one that calls it. Before it is attached: the variables are those with which it begins, all zero.
fn tell_its_id(object: &Object, id: u32) -> Result<()> {
    let first = abi::PROGRAM_ID;
    let variables = map_of(object, VARIABLES)?;
    let mut bytes = vec![0; variables.value_size() as usize];
    let place = bytes.get_mut(first..first + size_of_val(&id));
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
        joined: false,
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
pub(super) struct FirstBanks {
    counters: MapHandle,
    lines: MapHandle,
}

/// The program with an interface's constants, before it is loaded, and the first banks.
pub(super) fn open<'a, B: SkelBuilder<'a>>(
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
            SOCKETS => map.set_autocreate(constants.sockets != 0)?,
            _ => {}
        }
    }
    for mut program in open.open_object_mut().progs_mut() {
        if constants.frags != 0 {
            program.set_flags(libbpf_sys::BPF_F_XDP_HAS_FRAGS);
        }
        if constants.joined != 0 {
            dispatcher::fit(&mut program);
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

/// The constants of a device's program.
pub fn config(device: &Device, variant: Variant) -> Result<abi::interface> {
    let mut config = abi::interface {
        ifindex: device.ifindex,
        mode: match variant.mode {
            Mode::Native => abi::MODE_NATIVE,
            Mode::Skb => abi::MODE_SKB,
            Mode::Tc => abi::MODE_TC,
        },
        frags: variant.frags.into(),
        joined: variant.joined.into(),
        ledger: number_of(variant.ledger),
        answers: answers(device, variant.mode)?,
        reachable: is_reachable(device)?.into(),
        completes_checksum: device.completes_checksum()?.into(),
        mac: device.mac.map_or([0; 6], |mac| mac.0),
        for_answers: (variant.purpose == Purpose::Answers).into(),
        yields: stand_in::has_slots().into(),
        sockets: (variant.mode != Mode::Tc && MapType::Xskmap.is_supported()?).into(),
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
    abi::put_text(&mut config.version, this_version());
    Ok(config)
}

/// Has an object use the namespace's maps, as far as it has them and is to use them.
pub(super) fn reuse_shared(
    pins: &Pins,
    object: &mut OpenObject,
    is_used: impl Fn(&str) -> bool,
) -> Result<()> {
    let used: Vec<Schema> = SHARED.into_iter().filter(|(map, _)| is_used(map)).collect();
    reuse(&pins.state(), &used, object)
}

/// Has an object find the sockets of an interface.
pub(super) fn reuse_sockets(pins: &Pins, ifindex: u32, object: &mut OpenObject) -> Result<()> {
    let sockets = OWN.into_iter().filter(|(map, _)| *map == SOCKETS);
    reuse(
        &pins.interface(ifindex),
        &sockets.collect::<Vec<_>>(),
        object,
    )
}

/// Has an object use all maps that an interface's program uses.
pub(super) fn reuse_all(pins: &Pins, ifindex: u32, object: &mut OpenObject) -> Result<()> {
    reuse_shared(pins, object, |_| true)?;
    reuse(&pins.interface(ifindex), &OWN, object)
}

/// Has an object use this map in the place of its own of that name, if it has one.
pub(super) fn reuse_map(object: &mut OpenObject, name: &str, with: &MapHandle) -> Result<()> {
    let mut maps = object.maps_mut();
    match maps.find(|map| map.name() == name) {
        Some(mut map) => Ok(map.reuse_fd(with.as_fd())?),
        None => Ok(()),
    }
}

/// Has a program use maps that are pinned in a directory. Its constants are always its own.
fn reuse(directory: &Path, maps: &[Schema], object: &mut OpenObject) -> Result<()> {
    for mut map in object.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        let is_used = name != CONFIG && map.autocreate();
        if let Some(pin) = pin_of(maps, &name).filter(|_| is_used) {
            let path = directory.join(pin);
            map.reuse_pinned_map(&path).at("cannot use", &path)?;
        }
    }
    Ok(())
}

/// Pins the shared maps that another version lacks.
fn pin_missing(pins: &Pins, object: &mut Object, missing: &[&str]) -> Result<()> {
    let state = pins.state();
    for map in object.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        if let Some(pin) = pin_of(&SHARED, &name).filter(|_| missing.contains(&&*name)) {
            let path = state.join(pin);
            sys::pin(map.as_fd(), &path)?;
            group_of(&state).map_or(Ok(()), |gid| share_pin(&path, gid))?;
        }
    }
    Ok(())
}

/// The maps of an interface that a successor uses, too: all but the constants, and what is of another schema.
fn kept(directory: &Path) -> Result<Vec<Schema>> {
    let names = entries(directory)?;
    let is_there = |map: &str| pin_of(&OWN, map).is_some_and(|pin| names.contains(&pin));
    let kept = OWN.into_iter();
    Ok(kept
        .filter(|(map, _)| *map != "config" && is_there(map))
        .collect())
}

/// Pins what a successor has otherwise, until it is in its place.
fn pin_new_maps(pins: &Pins, ifindex: u32, object: &mut Object) -> Result<()> {
    let (directory, new) = (pins.interface(ifindex), pins.new_maps(ifindex));
    let kept = kept(&directory)?;
    let made: Vec<Schema> = OWN.into_iter().filter(|map| !kept.contains(map)).collect();
    remove_tree(&new)?;
    pin_maps(&new, &made, object)?;
    group_of(&directory).map_or(Ok(()), |gid| share_pins_of(&new, gid))
}

/// Has the maps of a successor take the place of those of its predecessor.
pub fn take_place(pins: &Pins, ifindex: u32) -> Result<()> {
    let (directory, new) = (pins.interface(ifindex), pins.new_maps(ifindex));
    for pin in entries(&new)? {
        let path = new.join(&pin);
        fs::rename(&path, directory.join(&pin)).at("cannot rename", &path)?;
    }
    for pin in entries(&directory)? {
        if difference(&OWN, &pin).is_some() {
            remove_file(&directory.join(pin))?;
        }
    }
    remove_tree(&new)
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
    for map in object.maps_mut().filter(|map| map.autocreate()) {
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
