//! What has a program at a device without a link: a filter of tc, libxdp's dispatcher, or the device itself, where
//! netlink attached an XDP program.

use std::os::fd::BorrowedFd;

use anyhow::Result;
use libbpf_rs::Program;

use super::dispatcher::Caller;
use super::mode::flags;
use super::{Pins, dispatcher, filter, sys};
use crate::model::Mode;

/// Whether the device has the program.
pub fn has(ifindex: u32, program: BorrowedFd<'_>) -> Result<bool> {
    Ok(mode(ifindex, program)?.is_some()
        || caller(ifindex, program)?.is_some()
        || filter::find(ifindex, program)?.is_some())
}

/// Has another program take its place, in one step.
pub fn replace(ifindex: u32, program: BorrowedFd<'_>, by: BorrowedFd<'_>) -> Result<()> {
    if let Some(mode) = mode(ifindex, program)? {
        let replaced = sys::netlink_replace(ifindex, flags(mode), program, Some(by));
        return Ok(replaced?);
    }
    match caller(ifindex, program)? {
        Some(caller) => caller.replace(by),
        None => filter::replace(ifindex, program, by),
    }
}

/// Takes the program off, unless somebody has. Another XDP program may come back in the same step.
pub fn remove(
    pins: &Pins,
    ifindex: u32,
    program: BorrowedFd<'_>,
    back: Option<BorrowedFd<'_>>,
) -> Result<()> {
    if let Some(mode) = mode(ifindex, program)? {
        return Ok(sys::netlink_replace(ifindex, flags(mode), program, back)?);
    }
    match caller(ifindex, program)? {
        Some(caller) => caller.remove(ifindex),
        None => filter::remove(pins, ifindex, program),
    }
}

/// The priority of the program in the dispatcher of a device; None where none calls it.
pub fn priority(ifindex: u32, program: BorrowedFd<'_>) -> Result<Option<u32>> {
    dispatcher::priority(ifindex, Program::id_from_fd(program)?)
}

fn caller(ifindex: u32, program: BorrowedFd<'_>) -> Result<Option<Caller>> {
    dispatcher::find(ifindex, Program::id_from_fd(program)?)
}

/// The mode in which a device has an XDP program; None where it has not.
fn mode(ifindex: u32, program: BorrowedFd<'_>) -> Result<Option<Mode>> {
    let id = Program::id_from_fd(program)?;
    let state = match sys::xdp_query(ifindex) {
        // Its device is gone.
        Err(error) if error.raw_os_error() == Some(nix::libc::ENODEV) => return Ok(None),
        state => state?,
    };
    Ok(match id {
        _ if state.skb_program == id => Some(Mode::Skb),
        _ if state.native_program == id => Some(Mode::Native),
        _ => None,
    })
}
