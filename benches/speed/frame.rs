//! The frames that the benchmark sends.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Bytes of the shortest frame, without the frame check sequence. All headers are within them, and
/// ../frames.h writes these bytes again for each frame.
pub const SHORTEST: usize = 64;

const MACS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
const DONT_FRAGMENT: u16 = 0x4000;
const ACK: u8 = 0x10;

#[derive(Clone, Copy)]
pub enum Addresses {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

#[derive(Clone, Copy, PartialEq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// What a frame is made of. Its payload is zeroes.
#[derive(Clone, Copy)]
pub struct Frame {
    /// Source and destination.
    pub addresses: Addresses,
    pub transport: Transport,
    pub vlan: Option<u16>,
    /// Bytes.
    pub length: usize,
    /// The transport's checksum covers the pseudo header only, as of a sender that leaves the rest to
    /// its device.
    pub partial: bool,
}

/// A frame from port 0 to port 0.
pub struct Layout {
    pub bytes: Vec<u8>,
    /// Offsets of the ports and of the transport's checksum.
    pub ports_at: usize,
    pub check_at: usize,
}

impl Layout {
    /// The frame with these ports, as they lie in it. Its checksum is complete.
    pub fn with_ports(self, ports: u32) -> Vec<u8> {
        let Self {
            mut bytes,
            ports_at,
            check_at,
        } = self;
        let ports = ports.to_ne_bytes();
        let check = u16::from_be_bytes([bytes[check_at], bytes[check_at + 1]]);
        put(&mut bytes, check_at, !sum(&ports, u32::from(!check)));
        bytes[ports_at..ports_at + ports.len()].copy_from_slice(&ports);
        bytes
    }
}

impl Frame {
    pub fn layout(&self) -> Layout {
        let mut bytes = MACS.to_vec();
        if let Some(vlan) = self.vlan {
            bytes.extend([0x8100, vlan].map(u16::to_be_bytes).as_flattened());
        }
        let pseudo_header = match self.addresses {
            Addresses::V4(source, destination) => {
                self.put_v4(&mut bytes, source, destination);
                [source, destination].map(|a| a.octets()).concat()
            }
            Addresses::V6(source, destination) => {
                self.put_v6(&mut bytes, source, destination);
                [source, destination].map(|a| a.octets()).concat()
            }
        };
        let ports_at = bytes.len();
        let check_at = ports_at + self.put_transport(&mut bytes);
        let length = (self.length - ports_at) as u32;
        bytes.resize(self.length, 0);

        let pseudo = sum(
            &pseudo_header,
            u32::from(self.transport.protocol()) + length,
        );
        let check = match self.partial {
            true => pseudo,
            false => !sum(&bytes[ports_at..], u32::from(pseudo)),
        };
        put(&mut bytes, check_at, check);
        Layout {
            bytes,
            ports_at,
            check_at,
        }
    }

    fn put_v4(&self, bytes: &mut Vec<u8>, source: Ipv4Addr, destination: Ipv4Addr) {
        bytes.extend([8, 0]);
        let ip = bytes.len();
        let mut header = [0; 20];
        header[0] = 0x45;
        put(&mut header, 2, (self.length - ip) as u16);
        put(&mut header, 6, DONT_FRAGMENT);
        header[8] = 64;
        header[9] = self.transport.protocol();
        header[12..16].copy_from_slice(&source.octets());
        header[16..].copy_from_slice(&destination.octets());
        let check = !sum(&header, 0);
        put(&mut header, 10, check);
        bytes.extend(header);
    }

    fn put_v6(&self, bytes: &mut Vec<u8>, source: Ipv6Addr, destination: Ipv6Addr) {
        bytes.extend([0x86, 0xdd]);
        let payload = (self.length - bytes.len() - 40) as u16;
        bytes.extend([0x60, 0, 0, 0]);
        bytes.extend(payload.to_be_bytes());
        bytes.extend([self.transport.protocol(), 64]);
        bytes.extend([source, destination].map(|a| a.octets()).concat());
    }

    /// Returns where the checksum is in the header.
    fn put_transport(&self, bytes: &mut Vec<u8>) -> usize {
        let length = (self.length - bytes.len()) as u16;
        match self.transport {
            Transport::Udp => {
                let mut header = [0; 8];
                put(&mut header, 4, length);
                bytes.extend(header);
                6
            }
            Transport::Tcp => {
                let mut header = [0; 20];
                header[12] = 5 << 4;
                header[13] = ACK;
                bytes.extend(header);
                16
            }
        }
    }
}

impl Transport {
    fn protocol(self) -> u8 {
        match self {
            Self::Udp => 17,
            Self::Tcp => 6,
        }
    }
}

fn put(bytes: &mut [u8], offset: usize, value: u16) {
    bytes[offset..offset + 2].copy_from_slice(&value.to_be_bytes());
}

/// RFC 1071, over an even number of bytes, and not yet inverted.
fn sum(bytes: &[u8], initial: u32) -> u16 {
    let (words, _) = bytes.as_chunks();
    let add = |sum, &word| sum + u32::from(u16::from_be_bytes(word));
    let mut sum = words.iter().fold(initial, add);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
