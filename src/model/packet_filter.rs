//! Which packets somebody wants to see.

use super::{Ports, Prefix, Proto, VlanId};

/// Which packets somebody wants to see: those that have all that is given. Unlike a rule, it takes what is for
/// everybody, too, and frames with whatever tags where none is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PacketFilter {
    pub dst: Option<Prefix>,
    /// Of the same IP version.
    pub src: Option<Prefix>,
    pub proto: Option<Proto>,
    pub ports: Option<Ports>,
    pub vlan: Option<VlanId>,
    /// With `vlan`.
    pub inner_vlan: Option<VlanId>,
}
