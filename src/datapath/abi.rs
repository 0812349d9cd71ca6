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

    pub mod tc {
        include!(concat!(env!("OUT_DIR"), "/xdpredir_tc.skel.rs"));
    }

    pub mod capture {
        include!(concat!(env!("OUT_DIR"), "/xdpredir_capture.skel.rs"));
    }

    pub mod capture_tc {
        include!(concat!(env!("OUT_DIR"), "/xdpredir_capture_tc.skel.rs"));
    }

    pub mod ledger {
        include!(concat!(env!("OUT_DIR"), "/ledger.skel.rs"));
    }

    pub mod ledger_tc {
        include!(concat!(env!("OUT_DIR"), "/ledger_tc.skel.rs"));
    }

    pub mod lost {
        include!(concat!(env!("OUT_DIR"), "/lost.skel.rs"));
    }

    pub mod lost_tc {
        include!(concat!(env!("OUT_DIR"), "/lost_tc.skel.rs"));
    }

    pub mod dump {
        include!(concat!(env!("OUT_DIR"), "/dump.skel.rs"));
    }

    pub mod xdpredir_dump {
        include!(concat!(env!("OUT_DIR"), "/xdpredir_dump.skel.rs"));
    }

    pub mod pass {
        include!(concat!(env!("OUT_DIR"), "/pass.skel.rs"));
    }

    pub mod chain {
        include!(concat!(env!("OUT_DIR"), "/chain.skel.rs"));
    }
}

use generated::skel;

#[allow(dead_code)]
mod limits {
    include!(concat!(env!("OUT_DIR"), "/limits.rs"));
}

pub use generated::capture::XdpredirCaptureSkelBuilder;
pub use generated::capture::types::{capture, captured, ledger, sighting, view, wanted};
pub use generated::capture_tc::XdpredirCaptureTcSkelBuilder;
pub use generated::capture_tc::types::labelled;
pub use generated::chain::ChainSkelBuilder;
pub use generated::chain::types::{chain, chain_counters, chain_program};
pub use generated::dump::DumpSkelBuilder;
pub use generated::dump::types::taking;
pub use generated::ledger::types::failure_key;
pub use generated::ledger::{LedgerSkel, LedgerSkelBuilder};
pub use generated::ledger_tc::{LedgerTcSkel, LedgerTcSkelBuilder};
pub use generated::lost::{LostSkel, LostSkelBuilder};
pub use generated::lost_tc::{LostTcSkel, LostTcSkelBuilder};
pub use generated::pass::PassSkelBuilder;
pub use generated::tc::XdpredirTcSkelBuilder;
pub use generated::xdpredir_dump::XdpredirDumpSkelBuilder;
pub use limits::*;
pub use skel::XdpredirSkelBuilder;
pub use skel::types::{
    action, bitmap, counter, first_fragment, flow_key, flow_table, interface, locator, place,
    policy, port_lines, probe, probe_count, ruleset, shown,
};

/// Where the XDP program has its own id among its variables.
pub const PROGRAM_ID: usize = std::mem::offset_of!(skel::types::bss, program_id);

/// What lines and banks have, which no map's type says: see bpf/abi/rule.h, action.h, ruleset.h and connection.h.
#[allow(non_camel_case_types)]
mod lines {
    use super::{BUCKET_ENTRIES, FLOW_WAYS, LINE_PROBES, flow_key, place, probe};

    /// Any line.
    pub type line = [u64; 8];

    #[derive(Clone, Copy, Default)]
    #[repr(C)]
    pub struct flow_tags {
        pub tag: [u32; FLOW_WAYS as usize],
    }

    #[derive(Clone, Copy, Default)]
    #[repr(C)]
    pub struct flow_entry {
        pub id: u64,
        pub key: flow_key,
        pub line: u32,
        pub revision: u32,
        pub peer: u32,
        pub state: u8,
        pub way: u8,
        pub port: u16,
        pub packets: u64,
        pub bytes: u64,
        pub seen: u32,
        pub tick: u32,
        pub frame: [u8; 12],
        pub vlan: u16,
        pub flags: u16,
        pub ifindex: u32,
        pub counter: u32,
        pub request_addrs: u64,
        pub request_ports: u32,
        pub unused: u32,
    }

    #[derive(Clone, Copy, Default)]
    #[repr(C)]
    pub struct rule4 {
        pub probe: probe,
        pub place: place,
        pub src: u32,
        pub dst: u32,
        pub target: u32,
        pub counter: u32,
    }

    #[derive(Clone, Copy, Default)]
    #[repr(C)]
    pub struct rule6 {
        pub probe: probe,
        pub place: place,
        pub src: [u32; 4],
        pub dst: [u32; 4],
        pub target: u32,
        pub counter: u32,
        pub unused: [u32; 2],
    }

    #[derive(Clone, Copy, Default)]
    #[repr(C)]
    pub struct set {
        pub kind: u8,
        pub hash: u8,
        pub size: u16,
        pub members: u32,
        pub maglev: u32,
        pub unused: [u32; 13],
    }

    #[derive(Clone, Copy, Default)]
    #[repr(C)]
    pub struct service {
        pub kind: u8,
        pub zero: u8,
        pub count: u16,
        pub next: u32,
        pub unused: [u32; 2],
        pub probe: [probe; LINE_PROBES as usize],
    }

    #[derive(Clone, Copy, Default)]
    #[repr(C)]
    pub struct only_rule {
        pub kind: u8,
        pub hash: u8,
        pub size: u16,
        pub target: u32,
        pub maglev: u32,
        pub counter: u32,
        pub place: place,
        pub probe: probe,
        pub rule: u32,
        pub unused: u32,
        pub addr: [u32; 4],
        pub unused2: [u32; 2],
    }

    #[derive(Clone, Copy, Default)]
    #[repr(C)]
    pub struct entry {
        pub tag: u32,
        pub rule: u32,
    }

    #[derive(Clone, Copy, Default)]
    #[repr(C)]
    pub struct bucket {
        pub chained: u32,
        pub unused: u32,
        pub entry: [entry; BUCKET_ENTRIES as usize],
    }
}

pub use lines::*;

// `u8` indexes the backends of a rule in Maglev tables.
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
    action = 64;
    capture = 32;
    bitmap = BITMAP_BYTES;
    bucket = 64;
    chain = 8200;
    chain_counters = 48;
    chain_program = 256;
    counter = 16;
    entry = 8;
    failure_key = 8;
    first_fragment = 72;
    flow_entry = 128;
    flow_key = 40;
    flow_table = 16;
    flow_tags = 64;
    interface = 128;
    locator = LOCATOR_LEN;
    only_rule = 64;
    place = 8;
    policy = 8;
    port_lines = 64;
    probe = 8;
    probe_count = 16;
    rule4 = 32;
    rule6 = 64;
    ruleset = 128;
    service = 64;
    set = 64;
    shown = 20;
    sighting = 64;
    taking = 16;
    wanted = 80;
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
