//! From which connections get source ports.

use anyhow::Result;

use super::{map, read};
use crate::datapath::{Lock, Pins, abi};
use crate::model::SourcePorts;

const _: () = {
    assert!(SourcePorts::DEFAULT.first as u32 == abi::FIRST_PORT);
    assert!(SourcePorts::DEFAULT.last as u32 == abi::LAST_PORT);
};

/// From which connections get a source port, if they get another one.
pub fn source_ports(pins: &Pins) -> Result<SourcePorts> {
    Ok(of(&read(pins)?))
}

/// Changes that at once; connections that stand keep theirs.
pub fn set_source_ports(pins: &Pins, _: &Lock, ports: SourcePorts) -> Result<()> {
    map(pins)?.put(&0, &with(read(pins)?, ports))
}

/// A table that has source ports: those that it had.
pub fn kept(table: abi::flow_table) -> abi::flow_table {
    with(table, of(&table))
}

/// Zero, before they are set.
fn of(table: &abi::flow_table) -> SourcePorts {
    match (table.first_port, table.last_port) {
        (0, _) => SourcePorts::DEFAULT,
        (first, last) => SourcePorts { first, last },
    }
}

fn with(table: abi::flow_table, ports: SourcePorts) -> abi::flow_table {
    abi::flow_table {
        first_port: ports.first,
        last_port: ports.last,
        ..table
    }
}
