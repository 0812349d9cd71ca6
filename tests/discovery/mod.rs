//! Backends that are found, not typed: in network namespaces, of processes, in containers; and found
//! again once they have moved.

mod bed;
mod containers;
mod found;
mod refresh;
mod states;
mod veth;
