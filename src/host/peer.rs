//! The device at the other end of a link, in whatever network namespace it is.

use std::cell::LazyCell;

use anyhow::{Result, bail};

use super::device::{self, Device};
use super::ethtool::Ethtool;
use super::namespaces::Namespaces;
use super::netns;
use crate::model::{Offloads, Peer, Remote};

/// A device as its own namespace has it.
struct Seen {
    device: Device,
    offloads: Offloads,
}

/// The peer of a veth, or the device that a VLAN or a tunnel sends by.
pub fn remote(device: &Device, namespaces: &LazyCell<Namespaces>) -> Option<Remote> {
    let mut remote = unnamed(device, namespaces)?;
    remote.ifname = see(&remote).map(|seen| seen.device.name);
    Some(remote)
}

/// The other end of a pair.
pub fn peer(device: &Device, namespaces: &LazyCell<Namespaces>) -> Option<Peer> {
    let remote = unnamed(device, namespaces).filter(|_| device.is_pair())?;
    let seen = see(&remote);
    let there = seen.as_ref().map(|seen| &seen.device);
    let offloads = seen.as_ref().map(|seen| seen.offloads);
    let offloads = offloads.unwrap_or_default();
    Some(Peer {
        mac: there.and_then(|device| device.mac),
        mtu: there.map(|device| device.mtu),
        up: there.map(|device| device.up),
        gro: offloads.gro,
        tso: offloads.tso,
        tx_udp_segmentation: offloads.tx_udp_segmentation,
        native_program: there.map(|device| device.native_program),
        device: Remote {
            ifname: there.map(|device| device.name.clone()),
            ..remote
        },
    })
}

/// Switches GRO at the other end of a pair, in its namespace.
pub fn set_gro(remote: &Remote, on: bool) -> Result<()> {
    within(remote, || match device::by_index(remote.ifindex)? {
        Some(device) => Ethtool::open()?.set_gro(&device.name, on),
        None => bail!("the peer with ifindex {} is gone", remote.ifindex),
    })
}

/// Does work in the namespace where the device is.
pub fn within<T: Send>(remote: &Remote, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    match (&remote.netns, remote.nsid) {
        (Some(netns), _) => netns::within(&netns.path, work),
        (None, None) => work(),
        (None, Some(nsid)) => {
            bail!("network namespace {nsid} has neither a name nor a process here")
        }
    }
}

fn unnamed(device: &Device, namespaces: &LazyCell<Namespaces>) -> Option<Remote> {
    let netns = device.link_nsid.and_then(|nsid| namespaces.get(nsid));
    Some(Remote {
        ifindex: device.link?,
        ifname: None,
        nsid: device.link_nsid,
        netns: netns.cloned(),
    })
}

/// None where its namespace can't be entered, or it has gone meanwhile.
fn see(remote: &Remote) -> Option<Seen> {
    let look = || {
        let Some(device) = device::by_index(remote.ifindex)? else {
            return Ok(None);
        };
        let offloads = Ethtool::open()?.offloads(&device.name);
        Ok(Some(Seen { device, offloads }))
    };
    within(remote, look).ok().flatten()
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::mpsc;

    use nix::sched::{CloneFlags, unshare};
    use nix::unistd::gettid;

    use super::*;
    use crate::model::Netns;

    /// Enters a new namespace, and gives the work its device's peer in another new one.
    fn with_peer(work: impl FnOnce(Remote)) {
        let new_namespace = || unshare(CloneFlags::CLONE_NEWNET).expect("tests run as root");
        let (tell, told) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                new_namespace();
                tell.send(gettid()).expect("the test waits");
                let _ = ended.recv();
            });
            let thread = told.recv().expect("a namespace");
            new_namespace();
            let words = format!("link add v0 type veth peer name p0 netns {thread}");
            let made = Command::new("ip").args(words.split(' ')).status();
            assert!(made.expect("ip is there").success());

            let v0 = device::by_name("v0").expect("it was made");
            let mut remote = unnamed(&v0, &LazyCell::new(Namespaces::find)).expect("a peer");
            remote.netns = Some(Netns {
                path: format!("/proc/self/task/{thread}/ns/net").into(),
                name: None,
                pid: None,
                command: None,
            });
            work(remote);
            drop(end);
        });
    }

    #[test]
    fn gro_is_switched_where_the_peer_is() {
        with_peer(|remote| {
            let gro = || see(&remote).expect("it is there").offloads.gro;
            assert_eq!(gro(), Some(false));
            for on in [true, false] {
                set_gro(&remote, on).expect("a veth has GRO");
                assert_eq!(gro(), Some(on));
            }
            assert_eq!(Ethtool::open().unwrap().gro("v0"), Some(false));
        });
    }
}
