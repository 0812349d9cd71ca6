//! Backends found again, as they were found before.

use std::fs::File;
use std::net::IpAddr;

use anyhow::Result;

use super::container;
use super::next_hop::{Probe, Resolved};
use super::veth_pair::{self, AddressHint};
use crate::error::{Exit, exit_code, failure, one_line};
use crate::host::device::{self, Device};
use crate::host::{netns, process};
use crate::model::Locator;

/// The way to a backend, found as its origin says.
pub fn locate(origin: &Locator, wanted: AddressHint, ask: Probe) -> Result<Resolved> {
    let what = match origin {
        Locator::Pid { pid, .. } => format!("pid {pid}"),
        _ => origin.to_string(),
    };
    let namespace = match origin {
        Locator::Route | Locator::Device(_) => return locate_here(origin, wanted, ask),
        Locator::Pid { pid, started } => of_process(*pid, *started),
        Locator::Netns(name) => netns::named(&what, name),
        Locator::Container(name) => container::pid(name).and_then(netns::of_process),
    };
    for_root(
        &what,
        namespace.and_then(|namespace| veth_pair::within(&what, &namespace, wanted)),
    )
}

/// Whether what a locator names is gone, as far as this host can tell without asking anyone else.
pub fn is_lost(origin: &Locator) -> bool {
    let found = match origin {
        Locator::Route | Locator::Container(_) => Ok(()),
        Locator::Device(name) => device::by_name(name).map(drop),
        Locator::Netns(name) => netns::named(name, name).map(drop),
        Locator::Pid { pid, started } => require_same(*pid, *started),
    };
    found.is_err_and(|error| exit_code(&error) == Exit::NotFound)
}

fn of_process(pid: u32, started: u64) -> Result<File> {
    let namespace = netns::of_process(pid)?;
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

/// Members of the group may change rules, but are not let into namespaces.
fn for_root<T>(what: &str, result: Result<T>) -> Result<T> {
    result.map_err(|error| match exit_code(&error) {
        Exit::Permission => failure(
            Exit::Permission,
            format!(
                "{what}: only root, with CAP_SYS_PTRACE and CAP_SYS_ADMIN, sees into other network namespaces: {}",
                one_line(&error)
            ),
        ),
        _ => error,
    })
}

fn locate_here(origin: &Locator, wanted: AddressHint, ask: Probe) -> Result<Resolved> {
    match (origin, wanted.address()) {
        (Locator::Device(name), Some(server)) => {
            let device = device::by_name(name)?;
            let same = on_device(server, device.clone(), ask);
            // Nobody there has the address now.
            same.or_else(|gone| match wanted {
                AddressHint::Previous(_) => veth_pair::behind(device, wanted).map_err(|_| gone),
                _ => Err(gone),
            })
        }
        (Locator::Device(name), None) => {
            let device = device::by_name(name)?;
            for_root(&origin.to_string(), veth_pair::behind(device, wanted))
        }
        (_, Some(server)) => Resolved::find(server, None, None, ask),
        (_, None) => Err(failure(Exit::Usage, "--server is missing")),
    }
}

/// The MAC address is that of the device's peer where that has the server's address.
pub fn on_device(server: IpAddr, device: Device, ask: Probe) -> Result<Resolved> {
    veth_pair::behind(device.clone(), AddressHint::Exact(server))
        .or_else(|_| Resolved::find(server, Some(device), None, ask))
}
