//! All that asks the host: namespaces, devices, routes and neighbours.

pub mod device;
mod netlink;
pub mod netns;
pub mod process;
pub mod route;
mod sys;
