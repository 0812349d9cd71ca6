//! Tables and JSON.

pub mod columns;
pub mod commands;
pub mod doctor;
mod failures;
pub mod features;
pub mod json;
mod out;
pub mod refresh;
mod style;
pub mod table;
pub mod terminal;
mod units;
pub mod watch;

pub use out::{complaint, line, sentence, text, warning};
pub use units::count;
