//! `xdpredir stats`

use std::time::{Duration, Instant};

use anyhow::Result;

use super::grammar::{self, Global};
use super::suggest;
use xdpredir::control::{self, RuleSelector, Sampler};
use xdpredir::model::Snapshot;
use xdpredir::view::failures::Advice;
use xdpredir::view::stats::Earlier;
use xdpredir::view::{self, screen, terminal, watch};

pub fn run(global: &Global, args: &grammar::Stats) -> Result<()> {
    let pins = super::pins(global)?;
    let selector = RuleSelector::from(&args.filter);
    let mut sampler = Sampler::new(&pins, &selector, args.per_cpu);
    let mut first = Snapshot::default();
    sampler.renew(&mut first)?;
    // Later, what is selected may come and go.
    selector.require(&first.rules)?;
    let renew = |snapshot: &mut Snapshot| sampler.renew(snapshot);
    let advice = Advice {
        reasons: control::loss_reasons,
        shell: suggest::shell(global),
    };
    match args.watch {
        None if global.json => view::json::print(&first),
        None => view::text(view::stats::text(&first, None, &advice)),
        Some(interval) if global.json => objects(first, interval, renew),
        Some(interval) if terminal::has_a_screen() => {
            screen::watch(first, interval, &advice, renew)
        }
        Some(interval) => blocks(first, interval, &advice, renew),
    }
}

/// Prints one object a line.
fn objects(
    mut snapshot: Snapshot,
    interval: Duration,
    mut renew: impl FnMut(&mut Snapshot) -> Result<()>,
) -> Result<()> {
    watch::lines(interval, || {
        renew(&mut snapshot)?;
        view::json::line(&snapshot)
    })
}

/// Prints block after block where the cursor cannot be moved.
fn blocks(
    mut snapshot: Snapshot,
    interval: Duration,
    advice: &Advice,
    mut renew: impl FnMut(&mut Snapshot) -> Result<()>,
) -> Result<()> {
    let mut at = Instant::now();
    watch::lines(interval, || {
        let mut earlier = Earlier::of(&snapshot);
        renew(&mut snapshot)?;
        earlier.elapsed = at.elapsed();
        at += earlier.elapsed;
        Ok(view::stats::text(&snapshot, Some(&earlier), advice))
    })
}
