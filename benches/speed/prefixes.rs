//! Numbered prefixes, as in ../prefixes.h: no two of a kind are the same, their lengths in turn.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// Longest first.
pub const LENGTHS: [u32; 8] = [32, 30, 28, 26, 24, 22, 20, 18];
pub const LENGTHS_V6: [u8; 8] = [128, 96, 80, 64, 56, 48, 40, 32];

/// Odd: no two multiples are the same in any number of low bits.
const STEP: u32 = 0x9e37_79b1;

pub fn v4(number: u32) -> Ipv4Net {
    let count = LENGTHS.len() as u32;
    let length = LENGTHS[(number % count) as usize];
    let multiple = u64::from(number / count) * u64::from(STEP);
    let network = Ipv4Addr::from((multiple << (32 - length)) as u32);
    Ipv4Net::new_assert(network, length as u8)
}

/// In 2000::/3.
pub fn v6(number: u32) -> Ipv6Net {
    let count = LENGTHS_V6.len() as u32;
    let length = LENGTHS_V6[(number % count) as usize];
    let head = 0x2000_0000 | (number / count).wrapping_mul(STEP) & 0x1fff_ffff;
    Ipv6Net::new_assert(Ipv6Addr::from(u128::from(head) << 96), length)
}
