//! The connections of the kernel beside those of the model.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use fastrand::Rng;

use crate::fixture::Pins;
use crate::fixture::connections::{Entry, Flow, Table};
use crate::fixture::model::{Connection, Hints, Model, Options};

/// So many that no connection has to go for another one.
const BUCKETS: u32 = 64;
/// Above that, all are forgotten.
const MOST: usize = 64;
/// Longer than any is kept.
const LONG: Duration = Duration::from_secs(10_000);

#[derive(Default)]
pub struct Memory {
    /// None before a rule remembers connections.
    table: Option<Table>,
    revision: u32,
}

/// What the rules of a round remember, and which source ports they take: few, so that they are not enough, or many. Each
/// choice comes in 15 turns.
pub fn choose(turn: usize) -> (Options, (u16, u16)) {
    let (nat, sticky) = [
        (false, false),
        (true, false),
        (true, false),
        (true, true),
        (false, true),
    ][turn % 5];
    let ports = [(50000, 50000), (50000, 50003), (10000, 32767)][turn % 3];
    (Options { nat, sticky }, ports)
}

impl Memory {
    /// After a change of the rules.
    pub fn rules_changed(&mut self, pins: &Pins, model: &Model) {
        if self.table.is_none() && model.remembers() {
            self.table = Some(Table::open(pins, BUCKETS, model.ports));
        }
        self.revision = self.table.as_ref().map_or(0, Table::revision);
    }

    /// That of a packet's flow.
    pub fn entry(&self, packet: &[u8]) -> Option<Entry> {
        self.table.as_ref()?.find(Model::flow_of(packet)?)
    }

    /// What a packet has changed in its flow's entry.
    pub fn hints(&self, packet: &[u8], before: Option<Entry>) -> Hints {
        let after = self.entry(packet);
        let is_renewed = |before: Entry, after: &Entry| {
            before.id() == after.id() && before.tick() != after.tick()
        };
        Hints {
            revision: self.revision,
            renewed: before
                .zip(after.as_ref())
                .is_some_and(|(b, a)| is_renewed(b, a)),
            port: after.and_then(|entry| entry.port()),
        }
    }

    /// The model has no clock: what was seen within a round was seen just now. And now and then some time is over.
    pub fn pass_time(&self, rng: &mut Rng, model: &mut Model) {
        let Some(table) = &self.table else {
            return;
        };
        table.renew(Duration::from_secs(5000));
        if model.connections.len() > MOST {
            table.clear();
            model.connections.clear();
        }
        if let Some(known) = rng.choice(&mut model.connections) {
            let entry = table.find(known.request).expect("it is known");
            // The next packet looks at the clock, and perhaps it is too late.
            known.old |= rng.bool();
            let age = if known.old { LONG } else { Duration::ZERO };
            table.age(entry, age);
        }
    }

    pub fn forget(&self) {
        self.table.iter().for_each(Table::clear);
    }

    /// A flow that connections know, or one that is near to theirs.
    pub fn flow(&self, rng: &mut Rng, model: &Model) -> Option<Flow> {
        let known = rng.choice(&model.connections)?;
        let mut flow = match rng.u8(..8) {
            0..3 => known.request,
            3..7 => known.answer,
            _ => known.request,
        };
        if rng.u8(..16) == 0 {
            flow.dst.0 = next(flow.dst.0);
        }
        Some(flow)
    }

    /// Panics unless the table has the model's connections, and nothing else.
    pub fn compare(&self, model: &Model) {
        let Some(table) = &self.table else {
            assert!(model.connections.is_empty());
            return;
        };
        table.check();
        let expected = [model.begun, model.expired, 0, model.refused];
        assert_eq!(table.stats(), expected, "new, expired, evicted, refused");
        let requests = table.entries();
        let requests = requests.iter().filter(|entry| entry.is_request());
        let kernels: BTreeSet<String> =
            requests.map(|entry| describe_entry(table, entry)).collect();
        let models: BTreeSet<String> = model.connections.iter().map(describe).collect();
        let alone = |here: &BTreeSet<String>, there: &BTreeSet<String>| -> Vec<String> {
            here.difference(there).cloned().collect()
        };
        assert_eq!(
            alone(&kernels, &models),
            alone(&models, &kernels),
            "only the table has the left ones, only the model the right ones"
        );
    }
}

fn describe_entry(table: &Table, request: &Entry) -> String {
    let answer = table.entry(request.peer());
    let (asked, answered) = (request.any_flow(), answer.any_flow());
    let (nat, port, state) = (answer.flow().is_some(), request.port(), request.state());
    let counts = [request, &answer].map(Entry::counted);
    format!("{asked:?} {answered:?} {nat} {port:?} {state} {counts:?}")
}

fn describe(of: &Connection) -> String {
    let (asked, answered) = (of.request, of.answer);
    let (nat, port, state) = (of.options.nat, of.port, of.state as u8);
    let counts = of.counts;
    format!("{asked:?} {answered:?} {nat} {port:?} {state} {counts:?}")
}

/// The neighbour of an address.
fn next(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V4(addr) => IpAddr::from((u32::from(addr) ^ 1).to_be_bytes()),
        IpAddr::V6(addr) => IpAddr::from((u128::from(addr) ^ 1).to_be_bytes()),
    }
}
