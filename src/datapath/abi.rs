//! What the headers in `bpf/abi/` define, in Rust, and its values to and from bytes.

#![expect(
    unsafe_code,
    reason = "values to and from the bytes of maps, and the generated skeletons"
)]

use std::ffi::c_char;

use anyhow::{Result, ensure};

#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    non_camel_case_types,
    unused
)]
mod generated {
    pub mod skel {
        include!(concat!(env!("OUT_DIR"), "/xdpredir.skel.rs"));
    }

    pub mod ledger {
        include!(concat!(env!("OUT_DIR"), "/ledger.skel.rs"));
    }

    pub mod pass {
        include!(concat!(env!("OUT_DIR"), "/pass.skel.rs"));
    }
}

use generated::{ledger, skel};

#[allow(dead_code)]
mod limits {
    include!(concat!(env!("OUT_DIR"), "/limits.rs"));
}

pub use generated::pass::PassSkelBuilder;
pub use ledger::types::failure_key;
pub use ledger::{LedgerSkel, LedgerSkelBuilder};
pub use limits::*;
pub use skel::types::{
    backend, counter, counter_bitmap, first_fragment, flow_key, interface, locator, maglev_chunk,
    policy, prefix_lengths, rule, rule_key, service_key, set_key,
};
pub use skel::{OpenXdpredirSkel, XdpredirSkelBuilder};

// The lowest byte of a set's number counts its backends, and `u8` indexes them in Maglev tables.
const _: () = assert!(MAX_RULE_BACKENDS as usize == crate::model::MAX_BACKENDS);

/// # Safety
/// Any bytes are a value of the type, and it has no padding (the ABI header asserts its size).
pub unsafe trait Plain: Copy {}

/// Types of the ABI with their sizes in the header: bindings that have padding don't compile.
macro_rules! plain {
    ($($name:ident = $size:expr;)*) => {
        $(
            const _: () = assert!(size_of::<$name>() == $size as usize);
            // SAFETY: integers and arrays of integers, which fill the size that the header asserts.
            unsafe impl Plain for $name {}
        )*
    };
}

plain! {
    u8 = 1;
    u32 = 4;
    u64 = 8;
    backend = 64;
    counter = 16;
    counter_bitmap = BITMAP_BYTES;
    failure_key = 8;
    first_fragment = 72;
    flow_key = 40;
    interface = 36;
    locator = LOCATOR_LEN;
    maglev_chunk = MAGLEV_CHUNK;
    policy = 8;
    prefix_lengths = 24;
    rule = 48;
    rule_key = 24;
    service_key = 8;
    set_key = 8;
}

// SAFETY: there is no padding between the elements of an array.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

pub fn zero<T: Plain>() -> T {
    // SAFETY: any bytes are a value.
    unsafe { std::mem::zeroed() }
}

pub fn bytes_of<T: Plain>(value: &T) -> &[u8] {
    // SAFETY: a Plain value has no padding, so each of its bytes is initialised.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

pub fn bytes_of_mut<T: Plain>(value: &mut T) -> &mut [u8] {
    // SAFETY: as above, and any bytes are a value.
    unsafe { std::slice::from_raw_parts_mut(std::ptr::from_mut(value).cast(), size_of::<T>()) }
}

/// Writes a text, as much of it as has room before a terminating zero.
pub fn put_text(chars: &mut [c_char], text: &str) {
    if let Some((_, room)) = chars.split_last_mut() {
        let pairs = room.iter_mut().zip(text.bytes());
        pairs.for_each(|(to, from)| *to = from as c_char);
    }
}

/// The bytes before the terminating zero.
pub fn text_of(chars: &[c_char]) -> Vec<u8> {
    let bytes = chars.iter().map(|&c| c as u8);
    bytes.take_while(|&byte| byte != 0).collect()
}

pub fn from_bytes<T: Plain>(bytes: &[u8]) -> Result<T> {
    ensure!(
        bytes.len() == size_of::<T>(),
        "a map's value has an unexpected size"
    );
    // SAFETY: the size is checked, any bytes are a value, and the read needs no alignment.
    Ok(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}
