//! Generic netlink: families of messages that the kernel knows by name.

use anyhow::Result;
use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable,
    NlasIterator, parse_u16,
};
use netlink_sys::protocols::NETLINK_GENERIC;
use nix::libc;

use super::netlink;

/// Linux uapi: linux/genetlink.h.
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
/// struct genlmsghdr: command, version, two bytes reserved.
const HEADER: usize = 4;

/// A message of a family.
pub struct Message {
    /// The number that this kernel has given to the family.
    pub family: u16,
    /// What the message is about, by the family's own numbers.
    pub command: u8,
    /// Kinds and values.
    pub attributes: Vec<(u16, Vec<u8>)>,
}

impl Message {
    /// The value of the first attribute of this kind.
    pub fn attribute(&self, wanted: u16) -> Option<&[u8]> {
        netlink::attribute(&self.attributes, wanted)
    }

    fn nlas(&self) -> Vec<DefaultNla> {
        let nla = |(kind, value): &(u16, Vec<u8>)| DefaultNla::new(*kind, value.clone());
        self.attributes.iter().map(nla).collect()
    }
}

/// What a family answers to a command; None where the kernel has no such family.
pub fn get(family: &str, command: u8, attributes: Vec<(u16, Vec<u8>)>) -> Result<Option<Message>> {
    match request(family, command, attributes)? {
        Some(request) => netlink::get(request),
        None => Ok(None),
    }
}

/// All that a family answers to a command; None where the kernel has no such family.
pub fn dump(family: &str, command: u8) -> Result<Option<Vec<Message>>> {
    let request = request(family, command, Vec::new())?;
    request.map(netlink::dump).transpose()
}

fn request(name: &str, command: u8, attributes: Vec<(u16, Vec<u8>)>) -> Result<Option<Message>> {
    Ok(family(name)?.map(|family| Message {
        family,
        command,
        attributes,
    }))
}

/// The number of a family; None where the kernel has no such family.
pub fn family(name: &str) -> Result<Option<u16>> {
    let name = [name.as_bytes(), &[0]].concat();
    let request = Message {
        family: GENL_ID_CTRL,
        command: CTRL_CMD_GETFAMILY,
        attributes: vec![(CTRL_ATTR_FAMILY_NAME, name)],
    };
    match netlink::get(request) {
        Ok(answer) => Ok(answer
            .as_ref()
            .and_then(|answer| answer.attribute(CTRL_ATTR_FAMILY_ID))
            .and_then(|id| parse_u16(id).ok())),
        Err(error) if netlink::errno(&error) == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

impl netlink::Message for Message {
    const PROTOCOL: isize = NETLINK_GENERIC;
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        self.family
    }

    fn buffer_len(&self) -> usize {
        HEADER + self.nlas().as_slice().buffer_len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let version = 1;
        buffer[..HEADER].copy_from_slice(&[self.command, version, 0, 0]);
        self.nlas().as_slice().emit(&mut buffer[HEADER..]);
    }
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let attributes = NlasIterator::new(payload.get(HEADER..).unwrap_or_default())
            .map(|nla| nla.map(|nla| (nla.kind(), nla.value().to_vec())))
            .collect::<Result<_, _>>()?;
        Ok(Message {
            family: header.message_type,
            command: payload.first().copied().unwrap_or_default(),
            attributes,
        })
    }
}
