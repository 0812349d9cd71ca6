//! What `bpf/xdpredir.h` defines, in Rust, and its values to and from bytes.

use anyhow::{Result, ensure};

#[allow(clippy::all, clippy::pedantic, dead_code, non_camel_case_types, unused)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/xdpredir.skel.rs"));
}

#[allow(clippy::all, clippy::pedantic, dead_code, non_camel_case_types, unused)]
mod ledger {
    include!(concat!(env!("OUT_DIR"), "/ledger.skel.rs"));
}

#[allow(dead_code)]
mod limits {
    include!(concat!(env!("OUT_DIR"), "/limits.rs"));
}

pub use ledger::types::failure_key;
pub use ledger::{LedgerSkel, LedgerSkelBuilder};
pub use limits::*;
pub use skel::XdpredirSkelBuilder;
pub use skel::types::{
    backend, bank, counter, flow_key, fragmented, interface, maglev_chunk, origin, rule, rule_key,
    ruleset, service, service_key, set_key,
};

/// # Safety
/// Any bytes are a value of the type, and it has no padding (the ABI header asserts its size).
pub unsafe trait Plain: Copy {}

// SAFETY: all are structs of integers and arrays of integers, without padding.
unsafe impl Plain for backend {}
// SAFETY: as above.
unsafe impl Plain for bank {}
// SAFETY: as above.
unsafe impl Plain for counter {}
// SAFETY: as above.
unsafe impl Plain for flow_key {}
// SAFETY: as above.
unsafe impl Plain for fragmented {}
// SAFETY: as above.
unsafe impl Plain for interface {}
// SAFETY: as above.
unsafe impl Plain for maglev_chunk {}
// SAFETY: as above.
unsafe impl Plain for origin {}
// SAFETY: as above.
unsafe impl Plain for rule {}
// SAFETY: as above.
unsafe impl Plain for rule_key {}
// SAFETY: as above.
unsafe impl Plain for ruleset {}
// SAFETY: as above.
unsafe impl Plain for service {}
// SAFETY: as above.
unsafe impl Plain for service_key {}
// SAFETY: as above.
unsafe impl Plain for set_key {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for u64 {}
// SAFETY: as above.
unsafe impl Plain for failure_key {}
// SAFETY: bytes are bytes.
unsafe impl<const N: usize> Plain for [u8; N] {}

pub fn bytes_of<T: Plain>(value: &T) -> &[u8] {
    // SAFETY: a Plain value has no padding, so each of its bytes is initialised.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

pub fn bytes_of_mut<T: Plain>(value: &mut T) -> &mut [u8] {
    // SAFETY: as above, and any bytes are a value.
    unsafe { std::slice::from_raw_parts_mut(std::ptr::from_mut(value).cast(), size_of::<T>()) }
}

pub fn from_bytes<T: Plain>(bytes: &[u8]) -> Result<T> {
    ensure!(
        bytes.len() == size_of::<T>(),
        "a map's value has an unexpected size"
    );
    // SAFETY: the size is checked, any bytes are a value, and the read needs no alignment.
    Ok(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}
