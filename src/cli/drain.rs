//! `xdpredir rule drain`

use std::io::{IsTerminal, stdout};
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::grammar::{Global, RuleDrain};
use super::warnings;
use xdpredir::control::{self, Drained, Draining, Pins, Progress};
use xdpredir::error::Exit;
use xdpredir::model::{ForAnswers, Remedy, Verb};
use xdpredir::view::watch::Ended;
use xdpredir::view::{self, watch};

/// How often connections are counted: that reads all of their table.
const INTERVAL: Duration = Duration::from_secs(1);

/// The columns of a bar beside a number.
const WIDE_ENOUGH: u16 = 72;

#[derive(Serialize)]
struct Report {
    server: IpAddr,
    drained: usize,
    connections: u64,
    deleted: usize,
    result: &'static str,
    #[serde(flatten)]
    for_answers: ForAnswers,
}

pub fn run(global: &Global, pins: &Pins, args: &RuleDrain) -> Result<ExitCode> {
    let server = args.server;
    // Before anything changes: Ctrl-C is to be heard from then on.
    let stop = watch::on_interrupt()?;
    let mut draining = control::drain(pins, server, &(&args.rules).into())?;
    if !global.json {
        begun(server, &draining)?;
    }
    let mut shown = Shown::new(global)?;
    let (mut left, mut done) = (0, Drained::default());
    let waited = watch::until(&stop, INTERVAL, args.timeout, || {
        let (now, is_done) = match draining.step()? {
            Progress::Left(now) => (now, false),
            Progress::Done(drained) => {
                done = drained;
                (0, true)
            }
        };
        left = now;
        if !is_done {
            shown.show(left)?;
        }
        Ok(is_done)
    });
    shown.end();
    let ended = waited?;
    report(global, server, &draining, &done, left, ended)?;
    Ok(match ended {
        Ended::Done => ExitCode::SUCCESS,
        Ended::TimedOut | Ended::Interrupted => {
            let why = still_there(args, left, ended);
            let remedy = Remedy::from(Verb::RuleDrain(server)) + " goes on";
            warnings::complain(global, &(why, remedy).into());
            match ended {
                Ended::Interrupted => ExitCode::from(watch::INTERRUPTED),
                _ => ExitCode::from(Exit::Failed as u8),
            }
        }
    })
}

fn begun(server: IpAddr, draining: &Draining) -> Result<()> {
    let rules = view::count(draining.backends, "rule");
    view::sentence(format_args!("{server} takes no new flows in {rules}"))?;
    if draining.forgetful > 0 {
        let rules = view::count(draining.forgetful, "rule");
        view::sentence(format_args!(
            "  flows of {rules} are not remembered, and go elsewhere at once"
        ))?;
    }
    view::answers::say(&draining.for_answers)
}

fn still_there(args: &RuleDrain, left: u64, ended: Ended) -> String {
    let server = args.server;
    let left = view::count(left as usize, "connection");
    let when = match ended {
        Ended::Interrupted => "when this was interrupted".to_string(),
        _ => format!("after {}", humantime::format_duration(args.timeout)),
    };
    format!("{left} of {server} left {when}: it stays drained, and takes no new flows")
}

fn report(
    global: &Global,
    server: IpAddr,
    draining: &Draining,
    done: &Drained,
    left: u64,
    ended: Ended,
) -> Result<()> {
    let deleted = done.deleted.len();
    if global.json {
        let mut for_answers = draining.for_answers.clone();
        for_answers.extend(done.for_answers.clone());
        return view::json::print(&Report {
            server,
            drained: draining.backends,
            connections: left,
            deleted,
            result: match ended {
                Ended::Done => "done",
                Ended::TimedOut => "timeout",
                Ended::Interrupted => "interrupted",
            },
            for_answers,
        });
    }
    if ended != Ended::Done {
        return Ok(());
    }
    let rules = view::count(deleted, "rule");
    view::sentence(match draining.backends - deleted {
        0 => format!("no connections left: deleted {server} in {rules}"),
        others => format!(
            "no connections left: deleted {server} in {rules}; other runs have changed {others} meanwhile"
        ),
    })?;
    view::answers::say(&done.for_answers)
}

/// How many connections are left: a bar on a terminal, and elsewhere a line once that changes.
enum Shown {
    Bar(ProgressBar),
    Lines { last: Option<u64> },
    Nothing,
}

impl Shown {
    fn new(global: &Global) -> Result<Self> {
        if global.json {
            return Ok(Shown::Nothing);
        }
        if !stdout().is_terminal() || !view::terminal::moves_cursor() {
            return Ok(Shown::Lines { last: None });
        }
        // A bar on two lines could not be drawn over.
        let template = match view::terminal::width(&stdout()) {
            Some(..WIDE_ENOUGH) => "{msg}",
            _ => "{bar:40} {msg}",
        };
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout());
        Ok(Shown::Bar(
            bar.with_style(ProgressStyle::with_template(template)?),
        ))
    }

    fn show(&mut self, left: u64) -> Result<()> {
        let text = || format!("{} left", view::count(left as usize, "connection"));
        match self {
            Shown::Bar(bar) => {
                let most = bar.length().unwrap_or(0).max(left);
                bar.set_length(most);
                bar.set_position(most - left);
                bar.set_message(text());
            }
            Shown::Lines { last } if *last != Some(left) => {
                *last = Some(left);
                view::line(text())?;
            }
            _ => {}
        }
        Ok(())
    }

    fn end(self) {
        if let Shown::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
