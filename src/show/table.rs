//! Tables for people.

use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::human;
use super::json::{RuleRow, Snapshot, StatsInterface, Status};
use crate::model::{Counter, Rate};

/// An earlier snapshot and the time since.
type Earlier<'a> = Option<(&'a Snapshot, Duration)>;

pub fn status(status: &Status) -> String {
    let dir = status.pin_dir.display();
    if status.interfaces.is_empty() {
        return format!(
            "not attached to any interface; {} rules under {dir}\n",
            status.rules
        );
    }
    let mut table = new(
        &["interface", "ifindex", "mode", "program", "link"],
        &[1, 3, 4],
    );
    for interface in &status.interfaces {
        let gone = if interface.device_gone { " (gone)" } else { "" };
        table.add_row([
            format!("{}{gone}", interface.ifname),
            interface.ifindex.to_string(),
            interface.mode.to_string(),
            interface.program_id.to_string(),
            interface.link_id.to_string(),
        ]);
    }
    let rules = if status.rules == 1 { "rule" } else { "rules" };
    format!("{}{} {rules} under {dir}\n", text(&table), status.rules)
}

pub fn rules(rows: &[RuleRow], earlier: Earlier) -> String {
    if rows.is_empty() {
        return "no rules\n".into();
    }
    let mut headings = vec![
        "source", "proto", "port", "server", "mac", "device", "weight", "packets", "bytes",
    ];
    if earlier.is_some() {
        headings.extend(["packets/s", "bytes/s"]);
    }
    let mut table = new(&headings, &[2, 6, 7, 8, 9, 10]);
    for row in rows {
        let device = row
            .ifname
            .clone()
            .unwrap_or_else(|| format!("{} (gone)", row.ifindex));
        let mut cells = vec![
            row.src.clone(),
            row.proto.to_string(),
            row.port.to_string(),
            row.server.clone(),
            row.mac.clone(),
            device,
            row.weight.to_string(),
        ];
        cells.extend(totals(row.counter()));
        if let Some((snapshot, elapsed)) = earlier {
            let before = snapshot
                .rules
                .iter()
                .find(|r| r.identity() == row.identity());
            let before = before.map(RuleRow::counter).unwrap_or_default();
            cells.extend(rates(row.counter().rate_since(before, elapsed)));
        }
        table.add_row(cells);
    }
    text(&table)
}

pub fn stats(snapshot: &Snapshot, earlier: Earlier) -> String {
    let rules = rules(&snapshot.rules, earlier);
    format!(
        "{}\n\n{}\n{rules}",
        snapshot.timestamp,
        interfaces(snapshot, earlier)
    )
}

fn interfaces(snapshot: &Snapshot, earlier: Earlier) -> String {
    let mut headings = vec!["interface", "mode", "action", "packets", "bytes"];
    if earlier.is_some() {
        headings.extend(["packets/s", "bytes/s"]);
    }
    let mut table = new(&headings, &[3, 4, 5, 6]);
    for interface in &snapshot.interfaces {
        let before = earlier.and_then(|(snapshot, _)| {
            snapshot
                .interfaces
                .iter()
                .find(|other| other.ifindex == interface.ifindex)
        });
        for (index, (action, counter)) in actions(interface).into_iter().enumerate() {
            let mut cells = if index == 0 {
                vec![interface.ifname.clone(), interface.mode.to_string()]
            } else {
                vec![String::new(), String::new()]
            };
            cells.push(action.to_string());
            cells.extend(totals(counter));
            if let Some((_, elapsed)) = earlier {
                let before = before.map(|i| actions(i)[index].1).unwrap_or_default();
                cells.extend(rates(counter.rate_since(before, elapsed)));
            }
            table.add_row(cells);
        }
    }
    text(&table)
}

fn actions(interface: &StatsInterface) -> [(&'static str, Counter); 5] {
    let actions = &interface.actions;
    [
        ("redirect", actions.redirect),
        ("pass", actions.pass),
        ("drop", actions.drop),
        ("tx", actions.tx),
        ("aborted", actions.aborted),
    ]
}

fn totals(counter: Counter) -> [String; 2] {
    [
        human::number(counter.packets as f64),
        human::bytes(counter.bytes as f64),
    ]
}

fn rates(rate: Rate) -> [String; 2] {
    [human::number(rate.packets), human::bytes(rate.bytes)]
}

/// A table with these headings; the columns with these numbers are right-aligned.
fn new(headings: &[&str], right: &[usize]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(headings.iter().copied());
    for &column in right {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

fn text(table: &Table) -> String {
    table
        .lines()
        .map(|line| line.trim_end().to_string() + "\n")
        .collect()
}
