//! What the entries of a connection say.

use std::net::IpAddr;
use std::time::Duration;

use crate::datapath::abi;
use crate::model::{Connection, ConnectionState, Counter, Proto, Reply, VlanId};

/// From where to where packets go.
struct Flow {
    proto: Proto,
    vlan: Option<VlanId>,
    src: (IpAddr, u16),
    dst: (IpAddr, u16),
    /// No packet has this flow: see FLOW_UNSEEN in bpf/abi/connection.h.
    is_unseen: bool,
}

/// The connection that two entries are of, at a time (CLOCK_MONOTONIC). None where its time is over, and where
/// this command does not know what they say: whoever may change rules can write anything there.
pub fn connection(
    request: &[u8; size_of::<abi::flow_entry>()],
    answer: &[u8; size_of::<abi::flow_entry>()],
    now: Duration,
) -> Option<Connection> {
    let request = abi::from_bytes(request).ok()?;
    of_entries(&request, &abi::from_bytes(answer).ok()?, now)
}

pub(super) fn of_entries(
    request: &abi::flow_entry,
    answer: &abi::flow_entry,
    now: Duration,
) -> Option<Connection> {
    let (state, idle) = liveliness(request, now)?;
    let (asked, answered) = (flow(&request.key)?, flow(&answer.key)?);
    let age = now.saturating_sub(Duration::from_nanos(request.id));
    Some(Connection {
        proto: asked.proto,
        src: asked.src.0,
        src_port: asked.src.1,
        dst: asked.dst.0,
        port: asked.dst.1,
        vlan: asked.vlan,
        server: answered.src.0,
        server_port: answered.src.1,
        snat: answered.dst.0,
        snat_port: answered.dst.1,
        server_vlan: answered.vlan,
        reply: (!answered.is_unseen).then_some(Reply::Nat),
        state,
        age: age.as_secs(),
        // Up to two seconds too long: see flow_entry's `seen`.
        idle: idle.min(age.as_secs()),
        requests: counter(request),
        answers: counter(answer),
        ingress: None,
        in_ifindex: request.ifindex,
    })
}

/// The state, and for how many seconds nothing was seen. None where the connection's time is over.
pub(super) fn liveliness(entry: &abi::flow_entry, now: Duration) -> Option<(ConnectionState, u64)> {
    let (state, timeout) = state(entry.state)?;
    // The program may have seen a packet since `now`.
    let idle = (now.as_secs() as u32).wrapping_sub(entry.seen) as i32;
    let idle = u64::try_from(idle).unwrap_or(0);
    (idle <= timeout.into()).then_some((state, idle))
}

/// A state, and for how many seconds it is kept without a packet: see timeout_of in bpf/flow_state.h.
fn state(number: u8) -> Option<(ConnectionState, u32)> {
    use ConnectionState as State;
    Some(match u32::from(number) {
        abi::STATE_ONE_WAY => (State::OneWay, abi::TIMEOUT_ONE_WAY),
        abi::STATE_BOTH_WAYS => (State::BothWays, abi::TIMEOUT_BOTH_WAYS),
        abi::STATE_OPENING => (State::Opening, abi::TIMEOUT_OPENING),
        abi::STATE_ANSWERED => (State::Answered, abi::TIMEOUT_OPENING),
        abi::STATE_ESTABLISHED => (State::Established, abi::TIMEOUT_ESTABLISHED),
        abi::STATE_FIN_REQUEST => (State::ClientClosed, abi::TIMEOUT_ESTABLISHED),
        abi::STATE_FIN_ANSWER => (State::ServerClosed, abi::TIMEOUT_ESTABLISHED),
        abi::STATE_CLOSED => (State::Closed, abi::TIMEOUT_CLOSED),
        abi::STATE_RESET => (State::Reset, abi::TIMEOUT_RESET),
        _ => return None,
    })
}

fn flow(key: &abi::flow_key) -> Option<Flow> {
    let [word, addrs @ ..] = key.word;
    let family = (word >> 56) as u32;
    let (src, dst) = match family & !abi::FLOW_UNSEEN {
        abi::FAMILY_IPV4 => of_ipv4(addrs[0]),
        abi::FAMILY_IPV6 => (of_ipv6([addrs[0], addrs[1]]), of_ipv6([addrs[2], addrs[3]])),
        _ => return None,
    };
    Some(Flow {
        proto: match (word >> 48) as u8 {
            UDP => Proto::Udp,
            TCP => Proto::Tcp,
            _ => return None,
        },
        vlan: VlanId::new((word >> 32) as u16),
        src: (src, u16::from_be(word as u16)),
        dst: (dst, u16::from_be((word >> 16) as u16)),
        is_unseen: family & abi::FLOW_UNSEEN != 0,
    })
}

const UDP: u8 = 17;
const TCP: u8 = 6;

/// The lower half comes first, and each is in the packet's byte order.
fn of_ipv4(word: u64) -> (IpAddr, IpAddr) {
    let addr = |half: u32| IpAddr::from(half.to_ne_bytes());
    (addr(word as u32), addr((word >> 32) as u32))
}

fn of_ipv6(words: [u64; 2]) -> IpAddr {
    let [high, low] = words.map(u64::to_ne_bytes);
    let mut octets = [0; 16];
    octets[..8].copy_from_slice(&high);
    octets[8..].copy_from_slice(&low);
    octets.into()
}

fn counter(entry: &abi::flow_entry) -> Counter {
    Counter {
        packets: entry.packets,
        bytes: entry.bytes,
    }
}
