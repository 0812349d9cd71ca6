//! All that asks the host: namespaces, devices, routes and neighbours.

pub mod container;
pub mod device;
pub mod kernel;
pub mod neighbour;
mod netlink;
pub mod netns;
pub mod path;
pub mod process;
pub mod route;
pub mod server;
mod sys;

pub use sys::default_sigpipe;
