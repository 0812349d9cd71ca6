//! Tables and JSON.

mod human;
pub mod json;
pub mod table;
pub mod watch;
