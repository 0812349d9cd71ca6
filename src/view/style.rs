//! Colours, on terminals that take them: by NO_COLOR, CLICOLOR, CLICOLOR_FORCE and TERM.

use std::env;

use anstream::stream::RawStream;
use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

use super::terminal;

/// What a colour says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Packets are lost, or not redirected.
    Bad,
    /// They may be.
    Doubtful,
    /// Something comes.
    Good,
}

impl Tone {
    pub fn color(self) -> AnsiColor {
        match self {
            Tone::Bad => AnsiColor::Red,
            Tone::Doubtful => AnsiColor::Yellow,
            Tone::Good => AnsiColor::Green,
        }
    }
}

/// Whether what is written there may have colours.
pub fn is_wanted(on: &impl RawStream) -> bool {
    let is_forced = env::var("CLICOLOR_FORCE").is_ok_and(|force| force != "0");
    AutoStream::choice(on) != ColorChoice::Never && (is_forced || terminal::moves_cursor())
}

pub fn paint(text: &str, tone: Tone, on: &impl RawStream) -> String {
    if is_wanted(on) {
        painted(text, tone)
    } else {
        text.into()
    }
}

pub fn painted(text: &str, tone: Tone) -> String {
    let style = Style::new().fg_color(Some(tone.color().into()));
    format!("{style}{text}{style:#}")
}
