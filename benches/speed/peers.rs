//! TCP through xdpredir and through others that bring connections to a server: connections a second,
//! and transfer.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use anyhow::Result;
use nix::sched::{CloneFlags, setns};

use crate::bed::server;
use crate::cost::ns_per_bit;
use crate::ends::Ends;
use crate::host::{run_on, within};
use crate::means::Peer;
use crate::product::Ledger;
use crate::relays::{Kind, Relay, Relays};
use crate::report::Line;
use crate::rounds::take_turns;
use crate::spread::Spread;
use crate::traffic::{PORT, SERVICE};
use crate::{Setup, WINDOW};

const CONNECTIONS: &str = "TCP connections";
const TRANSFER: &str = "1 TCP stream to the client";

/// Both ends join segments (GRO), so that none has an advantage.
const RELAYS: [Relay; 6] = [
    relay("native", Kind::Native(Ledger::On), false),
    relay(
        "generic, answers native, TSO off",
        Kind::Chosen(Ledger::On),
        true,
    ),
    relay("generic, TSO off", Kind::Generic(Ledger::On), true),
    relay("nft DNAT", Kind::NftDnat, false),
    relay("nft DNAT, TSO off", Kind::NftDnat, true),
    relay("HAProxy", Kind::HaProxy, false),
];

const fn relay(name: &'static str, kind: Kind, divided: bool) -> Relay {
    Relay {
        name,
        kind,
        peer: Peer::Gro,
        divided,
    }
}

pub fn lines(relays: &Relays, ends: &Ends, setup: &Setup) -> Result<Vec<Line>> {
    let relays_here: Vec<_> = RELAYS
        .into_iter()
        .filter(|relay| relays.has(relay))
        .collect();
    let listener = within(&ends.server, || Ok(TcpListener::bind((server(0), PORT))?))?;
    let connections = take_turns(setup.rounds, &relays_here, |relay| {
        relays.with(relay, &[setup.cpu], || {
            ns_per_connection(&ends.client, &listener, setup.cpu)
        })
    })?;
    let transfer = take_turns(setup.rounds, &relays_here, |relay| {
        relays.with(relay, &setup.other_cpus, || {
            let client = within(&ends.client, || Ok(TcpStream::connect((SERVICE, PORT))?))?;
            ns_per_bit(listener.accept()?.0, client, setup.cpu)
        })
    })?;
    let mut lines = Vec::new();
    for (relay, ns) in relays_here.iter().zip(&connections) {
        let rate = Spread::derived([ns], |[ns]| 1e9 / ns);
        lines.push(Line::new(CONNECTIONS, relay.name, rate, "a second"));
    }
    for (relay, ns) in relays_here.iter().zip(&transfer) {
        let gbps = Spread::derived([ns], |[ns]| 1.0 / ns);
        lines.push(Line::new(TRANSFER, relay.name, gbps, "Gbit/s"));
    }
    Ok(lines)
}

/// Connections one after the other, each with a request and an answer of a byte. All is done on one CPU.
fn ns_per_connection(client: &File, listener: &TcpListener, cpu: usize) -> Result<f64> {
    let connect = || -> Result<f64> {
        setns(client, CloneFlags::CLONE_NEWNET)?;
        run_on(&[cpu])?;
        converse(listener)?; // may wait for a neighbour
        let (start, mut connections) = (Instant::now(), 0);
        while start.elapsed() < WINDOW {
            converse(listener)?;
            connections += 1;
        }
        Ok(start.elapsed().as_nanos() as f64 / f64::from(connections))
    };
    thread::scope(|scope| {
        scope
            .spawn(connect)
            .join()
            .expect("no panic in a connection")
    })
}

fn converse(listener: &TcpListener) -> Result<()> {
    let mut client = TcpStream::connect((SERVICE, PORT))?;
    let (mut server, _) = listener.accept()?;
    let mut byte = [0];
    client.write_all(&byte)?;
    server.read_exact(&mut byte)?;
    server.write_all(&byte)?;
    client.read_exact(&mut byte)?;
    Ok(())
}
