//! One verb a file: gather, call, show.

pub mod attach;
mod check;
pub mod completions;
pub mod detach;
pub mod doctor;
pub mod features;
pub mod lab;
mod load;
mod rows;
pub mod rule;
pub mod stats;
pub mod status;
