//! Filters of tc, which run the program where packets arrive at a device.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use anyhow::{Context, Result};
use libbpf_rs::{ErrorKind, Program, TC_EGRESS, TC_INGRESS, TcHook};

use super::bpffs::{At, exists, mkdir};
use super::{Pins, log};
use crate::error::{Exit, one_line};
use crate::host::device;
use crate::host::tc::{self, Filter};

/// "xdpr". The kernel chooses 1 and the numbers after it for those who choose none.
const HANDLE: u32 = 0x7864_7072;

/// Why there is no filter.
pub type Why = (Exit, String);

/// The filter that runs a program at a device; None where there is none.
pub fn find(ifindex: u32, program: BorrowedFd<'_>) -> Result<Option<Filter>> {
    let id = Program::id_from_fd(program)?;
    let mut all = tc::arriving(ifindex)?.into_iter();
    Ok(all.find(|filter| filter.program == Some(id)))
}

/// Adds one, in front of those of others. The qdisc that it needs is made where there is none.
pub fn add(pins: &Pins, ifindex: u32, program: BorrowedFd<'_>) -> Result<(), Why> {
    let failed = |error| (Exit::Failed, one_line(&error));
    let refused = |error| refused(ifindex, &error);
    log::take_said();
    if !tc::has_qdisc(ifindex).map_err(failed)? {
        let made = made_qdisc(pins, ifindex);
        mkdir(&made, 0o700)
            .at("cannot make", &made)
            .map_err(failed)?;
        hook(ifindex, program).create().map_err(refused)?;
    }
    let priority = free_priority(&tc::arriving(ifindex).map_err(failed)?);
    let mut hook = hook(ifindex, program);
    hook.handle(HANDLE).priority(priority.into());
    hook.attach().map(drop).map_err(refused)
}

/// The first one that others leave to a filter of ours. Of several filters with one priority, the newest is asked
/// first.
fn free_priority(others: &[Filter]) -> u16 {
    let admits = |other: &Filter| other.is_bpf_for_all && other.handle != HANDLE;
    let is_free = |priority: &u16| {
        let mut there = others.iter().filter(|other| other.priority == *priority);
        there.all(|other| !other.is_of_first_chain || admits(other))
    };
    (1..u16::MAX).find(is_free).unwrap_or(u16::MAX)
}

fn refused(ifindex: u32, error: &libbpf_rs::Error) -> Why {
    let exit = match error.kind() {
        ErrorKind::PermissionDenied => Exit::Permission,
        ErrorKind::AlreadyExists => Exit::Conflict,
        // NotFound: the kernel has no such kind of filter or qdisc.
        ErrorKind::InvalidInput | ErrorKind::Unsupported | ErrorKind::NotFound => Exit::Unsupported,
        _ if device::name_of(ifindex).is_none() => Exit::NotFound,
        _ => Exit::Failed,
    };
    let said = log::take_said().netlink;
    (exit, said.unwrap_or_else(|| error.to_string()))
}

/// Has the filter that runs a program run another one, in one step.
pub fn replace(ifindex: u32, program: BorrowedFd<'_>, by: BorrowedFd<'_>) -> Result<()> {
    let filter = find(ifindex, program)?.context("its filter is gone")?;
    let mut hook = hook(ifindex, by);
    hook.handle(filter.handle).priority(filter.priority.into());
    Ok(hook.replace(true).attach().map(drop)?)
}

/// Removes the filter that runs a program, unless somebody has, and then the qdisc, where it was made for the filter
/// and nobody else uses it.
pub fn remove(pins: &Pins, ifindex: u32, program: BorrowedFd<'_>) -> Result<()> {
    if let Some(filter) = find(ifindex, program)? {
        let mut hook = hook(ifindex, program);
        hook.handle(filter.handle).priority(filter.priority.into());
        hook.detach()?;
    }
    remove_qdisc(pins, ifindex, program)
}

/// What others add between the question and the answer goes with it: the kernel knows no other way.
fn remove_qdisc(pins: &Pins, ifindex: u32, program: BorrowedFd<'_>) -> Result<()> {
    let is_ours = exists(&made_qdisc(pins, ifindex))? && tc::has_qdisc(ifindex)?;
    if is_ours && !tc::has_filters(ifindex)? {
        let mut hook = hook(ifindex, program);
        hook.attach_point(TC_INGRESS | TC_EGRESS).destroy()?;
    }
    Ok(())
}

/// Is there where this command has made the qdisc, or is about to.
fn made_qdisc(pins: &Pins, ifindex: u32) -> PathBuf {
    pins.interface(ifindex).join("clsact")
}

fn hook(ifindex: u32, program: BorrowedFd<'_>) -> TcHook {
    let mut hook = TcHook::new(program);
    hook.ifindex(ifindex as i32).attach_point(TC_INGRESS);
    hook
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other(priority: u16) -> Filter {
        Filter {
            priority,
            handle: 1,
            program: Some(7),
            is_bpf_for_all: true,
            is_of_first_chain: true,
        }
    }

    #[test]
    fn a_filter_has_the_first_priority_that_others_leave_to_it() {
        let of_another_kind = Filter {
            is_bpf_for_all: false,
            ..other(1)
        };
        let of_other_pins = Filter {
            handle: HANDLE,
            ..other(2)
        };
        let of_another_chain = Filter {
            is_of_first_chain: false,
            is_bpf_for_all: false,
            ..other(3)
        };
        assert_eq!(free_priority(&[]), 1);
        assert_eq!(free_priority(&[other(1)]), 1);
        assert_eq!(
            free_priority(&[of_another_kind, of_other_pins, of_another_chain]),
            3
        );
    }
}
