//! What has a program at a device without a link: a filter of tc, or the device itself, where netlink attached an
//! XDP program.

use std::os::fd::BorrowedFd;

use anyhow::Result;
use libbpf_rs::Program;

use super::mode::flags;
use super::{Pins, filter, sys};
use crate::model::Mode;

/// Whether the device has the program.
pub fn has(ifindex: u32, program: BorrowedFd<'_>) -> Result<bool> {
    Ok(mode(ifindex, program)?.is_some() || filter::find(ifindex, program)?.is_some())
}

/// Has another program take its place, in one step.
pub fn replace(ifindex: u32, program: BorrowedFd<'_>, by: BorrowedFd<'_>) -> Result<()> {
    match mode(ifindex, program)? {
        None => filter::replace(ifindex, program, by),
        Some(mode) => {
            let replaced = sys::netlink_replace(ifindex, flags(mode), program, Some(by));
            Ok(replaced?)
        }
    }
}

/// Takes the program off, unless somebody has. Another XDP program may come back in the same step.
pub fn remove(
    pins: &Pins,
    ifindex: u32,
    program: BorrowedFd<'_>,
    back: Option<BorrowedFd<'_>>,
) -> Result<()> {
    match mode(ifindex, program)? {
        None => filter::remove(pins, ifindex, program),
        Some(mode) => Ok(sys::netlink_replace(ifindex, flags(mode), program, back)?),
    }
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
