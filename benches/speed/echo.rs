//! Conversations over UDP: a request, and a server that sends back what it gets.

use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::errno::Errno;
use nix::sys::socket::sockopt::ReusePort;
use nix::sys::socket::{
    AddressFamily, MsgFlags, MultiHeaders, SockFlag, SockType, SockaddrIn, bind, recvmmsg,
    sendmmsg, setsockopt, socket,
};

use crate::bed::server;
use crate::ends::Ends;
use crate::host::{run_on, within};
use crate::means::Peer;
use crate::product::Ledger;
use crate::relays::{Kind, Relay, Relays};
use crate::report::{Goal, Line};
use crate::rounds::take_turns;
use crate::spread::Spread;
use crate::sys;
use crate::traffic::{CLIENT, PORT, SERVICE};
use crate::{Setup, WINDOW};

/// Requests that are sent, and then answered, at once.
const BATCH: usize = 64;
/// For the first answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// For the last datagram of a batch.
const LAST: Duration = Duration::from_millis(20);
/// Bytes: those of the shortest frame.
const PAYLOAD: usize = 22;

const NFT: &str = "nft DNAT";
const CHOSEN: &str = "generic, answers native";
const ROUTED: &str = "routed, no relay";

/// What is between client and server, in turns, and how many sockets each of them has.
pub struct Echo {
    case: &'static str,
    relays: &'static [Relay],
    sockets: usize,
}

pub const WITH_XDP: Echo = Echo {
    case: "UDP request and answer",
    relays: &RELAYS,
    sockets: 1,
};

pub const WITH_TC: Echo = Echo {
    case: "UDP request and answer, 8 sockets",
    relays: &[ROUTED_RELAY, NFT_RELAY, relay("tc", Kind::Tc, Peer::Plain)],
    sockets: 8,
};

const ROUTED_RELAY: Relay = relay(ROUTED, Kind::Routed, Peer::Plain);
const NFT_RELAY: Relay = relay(NFT, Kind::NftDnat, Peer::Plain);

const RELAYS: [Relay; 8] = [
    ROUTED_RELAY,
    NFT_RELAY,
    relay(CHOSEN, Kind::Chosen(Ledger::On), Peer::Plain),
    relay("generic", Kind::Generic(Ledger::On), Peer::Plain),
    relay(
        "generic without ledger",
        Kind::Generic(Ledger::Off),
        Peer::Plain,
    ),
    relay(
        "native, pass at both ends",
        Kind::Native(Ledger::On),
        Peer::Pass,
    ),
    relay(
        "the same without ledger",
        Kind::Native(Ledger::Off),
        Peer::Pass,
    ),
    relay(
        "native, GRO, without ledger",
        Kind::Native(Ledger::Off),
        Peer::Gro,
    ),
];

pub const fn relay(name: &'static str, kind: Kind, peer: Peer) -> Relay {
    Relay {
        name,
        kind,
        peer,
        divided: false,
    }
}

impl Echo {
    pub fn lines(&self, relays: &Relays, ends: &Ends, setup: &Setup) -> Result<Vec<Line>> {
        let [translated, routed] = [SERVICE, server(0)].map(|asked| {
            let pairs = (0..self.sockets).map(|_| pair(ends, asked));
            pairs.collect::<Result<Vec<_>>>()
        });
        let (translated, routed) = (translated?, routed?);
        let ns = take_turns(setup.rounds, self.relays, |relay| {
            let pairs = match relay.kind {
                Kind::Routed => &routed,
                _ => &translated,
            };
            relays.with(relay, &[], || ns_per_conversation(pairs, setup.cpu))
        })?;
        Ok(self.judge(&ns))
    }

    fn judge(&self, ns: &[Vec<f64>]) -> Vec<Line> {
        let all = || self.relays.iter().zip(ns);
        let of = |name| {
            all()
                .find(|(relay, _)| relay.name == name)
                .expect("it is one of them")
                .1
        };
        let others =
            || all().filter(|(relay, _)| ![Kind::Routed, Kind::NftDnat].contains(&relay.kind));
        let line = |relay: &Relay, value, unit| Line::new(self.case, relay.name, value, unit);
        let rates = all().map(|(relay, ns)| {
            let rate = Spread::derived([ns], |[ns]| 1e9 / ns);
            line(relay, rate, "a second")
        });
        let over_routed = all()
            .skip(1)
            .map(|(relay, ns)| line(relay, Spread::above(ns, of(ROUTED)), "ns over routed"));
        let ratios = others().map(|(relay, ns)| {
            let line = line(relay, Spread::rate_ratio(ns, of(NFT)), "× nft DNAT");
            match relay.kind {
                Kind::Generic(Ledger::Off) => line.goal(Goal::AtLeast(2.0)),
                Kind::Tc => line.goal(Goal::AtLeast(1.5)),
                _ => line,
            }
        });
        rates.chain(over_routed).chain(ratios).collect()
    }
}

/// A socket of the client, which asks that address, and the one of the server that answers it.
fn pair(ends: &Ends, asked: Ipv4Addr) -> Result<[UdpSocket; 2]> {
    let client = within(&ends.client, || {
        let socket = UdpSocket::bind((CLIENT, 0))?;
        socket.connect((asked, PORT))?;
        Ok(socket)
    })?;
    let at = SockaddrIn::from(SocketAddrV4::new(server(0), PORT));
    let server = within(&ends.server, || {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
        setsockopt(&socket, ReusePort, &true)?;
        bind(socket.as_raw_fd(), &at)?;
        Ok(UdpSocket::from(socket))
    })?;
    server.connect(client.local_addr()?)?;
    for socket in [&client, &server] {
        socket.set_read_timeout(Some(LAST))?;
    }
    Ok([client, server])
}

/// One thread is client and server, so that this is all that a conversation takes: two sockets, two
/// stacks, and what is between them.
fn ns_per_conversation(pairs: &[[UdpSocket; 2]], cpu: usize) -> Result<f64> {
    let converse = || -> Result<f64> {
        run_on(&[cpu])?;
        sys::take_precedence()?;
        let begin = Instant::now();
        // The first request begins a connection, and waits until neighbours are found.
        while converse_for_a_while(pairs)? < BATCH {
            ensure!(begin.elapsed() < PATIENCE, "no answer arrives");
        }
        let start = Instant::now();
        let answers = converse_for_a_while(pairs)?;
        ensure!(answers > 0, "answers no longer arrive");
        Ok(start.elapsed().as_nanos() as f64 / answers as f64)
    };
    thread::scope(|scope| {
        scope
            .spawn(converse)
            .join()
            .expect("no panic in a conversation")
    })
}

/// The answers.
fn converse_for_a_while(pairs: &[[UdpSocket; 2]]) -> Result<usize> {
    let mut payloads = [[0; PAYLOAD]; BATCH];
    let mut answers = 0;
    let start = Instant::now();
    let mut turns = pairs.iter().cycle();
    while start.elapsed() < WINDOW {
        let [client, server] = turns.next().expect("there is one");
        send(client, &payloads)?;
        let requests = receive(server, &mut payloads)?;
        send(server, &payloads[..requests])?;
        answers += receive(client, &mut payloads[..requests])?;
    }
    Ok(answers)
}

fn send(socket: &UdpSocket, payloads: &[[u8; PAYLOAD]]) -> Result<()> {
    let slices: Vec<_> = payloads
        .iter()
        .map(|payload| [IoSlice::new(payload)])
        .collect();
    let mut headers = MultiHeaders::<()>::preallocate(slices.len(), None);
    let (fd, addresses) = (socket.as_raw_fd(), vec![None; slices.len()]);
    let sent = sendmmsg(fd, &mut headers, &slices, addresses, [], MsgFlags::empty())?;
    ensure!(
        sent.count() == payloads.len(),
        "the socket does not take all"
    );
    Ok(())
}

/// How many have come. It waits, so that a softirq thread can bring what is on its way.
fn receive(socket: &UdpSocket, payloads: &mut [[u8; PAYLOAD]]) -> Result<usize> {
    let mut received = 0;
    while received < payloads.len() {
        let rest = payloads[received..].iter_mut();
        let mut slices: Vec<_> = rest.map(|payload| [IoSliceMut::new(payload)]).collect();
        let mut headers = MultiHeaders::<()>::preallocate(slices.len(), None);
        let (fd, flags) = (socket.as_raw_fd(), MsgFlags::MSG_WAITFORONE);
        match recvmmsg(fd, &mut headers, &mut slices, flags, None) {
            Ok(got) => received += got.count(),
            // Frames are lost while a device is set up.
            Err(Errno::EAGAIN) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(received)
}
