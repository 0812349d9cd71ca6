//! Lists, counts and ends connections.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use anyhow::Result;

use super::error::Error;
use super::selector::interface_or_index;
use crate::datapath::{self, FlowTable, Lock, Pins};
use crate::error::Failure;
use crate::host::device;
use crate::model::{Connection, ConnectionFilter, ConnectionState, Ports, Prefix, Proto, VlanId};

/// Which connections are meant: those that have all that is given; all of them where nothing is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowSelector {
    /// Contains the address that was asked.
    pub dst: Option<Prefix>,
    /// Contains the client's address.
    pub src: Option<Prefix>,
    pub proto: Option<Proto>,
    /// Contain the port that was asked.
    pub ports: Option<Ports>,
    pub vlan: Option<VlanId>,
    /// The interface where requests arrive; one that is gone is named by its index.
    pub ingress: Option<String>,
    pub server: Option<IpAddr>,
}

impl FlowSelector {
    fn filter(&self) -> Result<ConnectionFilter> {
        let ingress = self.ingress.as_deref().map(interface_or_index);
        Ok(ConnectionFilter {
            dst: self.dst,
            src: self.src,
            proto: self.proto,
            ports: self.ports,
            vlan: self.vlan,
            in_ifindex: ingress.transpose()?,
            server: self.server,
        })
    }
}

/// Connections that are selected.
pub struct Flows {
    filter: ConnectionFilter,
    /// None: no rule has remembered any so far.
    table: Option<FlowTable>,
}

impl Flows {
    /// Finds the connections.
    pub fn open(pins: &Pins, selector: &FlowSelector) -> Result<Self> {
        let filter = selector.filter()?;
        let table = datapath::read(pins, || FlowTable::open(pins))?;
        let table = table.ok_or_else(|| datapath::not_attached(pins))?;
        Ok(Flows { filter, table })
    }

    /// The connections, with the names of their interfaces, in no order.
    pub fn iter(&self) -> impl Iterator<Item = Connection> {
        let mut names = HashMap::new();
        self.unnamed().map(move |mut connection| {
            let ifindex = connection.in_ifindex;
            let name = names.entry(ifindex);
            connection.ingress = name.or_insert_with(|| device::name_of(ifindex)).clone();
            connection
        })
    }

    /// How many there are in each state.
    pub fn count(&self) -> BTreeMap<ConnectionState, u64> {
        let none = ConnectionState::ALL.map(|state| (state, 0));
        let mut counted = BTreeMap::from(none);
        let mut count = |state| *counted.entry(state).or_default() += 1;
        match &self.table {
            Some(table) if self.filter == ConnectionFilter::default() => {
                table.states().for_each(count);
            }
            _ => self
                .unnamed()
                .for_each(|connection| count(connection.state)),
        }
        counted
    }

    /// The error where there are none.
    pub fn none(&self) -> anyhow::Error {
        Failure::new(Error::NoConnection(match &self.table {
            None => "no connections: no rule has remembered any so far",
            Some(_) if self.filter == ConnectionFilter::default() => "no connections",
            Some(_) => "no such connection",
        }))
    }

    fn unnamed(&self) -> impl Iterator<Item = Connection> {
        let all = self.table.iter().flat_map(FlowTable::connections);
        all.filter(|connection| self.filter.selects(connection))
    }
}

/// Ends the selected connections; how many. None is an error.
pub fn end_flows(pins: &Pins, selector: &FlowSelector) -> Result<usize> {
    selector.filter()?;
    let lock = Lock::take(pins)?;
    let flows = Flows::open(pins, selector)?;
    let table = flows.table.as_ref();
    let is_to_end = |connection: &Connection| flows.filter.selects(connection);
    match table.map_or(0, |table| table.end(&lock, is_to_end)) {
        0 => Err(flows.none()),
        ended => Ok(ended),
    }
}
