//! All that asks the host: namespaces, devices and their features, routes and neighbours.

pub mod address;
pub mod capability;
pub mod container;
pub mod device;
mod device_features;
pub mod ethtool;
pub mod features;
mod genetlink;
mod guess;
pub mod kernel;
pub mod locks;
pub mod namespaces;
pub mod neighbour;
mod netlink;
pub mod netns;
pub mod origin;
pub mod path;
pub mod peer;
pub mod process;
pub mod route;
pub mod server;
mod sys;
pub mod sysctl;
pub mod xdp;

pub use sys::default_sigpipe;
