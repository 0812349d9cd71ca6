//! Looks around in a peer's network namespace.

use std::net::IpAddr;

use anyhow::{Context, Result};

use crate::checks::{AtServer, Delivery, Reply, Target, There};
use crate::datapath::Foreign;
use crate::host::route::{self, Route};
use crate::host::{device, peer, sysctl};
use crate::model::Remote;

/// Ours: a redirect after a redirect.
const OURS: &str = "xdpredir";

/// A reply whose gateway is still to be known for one of this namespace.
struct Back {
    reply: Reply,
    gateway: Option<IpAddr>,
}

/// None where its namespace can't be entered, or it has gone meanwhile.
pub fn look(peer: &Remote, targets: &mut [&mut Target]) -> Option<There> {
    let asked: Vec<(IpAddr, Vec<IpAddr>)> = targets
        .iter()
        .map(|target| (target.server, target.sources.clone()))
        .collect();
    let look_there = || {
        let there = there(peer.ifindex)?;
        let answers = asked.iter().map(|(server, sources)| {
            let address = delivery(*server, peer.ifindex)?;
            let back = sources.iter().map(|source| back(*source, peer.ifindex));
            Ok((address, back.collect::<Result<Vec<_>>>()?))
        });
        Ok((there, answers.collect::<Result<Vec<_>>>()?))
    };
    let (there, answers) = peer::within(peer, look_there).ok()?;
    if there.is_port || there.promiscuous {
        // The server may be elsewhere, behind that bridge or macvlan.
        return Some(there);
    }
    for (target, (address, back)) in targets.iter_mut().zip(answers) {
        target.there = Some(AtServer {
            address,
            replies: back.into_iter().map(reply).collect(),
        });
    }
    Some(there)
}

fn there(ifindex: u32) -> Result<There> {
    let own = device::by_index(ifindex)?.context("the peer is gone")?;
    let program = Foreign::find(ifindex)?.filter(|program| program.name() != OURS);
    Ok(There {
        enabled: own.enabled,
        is_port: own.master.is_some(),
        promiscuous: own.promiscuous,
        rp_filter: sysctl::rp_filter(&own.name),
        program: program.map(|program| program.describe()),
    })
}

fn delivery(server: IpAddr, arrival: u32) -> Result<Delivery> {
    Ok(match route::lookup(server, None)? {
        Route::Local => Delivery::Here,
        Route::Hop(hop) if hop.ifindex != arrival && sysctl::forwards(server) => Delivery::Onward,
        _ => Delivery::Nowhere,
    })
}

fn back(source: IpAddr, arrival: u32) -> Result<Back> {
    let hop = match route::lookup(source, None)? {
        Route::Hop(hop) => Some(hop),
        _ => None,
    };
    let ifindex = hop.as_ref().map(|hop| hop.ifindex);
    Ok(Back {
        reply: Reply {
            source,
            ifindex,
            by_arrival: ifindex == Some(arrival),
            via_us: false,
        },
        gateway: hop.map(|hop| hop.addr).filter(|addr| *addr != source),
    })
}

/// Back in the namespace that redirects.
fn reply(back: Back) -> Reply {
    let is_ours = |gateway| matches!(route::lookup(gateway, None), Ok(Route::Local));
    Reply {
        via_us: back.gateway.is_some_and(is_ours),
        ..back.reply
    }
}
