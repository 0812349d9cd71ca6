//! `xdpredir stats`

use std::collections::BTreeSet;
use std::time::{Instant, SystemTime};

use anyhow::Result;

use super::grammar::{self, Filter, Global};
use super::{filter, rows};
use xdpredir::datapath::{self, Pins, RuleStore};
use xdpredir::host::device;
use xdpredir::view::json::{RuleRow, Snapshot, StatsEgress, StatsInterface};
use xdpredir::view::{self, watch};

pub fn run(global: &Global, args: &grammar::Stats) -> Result<()> {
    let pins = datapath::locate(global.pin_dir.as_deref())?;
    let meant = &args.filter;
    let first = take(&pins, meant)?;
    // Later, what is meant may come and go.
    filter::require(meant, &first.rules)?;
    let Some(interval) = args.watch else {
        if global.json {
            return view::json::print(&first);
        }
        view::text(view::table::stats(&first, None))?;
        return Ok(());
    };

    if global.json {
        return watch::lines(interval, || view::json::line(&take(&pins, meant)?));
    }
    let mut before = (first, Instant::now());
    watch::screen(interval, || {
        let now = (take(&pins, meant)?, Instant::now());
        let text = view::table::stats(&now.0, Some((&before.0, now.1 - before.1)));
        before = now;
        Ok(text)
    })
}

fn take(pins: &Pins, meant: &Filter) -> Result<Snapshot> {
    let snapshot = datapath::read(pins, || read(pins, meant))?;
    snapshot.ok_or_else(|| datapath::not_attached(pins))
}

fn read(pins: &Pins, meant: &Filter) -> Result<Snapshot> {
    let interfaces = datapath::interfaces(pins)?
        .into_iter()
        .map(|interface| {
            let (actions, outcomes) = interface.outcomes(pins)?;
            Ok(StatsInterface {
                ifname: interface.name(),
                ifindex: interface.ifindex,
                mode: interface.mode,
                actions,
                outcomes,
            })
        })
        .collect::<Result<_>>()?;
    let store = RuleStore::open(pins)?;
    let rules = rows::of(&store, meant)?;
    Ok(Snapshot {
        timestamp: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
        interfaces,
        egress: egress(&rules)?,
        unattributed: store.unattributed()?,
        rules,
    })
}

/// Those that are there.
fn egress(rules: &[RuleRow]) -> Result<Vec<StatsEgress>> {
    let there = rules.iter().filter(|row| row.ifname.is_some());
    let indexes: BTreeSet<u32> = there.map(|row| row.ifindex).collect();
    let mut devices = Vec::new();
    for ifindex in indexes {
        devices.extend(device::by_index(ifindex)?.map(|device| StatsEgress {
            ifname: device.name,
            ifindex,
            tx_dropped: device.tx_dropped,
        }));
    }
    Ok(devices)
}
