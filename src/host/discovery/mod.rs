//! Finds backends: by route and neighbour, by a veth's peer, in a container's network namespace.

mod container;
mod error;
mod locate;
mod next_hop;
mod veth_pair;

pub use error::Error;
pub use locate::{is_lost, locate, on_device};
pub use next_hop::{Probe, Resolved, answers, other_device};
pub use veth_pair::AddressHint;
