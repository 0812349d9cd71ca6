//! Drivers and offloads, as `ethtool -i` and `ethtool -k` have them.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::device_features;
use super::sys::{self, EthtoolValue};
use crate::model::Offloads;

/// Linux uapi: enum ethtool_flags in linux/ethtool.h.
const ETH_FLAG_TXVLAN: u32 = 1 << 7;
const ETH_FLAG_RXVLAN: u32 = 1 << 8;
const ETH_FLAG_LRO: u32 = 1 << 15;

/// Asks and sets in the network namespace in which it was opened.
pub struct Ethtool(OwnedFd);

#[derive(Clone, Debug, Default)]
pub struct Driver {
    pub name: Option<String>,
    pub bus: Option<String>,
}

impl Ethtool {
    pub fn open() -> Result<Self> {
        let (family, kind) = (AddressFamily::Inet, SockType::Datagram);
        let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, None);
        Ok(Ethtool(socket.context("cannot open a socket")?))
    }

    /// Nothing where the device knows no driver, as lo.
    pub fn driver(&self, device: &str) -> Driver {
        let Ok(info) = sys::ethtool_drvinfo(&self.0, device) else {
            return Driver::default();
        };
        Driver {
            name: text(&info.driver),
            // What the kernel says for bridges.
            bus: text(&info.bus_info).filter(|bus| bus != "N/A"),
        }
    }

    pub fn offloads(&self, device: &str) -> Offloads {
        let flags = self.get(device, EthtoolValue::GetFlags);
        let flag = |bit| flags.map(|flags| flags & bit != 0);
        Offloads {
            tx_checksum: self.tx_checksum(device),
            gro: self.gro(device),
            lro: flag(ETH_FLAG_LRO),
            tso: self.is_on(device, EthtoolValue::GetTso),
            gso: self.is_on(device, EthtoolValue::GetGso),
            tx_udp_segmentation: device_features::is_active(device, "tx-udp-segmentation"),
            rx_vlan: flag(ETH_FLAG_RXVLAN),
            tx_vlan: flag(ETH_FLAG_TXVLAN),
        }
    }

    pub fn tx_checksum(&self, device: &str) -> Option<bool> {
        self.is_on(device, EthtoolValue::GetTxChecksum)
    }

    pub fn gro(&self, device: &str) -> Option<bool> {
        self.is_on(device, EthtoolValue::GetGro)
    }

    pub fn set_gro(&self, device: &str, on: bool) -> Result<()> {
        sys::ethtool_value(&self.0, device, EthtoolValue::SetGro, on.into())
            .with_context(|| format!("{device}: cannot switch GRO"))?;
        Ok(())
    }

    fn is_on(&self, device: &str, value: EthtoolValue) -> Option<bool> {
        self.get(device, value).map(|value| value != 0)
    }

    /// None where the device doesn't know ethtool.
    fn get(&self, device: &str, value: EthtoolValue) -> Option<u32> {
        sys::ethtool_value(&self.0, device, value, 0).ok()
    }
}

/// None where it is empty.
fn text(bytes: &[u8]) -> Option<String> {
    let text = bytes.split(|&byte| byte == 0).next()?;
    Some(String::from_utf8_lossy(text).into_owned()).filter(|text| !text.is_empty())
}
