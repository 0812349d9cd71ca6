//! The frame that the generator sends.

use std::net::Ipv4Addr;

/// Bytes, without the frame check sequence.
pub const LEN: usize = 64;

const IP: usize = 14;
const UDP: usize = IP + 20;
const IP_LEN: u16 = (LEN - IP) as u16;
const UDP_LEN: u16 = (LEN - UDP) as u16;
const PROTOCOL: u8 = 17;
const DONT_FRAGMENT: u16 = 0x4000;

/// A UDP datagram of zeroes from source port 0, with valid checksums.
pub fn datagram(source: Ipv4Addr, destination: Ipv4Addr, port: u16) -> [u8; LEN] {
    let mut frame = [0; LEN];
    frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
    put(&mut frame, 12, 0x0800);

    put(&mut frame, IP, 0x4500);
    put(&mut frame, IP + 2, IP_LEN);
    put(&mut frame, IP + 6, DONT_FRAGMENT);
    frame[IP + 8] = 64;
    frame[IP + 9] = PROTOCOL;
    frame[IP + 12..IP + 16].copy_from_slice(&source.octets());
    frame[IP + 16..UDP].copy_from_slice(&destination.octets());
    let sum = checksum(&frame[IP..UDP], 0);
    put(&mut frame, IP + 10, sum);

    put(&mut frame, UDP + 2, port);
    put(&mut frame, UDP + 4, UDP_LEN);
    let pseudo_header = u32::from(PROTOCOL) + u32::from(UDP_LEN);
    let sum = checksum(&frame[IP + 12..], pseudo_header);
    put(&mut frame, UDP + 6, sum);
    frame
}

fn put(frame: &mut [u8], offset: usize, value: u16) {
    frame[offset..offset + 2].copy_from_slice(&value.to_be_bytes());
}

/// RFC 1071, over an even number of bytes.
fn checksum(bytes: &[u8], initial: u32) -> u16 {
    let (words, _) = bytes.as_chunks();
    let sum = |sum, &word| sum + u32::from(u16::from_be_bytes(word));
    let mut sum = words.iter().fold(initial, sum);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
