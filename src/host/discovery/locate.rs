//! Finds backends again, in the way in which they were found before.

use std::fs::File;
use std::net::IpAddr;

use anyhow::{Context, Result};

use super::veth_pair::{self, AddressHint};
use super::{Probe, Resolved, container};
use crate::error::{Exit, exit_code, failure, one_line};
use crate::host::device::{self, Device};
use crate::host::{netns, process};
use crate::model::Locator;

/// Finds a backend by its locator.
pub fn locate(locator: &Locator, hint: AddressHint, probe: Probe) -> Result<Resolved> {
    let place = match locator {
        Locator::Pid { pid, .. } => format!("pid {pid}"),
        _ => locator.to_string(),
    };
    let namespace = match locator {
        Locator::Route => {
            let server = hint.address().context("a route needs an address")?;
            return Resolved::find(server, None, None, probe);
        }
        Locator::Device(name) => return by_device(name, hint, probe),
        Locator::Pid { pid, started } => of_process(*pid, *started),
        Locator::Netns(name) => netns::open(name).with_context(|| place.clone()),
        Locator::Container(name) => container::pid(name).and_then(netns::of_process),
    };
    let found = namespace.and_then(|namespace| veth_pair::within(&place, &namespace, hint));
    explain_refusal(&place, found)
}

/// Whether what a locator names is gone, as far as this host can tell without asking anyone else.
pub fn is_lost(locator: &Locator) -> bool {
    let found = match locator {
        Locator::Route | Locator::Container(_) => Ok(()),
        Locator::Device(name) => device::by_name(name).map(drop),
        Locator::Netns(name) => netns::open(name).map(drop),
        Locator::Pid { pid, started } => require_same(*pid, *started),
    };
    found.is_err_and(|error| exit_code(&error) == Exit::NotFound)
}

fn of_process(pid: u32, started: u64) -> Result<File> {
    let namespace = netns::of_process(pid)?;
    // After the namespace was opened: the number may have gone to another process meanwhile.
    require_same(pid, started)?;
    Ok(namespace)
}

fn require_same(pid: u32, started: u64) -> Result<()> {
    if process::started(pid)? != started {
        let message = format!("pid {pid}: another process has that number now");
        return Err(failure(Exit::NotFound, message));
    }
    Ok(())
}

/// Members of the group may change rules, but the kernel lets them neither ask another namespace over
/// netlink nor open that of another user's process.
fn explain_refusal<T>(place: &str, result: Result<T>) -> Result<T> {
    result.map_err(|error| match exit_code(&error) {
        Exit::Permission => failure(
            Exit::Permission,
            format!(
                "{place}: only root sees into other network namespaces (CAP_NET_ADMIN, and CAP_SYS_PTRACE for that of a process): {}",
                one_line(&error)
            ),
        ),
        _ => error,
    })
}

fn by_device(name: &str, hint: AddressHint, probe: Probe) -> Result<Resolved> {
    let device = device::by_name(name)?;
    let Some(server) = hint.address() else {
        return explain_refusal(&format!("device {name}"), veth_pair::behind(device, hint));
    };
    let same_address = on_device(server, device.clone(), probe);
    same_address.or_else(|gone| match hint {
        AddressHint::Previous(_) => veth_pair::behind(device, hint).map_err(|_| gone),
        _ => Err(gone),
    })
}

/// Finds a server on a device: the MAC address is that of the device's peer where that has the
/// server's address, and else the neighbour's.
pub fn on_device(server: IpAddr, device: Device, probe: Probe) -> Result<Resolved> {
    veth_pair::behind(device.clone(), AddressHint::Exact(server))
        .or_else(|_| Resolved::find(server, Some(device), None, probe))
}
