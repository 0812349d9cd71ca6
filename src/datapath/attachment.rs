//! What keeps the program at an interface when the command has ended: a link or, at the tc hook of kernels that have
//! no links there (before Linux 6.6), a filter; or libxdp's dispatcher, which calls it; or nothing but the device, where
//! ours has taken the place of an XDP program that netlink had attached.
//!
//! A pinned link attaches, and the interface is attached if, and only if, `link` is there. A filter attaches whatever
//! is pinned, and so do the others. So the program is pinned first, as `filter-new`, and last: then the interface is
//! attached if, and only if, its device has that program. Under the name `filter`, it was attached. What a killed run
//! has left under the other name, the next one brings to its end.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::Result;
use libbpf_rs::query::{LinkInfo, LinkTypeInfo};
use libbpf_rs::{Link, Program, ProgramHandle};

use super::bpffs::{At, exists, remove_file, remove_tree};
use super::foreign::{Foreign, is_ours};
use super::interface::runs;
use super::mode::{self, Refused};
use super::{Pins, chain, dispatcher, filter, holder, sys};
use crate::error::{Exit, one_line};
use crate::host::device::{self, Device};
use crate::model::{LinkState, Mode};

/// What only root may ask.
pub struct Ids {
    pub program: u32,
    /// None: there is none.
    pub link: Option<u32>,
    /// The device's index where it is now; 0 where it has the program no more.
    pub ifindex: u32,
    pub state: LinkState,
    /// In libxdp's dispatcher; None: it is in none.
    pub priority: Option<u32>,
}

/// What is pinned of an attachment.
enum Pinned {
    Link(PathBuf),
    /// The program.
    Filter(PathBuf),
}

/// None where the interface is not attached.
fn find(pins: &Pins, ifindex: u32) -> Result<Option<Pinned>> {
    let (link, filter, new) = (
        pins.link(ifindex),
        pins.filter(ifindex),
        pins.new_filter(ifindex),
    );
    if exists(&link)? {
        return Ok(Some(Pinned::Link(link)));
    }
    if exists(&new)? && is_filtered(&new, ifindex) {
        return Ok(Some(Pinned::Filter(new)));
    }
    Ok(exists(&filter)?.then_some(Pinned::Filter(filter)))
}

/// Members of a group can't tell.
fn is_filtered(pin: &Path, ifindex: u32) -> bool {
    open(pin).is_ok_and(|program| holder::has(ifindex, program.as_fd()).unwrap_or(false))
}

fn open(pin: &Path) -> Result<OwnedFd> {
    Program::fd_from_pinned_path(pin).at("cannot open", pin)
}

pub fn is_there(pins: &Pins, ifindex: u32) -> Result<bool> {
    Ok(find(pins, ifindex)?.is_some())
}

fn require(pins: &Pins, ifindex: u32) -> Result<Pinned> {
    // A link that another run has just removed is missed as such.
    Ok(find(pins, ifindex)?.unwrap_or_else(|| Pinned::Link(pins.link(ifindex))))
}

pub fn ids(pins: &Pins, ifindex: u32) -> Result<Ids> {
    match require(pins, ifindex)? {
        Pinned::Link(path) => ids_of_link(&path, ifindex),
        Pinned::Filter(path) => ids_of_filter(&path, ifindex),
    }
}

/// The number of the program that is attached; None where none is.
pub fn program(pins: &Pins, ifindex: u32) -> Result<Option<u32>> {
    Ok(match find(pins, ifindex)? {
        None => None,
        Some(Pinned::Link(path)) => {
            Some(Link::open(&path).at("cannot open", &path)?.info()?.prog_id)
        }
        Some(Pinned::Filter(path)) => Some(Program::id_from_fd(open(&path)?.as_fd())?),
    })
}

/// Another run may have the link run another program between the questions: then they are asked again.
fn ids_of_link(path: &Path, at: u32) -> Result<Ids> {
    let link = Link::open(path).at("cannot open", path)?;
    let mut ids = ids_from(&link.info()?, at);
    while ids.state == LinkState::Moved {
        let again = link.info()?;
        if again.prog_id == ids.program {
            break;
        }
        ids = ids_from(&again, at);
    }
    Ok(ids)
}

fn ids_from(info: &LinkInfo, at: u32) -> Ids {
    // The kernel tells the index of the device where that is now, and 0 once the link has none.
    let ifindex = match &info.info {
        LinkTypeInfo::Xdp(xdp) => xdp.ifindex,
        LinkTypeInfo::Tcx(tcx) => tcx.ifindex,
        _ => 0,
    };
    let state = match ifindex {
        0 => without_program(at),
        _ if !has_ours(info.prog_id) => LinkState::Detached,
        _ if runs(info.prog_id, at) => LinkState::Attached,
        _ => LinkState::Moved,
    };
    Ids {
        program: info.prog_id,
        link: Some(info.id),
        ifindex,
        state,
        priority: None,
    }
}

/// A device that is moved to another network namespace leaves its filters behind.
fn ids_of_filter(path: &Path, at: u32) -> Result<Ids> {
    let program = open(path)?;
    let has = holder::has(at, program.as_fd())?;
    Ok(Ids {
        program: Program::id_from_fd(program.as_fd())?,
        link: None,
        ifindex: if has { at } else { 0 },
        state: if has {
            LinkState::Attached
        } else {
            without_program(at)
        },
        priority: holder::priority(at, program.as_fd())?,
    })
}

fn without_program(ifindex: u32) -> LinkState {
    match device::name_of(ifindex) {
        Some(_) => LinkState::Detached,
        None => LinkState::Gone,
    }
}

/// Takes the program off an interface; by a link, in whatever network namespace that is now.
pub fn detach(pins: &Pins, ifindex: u32) -> Result<()> {
    match require(pins, ifindex)? {
        Pinned::Link(path) => {
            let link = Link::open(&path).at("cannot open", &path)?;
            if let Some(program) = chain::taken_in(pins, ifindex)? {
                return give_back(&link, &path, &program);
            }
            let is_ours = has_ours(link.info()?.prog_id);
            // The pin first: should this run end here, the link goes with its last descriptor.
            fs::remove_file(&path).at("cannot remove", &path)?;
            if is_ours { Ok(link.detach()?) } else { Ok(()) }
        }
        Pinned::Filter(path) => {
            let new = pins.new_filter(ifindex);
            fs::rename(&path, &new).at("cannot rename", &path)?;
            remove_file(&pins.filter(ifindex))?;
            take_off(pins, ifindex)
        }
    }
}

/// Whether a link's program is ours. The owner of a link that was taken in may have had it run another one since.
/// Who may not ask takes it that it is.
fn has_ours(program: u32) -> bool {
    let program = ProgramHandle::from_prog_id(program);
    program.map_or(true, |program| is_ours(&program.name().to_string_lossy()))
}

/// Has the link of others attach their program again. A run that is killed before the pin is removed is followed by
/// one that does this again.
fn give_back(link: &Link, path: &Path, program: &OwnedFd) -> Result<()> {
    // A link whose device is gone attaches nothing more.
    let is_there = matches!(link.info()?.info, LinkTypeInfo::Xdp(xdp) if xdp.ifindex != 0);
    if is_there {
        sys::link_update(link.as_fd(), program.as_fd())?;
    }
    fs::remove_file(path).at("cannot remove", path)
}

/// Has a program take the place of another one's, which it asks, in one step. The interface's maps are pinned, and
/// say that it does nothing yet: the next run after one that is killed puts the other one back.
pub fn take_in(pins: &Pins, ifindex: u32, foreign: &Foreign, entry: BorrowedFd<'_>) -> Result<()> {
    let new = pins.new_filter(ifindex);
    sys::pin(entry, &new)?;
    let pin_link = |link: BorrowedFd<'_>| {
        remove_file(&new)?;
        sys::pin(link, &pins.link(ifindex))
    };
    match foreign.hand_over(entry, pin_link)? {
        true => Ok(()),
        false => fs::rename(&new, pins.filter(ifindex)).at("cannot rename", &new),
    }
}

/// Has libxdp's dispatcher call a program that is prepared for it. The next run after one that is killed tells by the
/// dispatcher whether that was done.
pub fn join(pins: &Pins, ifindex: u32, mode: Mode, priority: u32, program: &OwnedFd) -> Result<()> {
    let new = pins.new_filter(ifindex);
    sys::pin(program.as_fd(), &new)?;
    dispatcher::join(pins, ifindex, mode, priority)?;
    fs::rename(&new, pins.filter(ifindex)).at("cannot rename", &new)
}

/// Has another program take the place of the one at an interface, in one step.
pub fn replace(pins: &Pins, ifindex: u32, by: BorrowedFd<'_>) -> Result<()> {
    match require(pins, ifindex)? {
        Pinned::Link(path) => {
            let link = Link::open(&path).at("cannot open", &path)?;
            Ok(sys::link_update(link.as_fd(), by)?)
        }
        Pinned::Filter(path) => {
            let (program, new) = (open(&path)?, pins.new_filter(ifindex));
            sys::pin(by, &new)?;
            holder::replace(ifindex, program.as_fd(), by)?;
            fs::rename(&new, &path).at("cannot rename", &new)
        }
    }
}

/// Takes a program off that is pinned as `filter-new`, and removes that pin.
fn take_off(pins: &Pins, ifindex: u32) -> Result<()> {
    let new = pins.new_filter(ifindex);
    let back = chain::taken_in(pins, ifindex)?;
    let back = back.as_ref().map(AsFd::as_fd);
    holder::remove(pins, ifindex, open(&new)?.as_fd(), back)?;
    remove_file(&new)
}

/// Brings what a killed run has left to its end. True where the interface is attached.
pub fn settle(pins: &Pins, ifindex: u32) -> Result<bool> {
    remove_tree(&pins.new_maps(ifindex))?;
    let new = pins.new_filter(ifindex);
    if exists(&new)? {
        match is_filtered(&new, ifindex) {
            true => fs::rename(&new, pins.filter(ifindex)).at("cannot rename", &new)?,
            false => take_off(pins, ifindex)?,
        }
    }
    chain::settle(pins, ifindex)?;
    is_there(pins, ifindex)
}

/// Removes all that an interface has whose program is no longer at its device.
pub fn clear(pins: &Pins, ifindex: u32) -> Result<()> {
    if let Some(Pinned::Filter(_)) = find(pins, ifindex)? {
        detach(pins, ifindex)?;
    }
    remove_pins(pins, ifindex)
}

/// Removes the pins of an interface that is not attached any more.
pub fn remove_pins(pins: &Pins, ifindex: u32) -> Result<()> {
    chain::clear(pins, ifindex)?;
    remove_tree(&pins.interface(ifindex))
}

/// The program at its device, which it leaves when this is dropped, unless it is kept.
pub enum Placed {
    Link(OwnedFd),
    Filter(PlacedFilter),
}

pub struct PlacedFilter {
    pins: Pins,
    ifindex: u32,
    is_kept: bool,
}

/// Attaches the program to a device whose own maps are pinned.
pub fn place(
    pins: &Pins,
    program: &OwnedFd,
    device: &Device,
    mode: Mode,
) -> Result<Placed, Refused> {
    if mode == Mode::Tc && !sys::knows_tcx(device.ifindex) {
        return place_filter(pins, program, device.ifindex);
    }
    mode::link(program, device, mode).map(Placed::Link)
}

fn place_filter(pins: &Pins, program: &OwnedFd, ifindex: u32) -> Result<Placed, Refused> {
    let new = pins.new_filter(ifindex);
    let pinned = sys::pin(program.as_fd(), &new);
    pinned.map_err(|error| Refused::new(Exit::Failed, one_line(&error)))?;
    let placed = PlacedFilter {
        pins: pins.clone(),
        ifindex,
        is_kept: false,
    };
    let added = filter::add(pins, ifindex, program.as_fd());
    added.map_err(|(exit, why)| Refused::new(exit, why))?;
    Ok(Placed::Filter(placed))
}

impl Placed {
    /// Has it stay after this run.
    pub fn keep(self, pins: &Pins, ifindex: u32) -> Result<()> {
        match self {
            Placed::Link(link) => sys::pin(link.as_fd(), &pins.link(ifindex)),
            Placed::Filter(mut filter) => {
                let new = pins.new_filter(ifindex);
                fs::rename(&new, pins.filter(ifindex)).at("cannot rename", &new)?;
                filter.is_kept = true;
                Ok(())
            }
        }
    }
}

impl Drop for PlacedFilter {
    fn drop(&mut self) {
        if !self.is_kept {
            // What fails is left to the next run.
            let _ = take_off(&self.pins, self.ifindex);
        }
    }
}
