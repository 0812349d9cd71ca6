//! Tables and JSON.

pub mod columns;
pub mod commands;
pub mod doctor;
mod failures;
pub mod features;
mod human;
pub mod json;
mod out;
pub mod refresh;
mod style;
pub mod table;
pub mod terminal;
pub mod watch;
mod wrap;

pub use human::count;
pub use out::{complaint, line, sentence, text, warning};
