//! Repeated output, until Ctrl-C.

use std::io::{Write, stdout};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use crossterm::{cursor, execute, queue, style, terminal};

/// Prints one line after another, and flushes each.
pub fn lines(interval: Duration, mut next: impl FnMut() -> Result<String>) -> Result<()> {
    let stop = on_interrupt()?;
    repeat(interval, &stop, || {
        let mut out = stdout().lock();
        writeln!(out, "{}", next()?)?;
        Ok(out.flush()?)
    })
}

/// Draws a screen again and again in place; prints block after block where the cursor cannot be moved.
pub fn screen(interval: Duration, mut next: impl FnMut() -> Result<String>) -> Result<()> {
    if !super::terminal::has_a_screen() {
        return lines(interval, next);
    }
    let stop = on_interrupt()?;
    // A line that is too long must not take two rows.
    execute!(
        stdout(),
        terminal::EnterAlternateScreen,
        terminal::DisableLineWrap,
        cursor::Hide
    )?;
    let mut last = String::new();
    let result = repeat(interval, &stop, || {
        last = next()?;
        Ok(draw(&last)?)
    });
    execute!(
        stdout(),
        cursor::Show,
        terminal::EnableLineWrap,
        terminal::LeaveAlternateScreen
    )?;
    // The alternate screen is gone: what was last on it is printed, so that it can still be read.
    result.and_then(|()| super::text(last))
}

fn draw(text: &str) -> std::io::Result<()> {
    let mut out = stdout().lock();
    let rows = terminal::size().map_or(usize::MAX, |(_, rows)| usize::from(rows));
    queue!(out, terminal::BeginSynchronizedUpdate, cursor::MoveTo(0, 0))?;
    for line in fitting(text, rows) {
        // Cleared first: after a line as long as the row, the cursor is on that line's last character.
        queue!(
            out,
            terminal::Clear(terminal::ClearType::UntilNewLine),
            style::Print(line),
            cursor::MoveToNextLine(1)
        )?;
    }
    queue!(
        out,
        terminal::Clear(terminal::ClearType::FromCursorDown),
        terminal::EndSynchronizedUpdate
    )?;
    out.flush()
}

/// The lines that fit above the last row, which says how many are hidden.
fn fitting(text: &str, rows: usize) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(String::from).collect();
    let room = rows.saturating_sub(2);
    let hidden = lines.len().saturating_sub(room);
    lines.truncate(room);
    let more = if hidden > 0 {
        format!("; {hidden} more lines: a taller terminal or `xdpredir stats` shows them")
    } else {
        String::new()
    };
    // A narrow terminal cuts off the end of the line, so the key that ends the run comes first.
    lines.push(format!("Ctrl-C ends{more}"));
    lines
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

/// Receives Ctrl-C, SIGTERM and SIGHUP, which would otherwise end the run with the terminal unrestored.
pub fn on_interrupt() -> Result<Receiver<()>> {
    let (send, receive) = mpsc::sync_channel(1);
    ctrlc::set_handler(move || {
        let _ = send.try_send(());
    })
    .context("cannot handle Ctrl-C")?;
    Ok(receive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_said() {
        let text = "1\n2\n3\n4\n5\n";
        assert_eq!(fitting(text, 7), ["1", "2", "3", "4", "5", "Ctrl-C ends"]);
        let cut = fitting(text, 6);
        assert_eq!(cut[..4], ["1", "2", "3", "4"]);
        assert!(cut[4].starts_with("Ctrl-C ends; 1 more lines"), "{cut:?}");
    }
}
