//! The use cases: what a command line, a prompt or another program may ask for. Typed requests in, reports
//! out; nothing is printed here.

pub mod validate;
