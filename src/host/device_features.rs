//! Features of devices that the kernel has under names alone, as `ethtool -k` shows them.

use anyhow::Result;
use netlink_packet_core::{DecodeError, NLA_F_NESTED, NLA_HEADER_SIZE, NlasIterator};

use super::genetlink;

/// Linux uapi: linux/ethtool_netlink.h, since 5.6.
pub(super) const FAMILY: &str = "ethtool";
const ETHTOOL_MSG_FEATURES_GET: u8 = 11;
const ETHTOOL_A_FEATURES_HEADER: u16 = 1;
const ETHTOOL_A_FEATURES_HW: u16 = 2;
const ETHTOOL_A_FEATURES_ACTIVE: u16 = 4;
const ETHTOOL_A_HEADER_DEV_NAME: u16 = 2;
const ETHTOOL_A_BITSET_BITS: u16 = 3;
const ETHTOOL_A_BITSET_BITS_BIT: u16 = 1;
const ETHTOOL_A_BITSET_BIT_NAME: u16 = 2;

/// Whether a device has a feature on; None where the kernel doesn't tell.
pub fn is_active(device: &str, feature: &str) -> Option<bool> {
    has(device, ETHTOOL_A_FEATURES_ACTIVE, feature)
}

/// Whether a feature of a device can be switched; None where the kernel doesn't tell.
pub fn can_be_switched(device: &str, feature: &str) -> Option<bool> {
    has(device, ETHTOOL_A_FEATURES_HW, feature)
}

fn has(device: &str, set: u16, feature: &str) -> Option<bool> {
    let names = names(device, set).ok().flatten()?;
    Some(names.iter().any(|name| name == feature))
}

/// The names in a set of features.
fn names(device: &str, set: u16) -> Result<Option<Vec<String>>> {
    let header = (ETHTOOL_A_FEATURES_HEADER | NLA_F_NESTED, header(device));
    let answer = genetlink::get(FAMILY, ETHTOOL_MSG_FEATURES_GET, vec![header])?;
    let set = answer.as_ref().and_then(|answer| answer.attribute(set));
    let Some(set) = set else {
        return Ok(None);
    };
    let mut names = Vec::new();
    for bits in nested(set, ETHTOOL_A_BITSET_BITS)? {
        for bit in nested(bits, ETHTOOL_A_BITSET_BITS_BIT)? {
            let name = nested(bit, ETHTOOL_A_BITSET_BIT_NAME)?;
            names.extend(name.into_iter().map(text));
        }
    }
    Ok(Some(names))
}

/// What names a device in a request: one attribute with a terminating zero, padded to four bytes.
pub(super) fn header(device: &str) -> Vec<u8> {
    let length = 4 + device.len() + 1;
    let mut bytes = (length as u16).to_ne_bytes().to_vec();
    bytes.extend(ETHTOOL_A_HEADER_DEV_NAME.to_ne_bytes());
    bytes.extend(device.as_bytes());
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

/// The values of the attributes of a kind.
fn nested(bytes: &[u8], kind: u16) -> Result<Vec<&[u8]>, DecodeError> {
    let mut found = Vec::new();
    for nla in NlasIterator::new(bytes) {
        let nla = nla?;
        if nla.kind() == kind {
            let length = nla.length().into();
            found.push(&nla.into_inner()[NLA_HEADER_SIZE..length]);
        }
    }
    Ok(found)
}

fn text(bytes: &[u8]) -> String {
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    String::from_utf8_lossy(bytes).into_owned()
}
