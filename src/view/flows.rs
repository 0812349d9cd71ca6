//! Tables of connections.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::Result;

use super::columns::Columns;
use super::stats::Earlier;
use super::table::is_marked;
use super::units;
use crate::model::{Connection, ConnectionState, ConnectionStats, Counter, VlanId};

/// A table needs all its rows before its first line. So there may be several, and each is printed before the
/// next is made.
const ROWS: usize = 1000;

/// Prints one connection a row.
pub fn list(connections: impl Iterator<Item = Connection>) -> Result<()> {
    let mut rest = connections.peekable();
    while rest.peek().is_some() {
        let rows: Vec<Connection> = rest.by_ref().take(ROWS).collect();
        super::text(table(&rows))?;
    }
    Ok(())
}

fn table(rows: &[Connection]) -> String {
    let has_vlan = rows.iter().any(|row| row.vlan.is_some());
    let has_snat = rows.iter().any(|row| client(row) != snat(row));
    Columns::of(rows)
        .text("proto", |row| row.proto.to_string())
        .when(has_vlan, |table| table.number("vlan", |row| vlan(row.vlan)))
        .text("client", |row| client(row).to_string())
        .text("asked", |row| end(row.dst, row.port).to_string())
        .text("server", |row| end(row.server, row.server_port).to_string())
        .when(has_snat, |table| {
            table.text("seen as", |row| snat(row).to_string())
        })
        .text("state", |row| row.state.to_string())
        .number("age", |row| units::seconds(row.age))
        .number("idle", |row| units::seconds(row.idle))
        .number("requests", |row| units::number(row.requests.packets as f64))
        .number("bytes", |row| units::bytes(row.requests.bytes as f64))
        .number("answers", |row| units::number(row.answers.packets as f64))
        .number("bytes back", |row| units::bytes(row.answers.bytes as f64))
        .text("in", Connection::interface)
        .color(is_marked)
        .lines(&["in", "bytes back", "bytes", "age", "seen as", "vlan"])
}

fn end(addr: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(addr, port)
}

fn client(row: &Connection) -> SocketAddr {
    end(row.src, row.src_port)
}

fn snat(row: &Connection) -> SocketAddr {
    end(row.snat, row.snat_port)
}

fn vlan(vlan: Option<VlanId>) -> String {
    vlan.map_or_else(|| "-".into(), |vlan| vlan.to_string())
}

/// How many connections there are in each state.
pub fn states(counted: &BTreeMap<ConnectionState, u64>) -> String {
    let all = counted.values().sum();
    let some = counted.iter().filter(|(_, count)| **count > 0);
    let some = some.map(|(state, count)| (state.to_string(), *count));
    let rows: Vec<(String, u64)> = some.chain([("all".into(), all)]).collect();
    Columns::of(&rows)
        .text("state", |(state, _)| state.clone())
        .number("connections", |(_, count)| count.to_string())
        .lines(&[])
}

/// What became of connections, with rates where there is an earlier snapshot.
pub fn stats(stats: &ConnectionStats, earlier: Option<&Earlier>) -> String {
    let before = earlier.and_then(|earlier| earlier.connections);
    let rows = counted(stats)
        .into_iter()
        .zip(counted(before.as_ref().unwrap_or(stats)));
    let rows: Vec<_> = rows.collect();
    Columns::of(&rows)
        .text("connections", |((what, _, _), _)| what.to_string())
        .number("count", |((_, count, _), _)| units::number(*count as f64))
        .when(earlier.is_some(), |table| {
            table.number("/s", |((_, now, grows), (_, before, _))| {
                let rate = earlier.filter(|_| *grows);
                let rate = rate.map(|earlier| earlier.rate(packets(*now), packets(*before)));
                rate.map_or_else(String::new, |rate| units::rate(rate.packets))
            })
        })
        .lines(&[])
}

/// A number that grows, as a counter of nothing else.
fn packets(packets: u64) -> Counter {
    Counter { packets, bytes: 0 }
}

/// Each with whether it only grows.
fn counted(stats: &ConnectionStats) -> [(&'static str, u64, bool); 6] {
    [
        ("now", stats.in_use.now, false),
        ("at most", stats.in_use.most, false),
        ("new", stats.new, true),
        ("expired", stats.expired, true),
        ("evicted", stats.evicted, true),
        ("refused", stats.refused, true),
    ]
}
