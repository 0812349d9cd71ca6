//! Tables of counters, with rates where there is an earlier snapshot.

pub mod backends;
pub mod interfaces;

use std::cell::OnceCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use super::columns::Columns;
use super::failures::Advice;
use super::{chain, failures, flows, units};
use crate::model::{
    ConnectionStats, Counter, CpuCounter, InterfaceStats, Match, Rate, RuleRecord, Snapshot,
};

/// The counters of an earlier snapshot.
pub struct Earlier {
    interfaces: Vec<InterfaceStats>,
    pub connections: Option<ConnectionStats>,
    rows: Vec<Row>,
    /// The time that has passed since.
    pub elapsed: Duration,
    /// Where it has its rows; only asked where it has others than there are now.
    places: OnceCell<HashMap<Identity, usize>>,
}

/// What tells a backend from all others.
type Identity = (Match, Option<IpAddr>);

/// The counters of a backend.
struct Row {
    identity: Identity,
    counter: Counter,
    lost: u64,
    cpus: Option<Vec<CpuCounter>>,
}

impl Earlier {
    /// Keeps what a snapshot says, which is brought up to date then.
    pub fn of(snapshot: &Snapshot) -> Self {
        let row = |row: &RuleRecord| Row {
            identity: row.identity(),
            counter: row.counter(),
            lost: row.lost(),
            cpus: row.cpus.clone(),
        };
        Earlier {
            interfaces: snapshot.interfaces.clone(),
            connections: snapshot.connections,
            rows: snapshot.rules.iter().map(row).collect(),
            elapsed: Duration::ZERO,
            places: OnceCell::new(),
        }
    }

    fn interface(&self, now: &InterfaceStats) -> Option<&InterfaceStats> {
        let mut all = self.interfaces.iter();
        all.find(|interface| interface.ifindex == now.ifindex)
    }

    /// The row as it was. Where no rules came or went, it is at the same place.
    fn row(&self, place: usize, now: &RuleRecord) -> Option<&Row> {
        let identity = now.identity();
        let same = self.rows.get(place);
        if let Some(row) = same.filter(|row| row.identity == identity) {
            return Some(row);
        }
        let places = self.places.get_or_init(|| {
            let identities = self.rows.iter().map(|row| row.identity);
            identities.zip(0..).collect()
        });
        places.get(&identity).map(|&place| &self.rows[place])
    }

    pub fn rate(&self, now: Counter, before: Counter) -> Rate {
        now.rate_since(before, self.elapsed)
    }
}

/// How fast counters grow.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Speed {
    pub rate: Rate,
    /// The packets that are lost in a second.
    pub losing: f64,
}

impl Speed {
    /// What comes first on a screen has more.
    pub fn weight(self) -> (u64, u64) {
        // In thousandths, because floating-point numbers have no order.
        let thousandths = |number| (number * 1000.0) as u64;
        (thousandths(self.losing), thousandths(self.rate.packets))
    }
}

/// Counters of interfaces and backends; with an earlier snapshot, rates as well.
pub fn text(snapshot: &Snapshot, earlier: Option<&Earlier>, advice: &Advice) -> String {
    let mut text = format!("{}\n", snapshot.timestamp);
    let has_rates = earlier.is_some();
    if !snapshot.interfaces.is_empty() {
        let lines = interfaces::lines(snapshot, earlier);
        let lines: Vec<_> = lines.iter().collect();
        text += &format!("\n{}", interfaces::table(&lines, has_rates, None));
    }
    let chains = chain::stats(&snapshot.interfaces);
    if !chains.is_empty() {
        text += &format!("\n{chains}");
    }
    if !snapshot.rules.is_empty() {
        let all = 0..snapshot.rules.len();
        let rows = backends::rows(snapshot, all, earlier);
        text += &format!("\n{}", backends::table(&rows, has_rates, None));
    }
    if let Some(connections) = &snapshot.connections {
        text += &format!("\n{}", flows::stats(connections, earlier));
    }
    text + &failures::lines(snapshot, advice)
}

fn with_rates<T>(table: Columns<T>, rate: impl Fn(&T) -> Rate) -> Columns<T> {
    table
        .number("packets/s", |row| units::rate(rate(row).packets))
        .number("bytes/s", |row| units::bytes(rate(row).bytes))
}

fn packets(counter: Counter) -> String {
    units::number(counter.packets as f64)
}

fn bytes(counter: Counter) -> String {
    units::bytes(counter.bytes as f64)
}

/// A CPU's number; that of none is that of all of them.
fn cpu(number: Option<u32>) -> String {
    number.map_or_else(|| "all".into(), |number| number.to_string())
}
