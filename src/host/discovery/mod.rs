//! Finds backends: by route and neighbour, by a veth's peer, in a container's network namespace.

pub mod container;
pub mod locate;
pub mod next_hop;
pub mod veth_pair;
