//! Tables and JSON.

pub mod columns;
mod failures;
mod human;
pub mod json;
pub mod table;
pub mod watch;
