//! Tables and JSON.

pub mod answers;
pub mod columns;
pub mod difference;
pub mod doctor;
mod escape;
pub mod explain;
pub mod failures;
pub mod features;
pub mod flows;
pub mod history;
pub mod json;
mod out;
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
pub use out::{complaint, line, notice, sentence, text, warning};
pub use units::count;
