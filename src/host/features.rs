//! What the devices of this namespace can do, and what they belong to.

use std::cell::LazyCell;
use std::collections::HashMap;

use anyhow::Result;
use netlink_packet_route::link::InfoKind;

use super::device::{self, Device};
use super::ethtool::Ethtool;
use super::namespaces::Namespaces;
use super::{peer, xdp, xdp_features_fallback};
use crate::model::{Features, Related, XdpFeatures};

/// All devices at one moment.
pub struct Survey {
    devices: Vec<Device>,
    /// None where this kernel doesn't tell.
    xdp: Option<HashMap<u32, XdpFeatures>>,
    ethtool: Ethtool,
    namespaces: LazyCell<Namespaces>,
}

impl Survey {
    pub fn take() -> Result<Self> {
        Ok(Survey {
            devices: device::all()?,
            xdp: xdp::all()?,
            ethtool: Ethtool::open()?,
            namespaces: LazyCell::new(Namespaces::find),
        })
    }

    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// Whether the kernel tells what drivers can do with XDP.
    pub fn is_reported(&self) -> bool {
        self.xdp.is_some()
    }

    pub fn features(&self, device: &Device) -> Features {
        let driver = self.ethtool.driver(&device.name);
        let peer = peer::peer(device, &self.namespaces);
        let xdp = self
            .xdp
            .as_ref()
            .and_then(|all| all.get(&device.ifindex).copied())
            .unwrap_or_else(|| xdp_features_fallback::xdp(device, &driver, peer.as_ref()));
        Features {
            ifname: device.name.clone(),
            ifindex: device.ifindex,
            kind: kind(device),
            driver: driver.name,
            bus: driver.bus,
            mac: device.mac,
            mtu: device.mtu,
            up: device.up,
            xdp,
            tc: None, // filled in by who knows the kernel's hooks
            offloads: self.ethtool.offloads(&device.name),
            master: self.master(device),
            ports: self.related(|other| other.master == Some(device.ifindex)),
            vlan: device.vlan,
            vnet_header: device.vnet_header,
            lower: Some(device)
                .filter(|device| !device.is_pair())
                .and_then(|device| peer::remote(device, &self.namespaces)),
            upper: self.related(|other| sends_by(other, device)),
            peer,
        }
    }

    fn master(&self, device: &Device) -> Option<Related> {
        let master = device.master?;
        let mut found = self.related(|other| other.ifindex == master);
        found.pop()
    }

    fn related(&self, is_related: impl Fn(&Device) -> bool) -> Vec<Related> {
        let related = |other: &Device| Related {
            ifname: other.name.clone(),
            ifindex: other.ifindex,
            kind: kind(other),
        };
        let found = self.devices.iter().filter(|other| is_related(other));
        found.map(related).collect()
    }
}

/// What a device's driver can do, as the kernel tells it, or as it is guessed without a look at a peer.
pub fn xdp_of(device: &Device) -> Result<XdpFeatures> {
    if let Some(reported) = xdp::of(device.ifindex)? {
        return Ok(reported);
    }
    let driver = Ethtool::open()?.driver(&device.name);
    Ok(xdp_features_fallback::xdp(device, &driver, None))
}

fn kind(device: &Device) -> Option<String> {
    device.kind.as_ref().map(InfoKind::to_string)
}

/// Whether a VLAN or a tunnel stands on the device.
fn sends_by(upper: &Device, device: &Device) -> bool {
    upper.link == Some(device.ifindex) && upper.link_nsid.is_none() && !upper.is_pair()
}
