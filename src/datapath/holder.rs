//! What has a program at a device without a link: a filter of tc, or the device itself, where netlink attached an
//! XDP program.

use std::os::fd::BorrowedFd;

use anyhow::{Context, Result};
use libbpf_rs::{Program, ProgramHandle, ProgramType};

use super::mode::flags;
use super::{Pins, filter, sys};
use crate::model::Mode;

/// Whether the device has the program.
pub fn has(ifindex: u32, program: BorrowedFd<'_>) -> Result<bool> {
    match is_xdp(program)? {
        true => Ok(mode(ifindex, program)?.is_some()),
        false => Ok(filter::find(ifindex, program)?.is_some()),
    }
}

/// Has another program take its place, in one step.
pub fn replace(ifindex: u32, program: BorrowedFd<'_>, by: BorrowedFd<'_>) -> Result<()> {
    if !is_xdp(program)? {
        return filter::replace(ifindex, program, by);
    }
    let mode = mode(ifindex, program)?.context("somebody has taken the program off")?;
    Ok(sys::netlink_replace(
        ifindex,
        flags(mode),
        program,
        Some(by),
    )?)
}

/// Takes the program off, unless somebody has. Another one may come back in the same step.
pub fn remove(
    pins: &Pins,
    ifindex: u32,
    program: BorrowedFd<'_>,
    back: Option<BorrowedFd<'_>>,
) -> Result<()> {
    if !is_xdp(program)? {
        return filter::remove(pins, ifindex, program);
    }
    match mode(ifindex, program)? {
        Some(mode) => Ok(sys::netlink_replace(ifindex, flags(mode), program, back)?),
        None => Ok(()),
    }
}

fn is_xdp(program: BorrowedFd<'_>) -> Result<bool> {
    let program = ProgramHandle::from_prog_id(Program::id_from_fd(program)?)?;
    Ok(program.prog_type() == ProgramType::Xdp)
}

/// The mode in which a device has an XDP program.
fn mode(ifindex: u32, program: BorrowedFd<'_>) -> Result<Option<Mode>> {
    let (id, state) = (Program::id_from_fd(program)?, sys::xdp_query(ifindex));
    Ok(match state {
        // Its device is gone.
        Err(error) if error.raw_os_error() == Some(nix::libc::ENODEV) => None,
        state => match state? {
            state if state.skb_program == id => Some(Mode::Skb),
            state if state.native_program == id => Some(Mode::Native),
            _ => None,
        },
    })
}
