//! Backends found again, as they were found before.

use std::fs::File;
use std::net::IpAddr;

use anyhow::Result;

use super::device::{self, Device};
use super::path::{Ask, Path};
use super::server::{self, Wanted};
use super::{container, netns, process};
use crate::error::{Exit, exit_code, failure, one_line};
use crate::model::Origin;

/// The way to a backend, found as its origin says.
pub fn locate(origin: &Origin, wanted: Wanted, ask: Ask) -> Result<Path> {
    let what = match origin {
        Origin::Pid { pid, .. } => format!("pid {pid}"),
        _ => origin.to_string(),
    };
    let namespace = match origin {
        Origin::Route | Origin::Device(_) => return locate_here(origin, wanted, ask),
        Origin::Pid { pid, started } => of_process(*pid, *started),
        Origin::Netns(name) => netns::named(&what, name),
        Origin::Container(name) => container::pid(name).and_then(netns::of_process),
    };
    for_root(
        &what,
        namespace.and_then(|namespace| server::within(&what, &namespace, wanted)),
    )
}

/// Whether what a locator names is gone, as far as this host can tell without asking anyone else.
pub fn is_lost(origin: &Origin) -> bool {
    let found = match origin {
        Origin::Route | Origin::Container(_) => Ok(()),
        Origin::Device(name) => device::by_name(name).map(drop),
        Origin::Netns(name) => netns::named(name, name).map(drop),
        Origin::Pid { pid, started } => require_same(*pid, *started),
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

fn locate_here(origin: &Origin, wanted: Wanted, ask: Ask) -> Result<Path> {
    match (origin, wanted.address()) {
        (Origin::Device(name), Some(server)) => {
            let device = device::by_name(name)?;
            let same = on_device(server, device.clone(), ask);
            // Nobody there has the address now.
            same.or_else(|gone| match wanted {
                Wanted::Formerly(_) => server::behind(device, wanted).map_err(|_| gone),
                _ => Err(gone),
            })
        }
        (Origin::Device(name), None) => {
            let device = device::by_name(name)?;
            for_root(&origin.to_string(), server::behind(device, wanted))
        }
        (_, Some(server)) => Path::find(server, None, None, ask),
        (_, None) => Err(failure(Exit::Usage, "--server is missing")),
    }
}

/// The MAC address is that of the device's peer where that has the server's address.
pub fn on_device(server: IpAddr, device: Device, ask: Ask) -> Result<Path> {
    server::behind(device.clone(), Wanted::This(server))
        .or_else(|_| Path::find(server, Some(device), None, ask))
}
