//! What the packet program remembers of flows.

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use super::record::name_or_gone;
use super::{Counter, Ports, Prefix, Proto, Reply, VlanId};

/// A connection, as it is at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Connection {
    pub proto: Proto,
    /// The client, as its packets have it.
    pub src: IpAddr,
    pub src_port: u16,
    /// What the client asked.
    pub dst: IpAddr,
    pub port: u16,
    pub vlan: Option<VlanId>,
    /// The backend, and the port there.
    pub server: IpAddr,
    pub server_port: u16,
    /// The client, as the server sees it.
    pub snat: IpAddr,
    pub snat_port: u16,
    /// The identifier of the VLAN tag with which packets leave for the server.
    pub server_vlan: Option<VlanId>,
    /// None where the program does not see answers.
    pub reply: Option<Reply>,
    pub state: ConnectionState,
    /// Seconds since the first packet.
    pub age: u64,
    /// Seconds since the last packet, up to two too many.
    pub idle: u64,
    /// Packets for the server.
    pub requests: Counter,
    /// Packets for the client.
    pub answers: Counter,
    /// The name of the interface where requests arrive; None: it is gone.
    #[serde(rename = "in")]
    pub ingress: Option<String>,
    pub in_ifindex: u32,
}

/// Seconds without a packet after which nothing more is expected of a connection that was closed. `idle` may be
/// two too many.
const LINGER: u64 = 4;

impl Connection {
    /// Whether packets of it are still to come. Of one that both ends have closed, or one has reset, the last may
    /// be on their way.
    pub fn goes_on(&self) -> bool {
        let is_closed = matches!(self.state, ConnectionState::Closed | ConnectionState::Reset);
        !is_closed || self.idle <= LINGER
    }

    /// The name of the interface where requests arrive, or that it is gone.
    pub fn interface(&self) -> String {
        name_or_gone(self.ingress.clone(), self.in_ifindex)
    }
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionState {
    /// UDP without an answer so far.
    OneWay,
    /// UDP.
    BothWays,
    /// TCP without an answer so far.
    Opening,
    /// TCP: the server has answered, and the client has not confirmed that.
    Answered,
    /// TCP.
    Established,
    /// TCP: the client has closed its side.
    ClientClosed,
    /// TCP: the server has closed its side.
    ServerClosed,
    /// TCP: both have closed.
    Closed,
    /// TCP: one of them has reset it.
    Reset,
}

impl ConnectionState {
    pub const ALL: [ConnectionState; 9] = [
        ConnectionState::OneWay,
        ConnectionState::BothWays,
        ConnectionState::Opening,
        ConnectionState::Answered,
        ConnectionState::Established,
        ConnectionState::ClientClosed,
        ConnectionState::ServerClosed,
        ConnectionState::Closed,
        ConnectionState::Reset,
    ];

    /// Its key in JSON.
    pub fn name(self) -> &'static str {
        match self {
            ConnectionState::OneWay => "one_way",
            ConnectionState::BothWays => "both_ways",
            ConnectionState::Opening => "opening",
            ConnectionState::Answered => "answered",
            ConnectionState::Established => "established",
            ConnectionState::ClientClosed => "client_closed",
            ConnectionState::ServerClosed => "server_closed",
            ConnectionState::Closed => "closed",
            ConnectionState::Reset => "reset",
        }
    }
}

impl fmt::Display for ConnectionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name().replace('_', "-"))
    }
}

/// The connections that have all that is given; all of them where nothing is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionFilter {
    /// Contains the address that was asked.
    pub dst: Option<Prefix>,
    /// Contains the client's address.
    pub src: Option<Prefix>,
    pub proto: Option<Proto>,
    /// Contain the port that was asked.
    pub ports: Option<Ports>,
    pub vlan: Option<VlanId>,
    pub in_ifindex: Option<u32>,
    pub server: Option<IpAddr>,
}

impl ConnectionFilter {
    /// Whether a connection is one of those that are meant.
    pub fn selects(&self, connection: &Connection) -> bool {
        let Connection {
            src,
            dst,
            port,
            vlan,
            ..
        } = *connection;
        self.dst.is_none_or(|prefix| prefix.contains(&dst))
            && self.src.is_none_or(|prefix| prefix.contains(&src))
            && self.proto.is_none_or(|proto| proto == connection.proto)
            && self
                .ports
                .is_none_or(|ports| (ports.first()..=ports.last()).contains(&port))
            && self.vlan.is_none_or(|given| Some(given) == vlan)
            && self
                .in_ifindex
                .is_none_or(|ifindex| ifindex == connection.in_ifindex)
            && self.server.is_none_or(|addr| addr == connection.server)
    }
}

/// How full the table of connections is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ConnectionsInUse {
    /// Connections that there are now.
    pub now: u64,
    /// How many there is room for.
    pub most: u64,
    /// The memory that this room takes.
    pub bytes: u64,
}

/// What became of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ConnectionStats {
    #[serde(flatten)]
    pub in_use: ConnectionsInUse,
    /// Connections that have begun.
    pub new: u64,
    /// Connections whose time was over.
    pub expired: u64,
    /// Connections that made room before their time was over.
    pub evicted: u64,
    /// Connections that could not be remembered.
    pub refused: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Connection {
        Connection {
            proto: Proto::Tcp,
            src: [192, 168, 122, 10].into(),
            src_port: 40000,
            dst: [203, 0, 113, 53].into(),
            port: 80,
            vlan: VlanId::new(5),
            server: [172, 17, 0, 2].into(),
            server_port: 8080,
            snat: [192, 168, 122, 10].into(),
            snat_port: 40000,
            server_vlan: None,
            reply: Some(Reply::Nat),
            state: ConnectionState::Established,
            age: 1,
            idle: 0,
            requests: Counter::default(),
            answers: Counter::default(),
            ingress: None,
            in_ifindex: 3,
        }
    }

    type Change = fn(&mut ConnectionFilter);

    fn selects(change: Change) -> bool {
        let mut filter = ConnectionFilter::default();
        change(&mut filter);
        filter.selects(&connection())
    }

    #[test]
    fn a_filter_selects_what_it_contains() {
        let yes: [Change; 10] = [
            |_| (),
            |f| f.dst = "203.0.113.0/24".parse().ok(),
            |f| f.dst = "203.0.113.53".parse().ok(),
            |f| f.src = "192.168.0.0/16".parse().ok(),
            |f| f.proto = Some(Proto::Tcp),
            |f| f.ports = "79-80".parse().ok(),
            |f| f.ports = Some(Ports::ANY),
            |f| f.vlan = VlanId::new(5),
            |f| f.in_ifindex = Some(3),
            |f| f.server = "172.17.0.2".parse().ok(),
        ];
        assert!(yes.into_iter().all(selects));
        let no: [Change; 8] = [
            |f| f.dst = "203.0.113.54/31".parse().ok(),
            |f| f.dst = "::/0".parse().ok(),
            |f| f.src = "192.168.122.11".parse().ok(),
            |f| f.proto = Some(Proto::Udp),
            |f| f.ports = "8080".parse().ok(),
            |f| f.vlan = VlanId::new(6),
            |f| f.in_ifindex = Some(4),
            |f| f.server = "172.17.0.3".parse().ok(),
        ];
        assert!(!no.into_iter().any(selects));
    }

    #[test]
    fn a_state_has_one_name() {
        for state in ConnectionState::ALL {
            let json = serde_json::to_value(state).unwrap();
            assert_eq!(json, state.name());
        }
        assert_eq!(ConnectionState::ClientClosed.to_string(), "client-closed");
    }
}
