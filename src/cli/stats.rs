//! `xdpredir stats`

use std::time::Instant;

use anyhow::Result;

use super::grammar::{self, Global};
use super::suggest;
use xdpredir::control::{self, RuleSelector};
use xdpredir::view::failures::Advice;
use xdpredir::view::{self, watch};

pub fn run(global: &Global, args: &grammar::Stats) -> Result<()> {
    let pins = super::pins(global)?;
    let selector = RuleSelector::from(&args.filter);
    let take = || control::snapshot(&pins, &selector);
    let first = take()?;
    // Later, what is selected may come and go.
    selector.require(&first.rules)?;
    let advice = Advice {
        reasons: control::loss_reasons,
        shell: suggest::shell(global),
    };
    let Some(interval) = args.watch else {
        if global.json {
            return view::json::print(&first);
        }
        return view::text(view::table::stats(&first, None, &advice));
    };
    if global.json {
        return watch::lines(interval, || view::json::line(&take()?));
    }
    let mut before = (first, Instant::now());
    watch::screen(interval, || {
        let now = (take()?, Instant::now());
        let text = view::table::stats(&now.0, Some((&before.0, now.1 - before.1)), &advice);
        before = now;
        Ok(text)
    })
}
