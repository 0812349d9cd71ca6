//! Tables and JSON.

pub mod columns;
mod human;
pub mod json;
pub mod progress;
pub mod table;
pub mod watch;
