//! What was redirected to backends, and lost on the way.

use super::{Earlier, Speed, bytes, cpu, packets, with_rates};
use crate::model::{Counter, CpuCounter, RuleRecord, Snapshot};
use crate::view::columns::Columns;
use crate::view::rules::{is_lost, or_dash, with_match};
use crate::view::table::is_marked;
use crate::view::trends::{Key, Trends};
use crate::view::units;

impl Speed {
    /// Of the row at that place.
    pub fn of(place: usize, row: &RuleRecord, earlier: Option<&Earlier>) -> Self {
        let Some(earlier) = earlier else {
            return Speed::default();
        };
        let before = earlier.row(place, row);
        let counter = before.map_or(Counter::default(), |before| before.counter);
        let lost = |packets| Counter { packets, bytes: 0 };
        let lost_before = before.map_or(0, |before| before.lost);
        Speed {
            rate: earlier.rate(row.counter(), counter),
            losing: earlier.rate(lost(row.lost()), lost(lost_before)).packets,
        }
    }
}

/// A line of the table: of all CPUs, or of one. What is lost is not known by CPU.
pub struct Row<'a> {
    record: &'a RuleRecord,
    cpu: Option<u32>,
    counter: Counter,
    speed: Speed,
}

impl AsRef<RuleRecord> for Row<'_> {
    fn as_ref(&self) -> &RuleRecord {
        self.record
    }
}

/// The backends at these places.
pub fn rows<'a>(
    snapshot: &'a Snapshot,
    places: impl IntoIterator<Item = usize>,
    earlier: Option<&Earlier>,
) -> Vec<Row<'a>> {
    let mut rows = Vec::new();
    for place in places {
        let record = &snapshot.rules[place];
        rows.push(Row {
            record,
            cpu: None,
            counter: record.counter(),
            speed: Speed::of(place, record, earlier),
        });
        let before = earlier.and_then(|earlier| earlier.row(place, record));
        let cpus = record.cpus.iter().flatten();
        rows.extend(cpus.map(|now| of_cpu(record, now, before, earlier)));
    }
    rows
}

fn of_cpu<'a>(
    record: &'a RuleRecord,
    now: &CpuCounter,
    before: Option<&super::Row>,
    earlier: Option<&Earlier>,
) -> Row<'a> {
    let mut cpus = before.into_iter().flat_map(|row| &row.cpus).flatten();
    let before = cpus.find(|before| before.cpu == now.cpu);
    let before = before.map_or(Counter::default(), |before| before.counter);
    let rate = earlier.map(|earlier| earlier.rate(now.counter, before));
    Row {
        record,
        cpu: Some(now.cpu),
        counter: now.counter,
        speed: Speed {
            rate: rate.unwrap_or_default(),
            losing: 0.0,
        },
    }
}

pub fn table(rows: &[Row], has_rates: bool, trends: Option<&Trends>) -> String {
    let has_cpus = rows.iter().any(|row| row.record.cpus.is_some());
    let any_lost = rows.iter().any(|row| row.record.lost() > 0);
    let is_losing = rows.iter().any(|row| row.speed.losing > 0.0);
    with_match(Columns::of(rows), rows)
        .text("server", |row| or_dash(row.record.server))
        .text("device", |row| or_dash(row.record.device()))
        .color(is_marked)
        .when(has_cpus, |table| table.number("cpu", |row| cpu(row.cpu)))
        .number("packets", |row| packets(row.counter))
        .number("bytes", |row| bytes(row.counter))
        .when(any_lost, |table| {
            let lost = |row: &Row| units::number(row.record.lost() as f64);
            table.number("lost", of_all(lost)).color(is_lost)
        })
        .when(is_losing, |table| {
            let losing = |row: &Row| units::rate(row.speed.losing);
            table.number("lost/s", of_all(losing)).color(is_lost)
        })
        .when(has_rates, |table| with_rates(table, |row| row.speed.rate))
        .with_trends(trends, |row| {
            let of_all = row.cpu.is_none();
            of_all.then(|| Key::of_backend(row.record))
        })
        .lines(&[
            "device",
            "bytes",
            "bytes/s",
            "source",
            "port",
            "destination",
            "in",
        ])
}

/// What is known of all CPUs together.
fn of_all<'a>(value: impl Fn(&Row<'a>) -> String) -> impl Fn(&Row<'a>) -> String {
    move |row| match row.cpu {
        None => value(row),
        Some(_) => String::new(),
    }
}
