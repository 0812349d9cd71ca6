//! Repeated output, until Ctrl-C.

use std::io::{Write, stdout};
use std::process::exit;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// `timeout` and others send a signal twice, at once.
const LOOKED_AT_WITHIN: Duration = Duration::from_secs(1);

/// The exit code of a run that did not come to its end, as shells have it for SIGINT.
pub const INTERRUPTED: u8 = 130;

/// Prints one line after another, and flushes each.
pub fn lines(interval: Duration, mut next: impl FnMut() -> Result<String>) -> Result<()> {
    let stop = on_interrupt()?;
    repeat(interval, &stop, || {
        let mut out = stdout().lock();
        writeln!(out, "{}", next()?)?;
        Ok(out.flush()?)
    })
}

fn repeat(
    interval: Duration,
    stop: &Receiver<()>,
    mut step: impl FnMut() -> Result<()>,
) -> Result<()> {
    let mut due = Instant::now();
    loop {
        step()?;
        // The next multiple of the interval from the start, so that delays don't add up.
        due = (due + interval).max(Instant::now());
        match stop.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => return Ok(()),
        }
    }
}

/// Why a wait has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Done,
    TimedOut,
    Interrupted,
}

/// Takes a step at an interval until one says that it was the last, until Ctrl-C, or for so long.
pub fn until(
    stop: &Receiver<()>,
    interval: Duration,
    timeout: Duration,
    mut step: impl FnMut() -> Result<bool>,
) -> Result<Ended> {
    let start = Instant::now();
    loop {
        if step()? {
            return Ok(Ended::Done);
        }
        let left = timeout.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Ok(Ended::TimedOut);
        }
        match stop.recv_timeout(interval.min(left)) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => return Ok(Ended::Interrupted),
        }
    }
}

/// Receives Ctrl-C, SIGTERM and SIGHUP, which would otherwise end the run with the terminal unrestored. A later one
/// ends it at once where the first has not been looked at: nobody reads what it writes.
pub fn on_interrupt() -> Result<Receiver<()>> {
    let (send, receive) = mpsc::sync_channel(1);
    let mut sent = None;
    ctrlc::set_handler(move || {
        if send.try_send(()).is_ok() {
            sent = Some(Instant::now());
        } else if sent.is_some_and(|sent| sent.elapsed() > LOOKED_AT_WITHIN) {
            exit(INTERRUPTED.into());
        }
    })
    .context("cannot handle Ctrl-C")?;
    Ok(receive)
}
