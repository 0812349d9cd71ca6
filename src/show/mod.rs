//! Tables and JSON.

pub mod columns;
mod human;
pub mod json;
pub mod refresh;
pub mod table;
pub mod watch;
