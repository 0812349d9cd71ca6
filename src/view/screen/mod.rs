//! A screen of counters that is drawn again and again, and obeys keys as `top` does.

mod figures;
mod keys;
mod page;
mod state;
mod tty;

use std::io::{Write, stdout};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use crossterm::{cursor, queue, style, terminal};

use self::figures::Figures;
use self::state::{Next, State};
use self::tty::{Event, Tty};
use super::failures::Advice;
use crate::model::Snapshot;

/// Shows the counters until somebody has seen enough. What was last on the screen stays to be read.
pub fn watch(
    first: Snapshot,
    interval: Duration,
    advice: &Advice,
    mut renew: impl FnMut(&mut Snapshot) -> Result<()>,
) -> Result<()> {
    let mut tty = Tty::enter()?;
    let mut figures = Figures::new(first);
    let mut state = State::default();
    let mut due = Instant::now() + interval;
    let draw = |figures: &Figures, state: &mut State, has_keys| {
        let lines = page::lines(figures, state, advice, rows(), has_keys);
        let drawn = self::draw(&lines).context("cannot write to the terminal");
        drawn.map(|()| lines)
    };
    let mut last = draw(&figures, &mut state, tty.has_keys())?;
    loop {
        match tty.wait(due)? {
            Event::End => break,
            Event::Resized => {}
            Event::Keys(keys) => {
                // Among a million rules it takes time to choose, and meanwhile more keys are pressed.
                let next: Vec<Next> = keys.into_iter().map(|key| state.press(key)).collect();
                if next.contains(&Next::End) {
                    break;
                }
                if next.contains(&Next::Choose) {
                    figures.choose(&state);
                }
            }
            Event::Due => {
                figures.renew(&mut renew)?;
                figures.choose(&state);
                // The next multiple of the interval from the start, so that delays don't add up.
                due = (due + interval).max(Instant::now());
            }
        }
        last = draw(&figures, &mut state, tty.has_keys())?;
    }
    drop(tty);
    // The last line tells of keys, which have no meaning any more.
    last.pop();
    super::text(last.join("\n") + "\n")
}

fn rows() -> usize {
    terminal::size().map_or(0, |(_, rows)| rows.into())
}

fn draw(lines: &[String]) -> std::io::Result<()> {
    let mut out = stdout().lock();
    queue!(out, terminal::BeginSynchronizedUpdate)?;
    for (row, line) in (0..).zip(lines) {
        // Cleared first: after a line as long as the row, the cursor is on that line's last character.
        queue!(
            out,
            cursor::MoveTo(0, row),
            terminal::Clear(terminal::ClearType::CurrentLine),
            style::Print(line)
        )?;
    }
    let below = u16::try_from(lines.len()).unwrap_or(u16::MAX);
    if usize::from(below) < rows() {
        queue!(
            out,
            cursor::MoveTo(0, below),
            terminal::Clear(terminal::ClearType::FromCursorDown)
        )?;
    }
    queue!(out, terminal::EndSynchronizedUpdate)?;
    out.flush()
}
