//! Features of devices that the kernel has under names alone, as `ethtool -k` shows them.

use anyhow::Result;
use netlink_packet_core::{DecodeError, NLA_F_NESTED, NLA_HEADER_SIZE, NlasIterator};

use super::genetlink;

/// Linux uapi: linux/ethtool_netlink.h, since 5.6.
const FAMILY: &str = "ethtool";
const ETHTOOL_MSG_FEATURES_GET: u8 = 11;
const ETHTOOL_A_FEATURES_HEADER: u16 = 1;
const ETHTOOL_A_FEATURES_ACTIVE: u16 = 4;
const ETHTOOL_A_HEADER_DEV_NAME: u16 = 2;
const ETHTOOL_A_BITSET_BITS: u16 = 3;
const ETHTOOL_A_BITSET_BITS_BIT: u16 = 1;
const ETHTOOL_A_BITSET_BIT_NAME: u16 = 2;

/// Whether a device has a feature on; None where the kernel doesn't tell.
pub fn is_active(device: &str, feature: &str) -> Option<bool> {
    let active = active(device).ok().flatten()?;
    Some(active.iter().any(|name| name == feature))
}

/// The names of all that are on.
fn active(device: &str) -> Result<Option<Vec<String>>> {
    let header = (
        ETHTOOL_A_FEATURES_HEADER | NLA_F_NESTED,
        attribute(ETHTOOL_A_HEADER_DEV_NAME, device),
    );
    let answer = genetlink::get(FAMILY, ETHTOOL_MSG_FEATURES_GET, vec![header])?;
    let active = answer.as_ref();
    let Some(active) = active.and_then(|answer| answer.attribute(ETHTOOL_A_FEATURES_ACTIVE)) else {
        return Ok(None);
    };
    let mut names = Vec::new();
    for bits in nested(active, ETHTOOL_A_BITSET_BITS)? {
        for bit in nested(bits, ETHTOOL_A_BITSET_BITS_BIT)? {
            let name = nested(bit, ETHTOOL_A_BITSET_BIT_NAME)?;
            names.extend(name.into_iter().map(text));
        }
    }
    Ok(Some(names))
}

/// One attribute with a name and its terminating zero, padded to four bytes.
fn attribute(kind: u16, name: &str) -> Vec<u8> {
    let length = 4 + name.len() + 1;
    let mut bytes = (length as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(name.as_bytes());
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
