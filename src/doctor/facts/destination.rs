//! The addresses that clients ask.

use std::net::IpAddr;

use crate::model::{Mac, Rule};

/// The destination of a rule, as the hosts behind an interface see it.
pub struct DestinationFacts {
    pub rule: Rule,
    /// The index of the interface.
    pub ifindex: u32,
    /// It is in a network that the interface leads to.
    pub on_link: bool,
    /// An address of it that this host has.
    pub own: Option<IpAddr>,
    /// This host's own stack answers for it (`ip neigh add proxy`).
    pub proxied: bool,
    /// The hosts there were asked, and their answers would have come.
    pub asked: bool,
    /// An address of it that another host has.
    pub owner: Option<(IpAddr, Mac)>,
}
