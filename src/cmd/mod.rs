//! One verb a file: gather, call, show.

pub mod attach;
mod check;
pub mod completions;
pub mod detach;
pub mod doctor;
pub mod features;
mod filter;
mod find;
pub mod lab;
mod load;
pub mod needs;
pub mod paste;
mod refresh;
mod rows;
pub mod rule;
mod state;
pub mod stats;
pub mod status;
mod warnings;
