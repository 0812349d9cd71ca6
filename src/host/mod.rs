//! All that asks the host: namespaces, devices, routes and neighbours.

pub mod device;
pub mod kernel;
mod netlink;
pub mod netns;
pub mod path;
mod route;
mod sys;

pub use sys::default_sigpipe;
