//! Tables and JSON.

pub mod answers;
pub mod capture;
pub mod chain;
pub mod columns;
pub mod difference;
pub mod doctor;
mod escape;
pub mod explain;
pub mod failures;
pub mod features;
pub mod flows;
mod frame_line;
pub mod history;
pub mod json;
mod out;
pub mod pcapng;
pub mod refresh;
pub mod remedy;
pub mod rules;
pub mod ruleset;
pub mod screen;
pub mod stats;
mod style;
pub mod table;
pub mod terminal;
mod trends;
mod units;
pub mod watch;

pub use escape::escape;
pub use frame_line::{frame_line, hex, hex_lines, time_of_day};
pub use out::{complaint, line, notice, sentence, text, warning};
pub use units::count;
