//! The device at the other end of a link, in whatever network namespace it is.

use std::cell::LazyCell;

use anyhow::{Result, bail};

use super::device::{self, Device};
use super::ethtool::Ethtool;
use super::namespaces::Namespaces;
use super::netns;
use crate::model::{Offloads, Peer, Remote};

/// The peer of a veth, or the device that a VLAN or a tunnel sends by.
pub fn remote(device: &Device, namespaces: &LazyCell<Namespaces>) -> Option<Remote> {
    let mut remote = unnamed(device, namespaces)?;
    remote.ifname = see(&remote).map(|(device, _)| device.name);
    Some(remote)
}

/// The other end of a pair.
pub fn peer(device: &Device, namespaces: &LazyCell<Namespaces>) -> Option<Peer> {
    let remote = unnamed(device, namespaces).filter(|_| device.is_pair())?;
    let Some((there, offloads)) = see(&remote) else {
        return Some(Peer {
            device: remote,
            ..Peer::default()
        });
    };
    Some(Peer {
        mac: there.mac,
        mtu: Some(there.mtu),
        up: Some(there.up),
        gro: offloads.gro,
        tso: offloads.tso,
        tx_udp_segmentation: offloads.tx_udp_segmentation,
        native_program: Some(there.native_program),
        device: Remote {
            ifname: Some(there.name),
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

/// A device as its own namespace has it. None where its namespace can't be entered, or it has gone
/// meanwhile.
fn see(remote: &Remote) -> Option<(Device, Offloads)> {
    let look = || {
        let Some(device) = device::by_index(remote.ifindex)? else {
            return Ok(None);
        };
        let offloads = Ethtool::open()?.offloads(&device.name);
        Ok(Some((device, offloads)))
    };
    within(remote, look).ok().flatten()
}
