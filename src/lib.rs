//! The library under the command: everything but the command line's grammar and its verbs.
//!
//! Calls go one way: `control` → `doctor` → `datapath` → `host` → `model`; `view` shows plain data, and
//! `lab`, the test beds, stands apart.

pub mod control;
pub mod datapath;
pub mod doctor;
pub mod error;
pub mod host;
pub mod lab;
pub mod model;
pub mod view;
