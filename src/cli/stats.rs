//! `xdpredir stats`

use std::time::{Duration, Instant};

use anyhow::Result;

use super::grammar::{self, Global};
use super::suggest;
use xdpredir::control::{self, RuleSelector};
use xdpredir::model::Snapshot;
use xdpredir::view::failures::Advice;
use xdpredir::view::stats::Earlier;
use xdpredir::view::{self, screen, terminal, watch};

pub fn run(global: &Global, args: &grammar::Stats) -> Result<()> {
    let pins = super::pins(global)?;
    let selector = RuleSelector::from(&args.filter);
    let take = || control::snapshot(&pins, &selector, args.per_cpu);
    let first = take()?;
    // Later, what is selected may come and go.
    selector.require(&first.rules)?;
    let advice = Advice {
        reasons: control::loss_reasons,
        shell: suggest::shell(global),
    };
    match args.watch {
        None if global.json => view::json::print(&first),
        None => view::text(view::stats::text(&first, None, &advice)),
        Some(interval) if global.json => watch::lines(interval, || view::json::line(&take()?)),
        Some(interval) if terminal::has_a_screen() => screen::watch(first, interval, &advice, take),
        Some(interval) => blocks(first, interval, &advice, take),
    }
}

/// Prints block after block where the cursor cannot be moved.
fn blocks(
    first: Snapshot,
    interval: Duration,
    advice: &Advice,
    take: impl Fn() -> Result<Snapshot>,
) -> Result<()> {
    let mut before = (first, Instant::now());
    watch::lines(interval, || {
        let now = (take()?, Instant::now());
        let earlier = Earlier::new(&before.0, now.1 - before.1);
        let text = view::stats::text(&now.0, Some(&earlier), advice);
        before = now;
        Ok(text)
    })
}
