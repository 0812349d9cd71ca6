//! All that asks the host: namespaces, devices and their features, routes and neighbours.

pub mod address;
pub mod author;
pub mod capability;
pub mod device;
pub mod device_features;
pub mod discovery;
pub mod ethtool;
pub mod features;
pub mod genetlink;
pub mod kernel;
pub mod link_address;
pub mod locks;
pub mod mounts;
pub mod namespaces;
pub mod neighbour;
pub mod netlink;
pub mod netns;
pub mod peer;
pub mod process;
pub mod queues;
pub mod route;
pub mod ssh;
mod sys;
pub mod sysctl;
pub mod tc;
pub mod timer;
pub mod xdp;
mod xdp_features_fallback;

pub use sys::default_sigpipe;
