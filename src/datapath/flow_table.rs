//! The table of connections: see bpf/abi/connection.h. It is made when the first rule is published that
//! remembers connections, and stays as long as the maps.

use anyhow::{Context, Result};
use libbpf_rs::{MapHandle, MapType, libbpf_sys};

use super::bpffs::At;
use super::maps::{self, Map};
use super::{Pins, abi, banks, refusal};

/// 262,144 connections in 66 MiB.
const BANKS: u32 = 32;

/// Makes the table where there is none. The program uses it once the last write is done: a run that is killed
/// before leaves banks that the next one replaces.
pub fn require(pins: &Pins) -> Result<()> {
    let table: Map<u32, abi::flow_table> = Map::shared(pins, "flow_table")?;
    let now = table.get(&0)?.unwrap_or_default();
    if now.buckets != 0 {
        return Ok(());
    }
    put_banks::<abi::flow_tags>(pins, "flow_tags", abi::FLOW_BANK_BUCKETS)?;
    put_banks::<abi::flow_entry>(pins, "flow_entries", abi::FLOW_BANK_ENTRIES)?;
    let buckets = BANKS * abi::FLOW_BANK_BUCKETS;
    let made = abi::flow_table {
        bucket_mask: buckets - 1,
        buckets,
        first_port: abi::FIRST_PORT as u16,
        last_port: abi::LAST_PORT as u16,
        unused: 0,
    };
    table.put(&0, &made)
}

/// Makes banks of a kind, and puts all where the program looks them up. The map of maps keeps them alive.
fn put_banks<T: abi::Plain>(pins: &Pins, name: &'static str, size: u32) -> Result<()> {
    let flags = libbpf_sys::BPF_F_MMAPABLE;
    let make = |_| maps::create::<u32, T>(name, MapType::Array, size, flags);
    let made = (0..BANKS).map(make).collect::<libbpf_rs::Result<Vec<_>>>();
    let made = made.map_err(|error| refusal::of_map(name, error));
    let made = made.context("cannot make the table of connections")?;
    let path = pins.map(name);
    let outer = MapHandle::from_pinned_path(&path).at("cannot open", &path)?;
    banks::put_all(&outer, 0, &made)
}
