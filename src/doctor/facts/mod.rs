//! All that the checks look at, gathered at one moment.

mod backend;
mod destination;
mod device;
mod host;
mod reply;

use std::collections::BTreeMap;
use std::net::IpAddr;

pub use backend::{
    BackendFacts, Identity, Locators, LostLocator, Moved, Neighbour, PeerAddress, Whereabouts,
};
pub use destination::DestinationFacts;
pub use device::{ArrivingSession, BridgeEntry, DeviceFacts, InterfaceFacts, PeerFacts};
pub use host::{HostFacts, StalePins, Trial};
pub use reply::{
    Asked, Certainty, Delivery, Others, Reply, ReplyArrival, ReturnRoute, ServerFacts, Source,
};

use crate::model::{
    EphemeralPorts, Failures, Features, LinkState, Match, Mode, NamedPolicy, Outcomes, Purpose,
    Rule, SourcePorts,
};

#[derive(Default)]
pub struct Facts {
    pub host: HostFacts,
    /// Those that are looked at.
    pub interfaces: Vec<InterfaceFacts>,
    /// The indexes of all that are attached.
    pub attached: Vec<u32>,
    pub rules: Vec<Rule>,
    pub backends: Vec<BackendFacts>,
    /// The devices that are attached or redirected to, by ifindex.
    pub devices: BTreeMap<u32, DeviceFacts>,
    /// What is below those in this namespace: the ports of bridges, the devices that VLANs and macvlans
    /// stand on.
    pub below: BTreeMap<u32, Features>,
    /// From which this host sends requests of its own.
    pub ephemeral_ports: EphemeralPorts,
    /// From which connections get source ports.
    pub source_ports: Option<SourcePorts>,
    /// By which addresses this host reaches servers, where rules make these the source of packets.
    pub own_sources: BTreeMap<IpAddr, Option<IpAddr>>,
    /// Lost frames, by egress device.
    pub losses: BTreeMap<u32, Failures>,
    /// What became of the packets that arrived, by the index of the attached interface.
    pub outcomes: BTreeMap<u32, Outcomes>,
    pub stale_pins: Vec<StalePins>,
    pub bridge_entries: Vec<BridgeEntry>,
    /// Of rules whose clients may be on a link with this host.
    pub destinations: Vec<DestinationFacts>,
}

impl Facts {
    pub fn matches(&self) -> impl Iterator<Item = &Match> {
        self.rules.iter().map(|rule| &rule.matches)
    }

    /// A match in words, with the name of its interface where that is attached.
    pub fn text(&self, matches: &Match) -> String {
        let is_it = |i: &&InterfaceFacts| Some(i.ifindex) == matches.ingress;
        let interface = self.interfaces.iter().find(is_it);
        let name = interface.map(|interface| interface.name.as_str());
        matches.named(name).to_string()
    }

    /// The attached interfaces in native mode that rules take packets on.
    pub fn native(&self) -> impl Iterator<Item = &InterfaceFacts> {
        self.live().filter(|i| i.mode == Mode::Native)
    }

    /// The attached interfaces that rules take packets on.
    pub fn live(&self) -> impl Iterator<Item = &InterfaceFacts> {
        let takes =
            |i: &&InterfaceFacts| i.state == LinkState::Attached && i.purpose == Purpose::Rules;
        self.interfaces.iter().filter(takes)
    }

    /// Those interfaces, each with its device.
    pub fn ingress(&self) -> impl Iterator<Item = (&InterfaceFacts, &DeviceFacts)> {
        let device = |i: &InterfaceFacts| self.devices.get(&i.ifindex);
        self.live().filter_map(move |i| Some((i, device(i)?)))
    }

    /// The devices that packets are redirected to, by rules and by policies.
    pub fn egress(&self) -> impl Iterator<Item = &DeviceFacts> {
        let policies = self.live().filter_map(|i| i.policy.device());
        let backends = self.backends.iter().map(|b| b.ifindex);
        let mut used: Vec<u32> = backends.chain(policies).chain(self.forwarding()).collect();
        used.sort_unstable();
        used.dedup();
        used.into_iter().filter_map(|ifindex| self.serving(ifindex))
    }

    /// The indexes of the devices that rules forward to.
    fn forwarding(&self) -> impl Iterator<Item = u32> {
        let rules = self.rules.iter();
        rules.filter_map(|rule| rule.action.ifindex())
    }

    pub fn is_egress(&self, ifindex: u32) -> bool {
        self.redirecting_to(ifindex).next().is_some() && self.serving(ifindex).is_some()
    }

    /// An interface's policy with the name of its device.
    pub fn policy(&self, interface: &InterfaceFacts) -> NamedPolicy {
        let device = interface.policy.device();
        let device = device.and_then(|ifindex| self.serving(ifindex));
        NamedPolicy {
            policy: interface.policy,
            ifname: device.map(|device| device.name().into()),
        }
    }

    /// Whether rules have a backend by this device, or forward to it.
    pub fn has_backend_by(&self, ifindex: u32) -> bool {
        let mut used = self.backends.iter().map(|b| b.ifindex);
        used.any(|used| used == ifindex) || self.forwarding().any(|used| used == ifindex)
    }

    /// Whether policies or rules forward to this device.
    pub fn is_forwarded_to(&self, ifindex: u32) -> bool {
        let by_policy = self.live().any(|i| i.policy.device() == Some(ifindex));
        by_policy || self.forwarding().any(|used| used == ifindex)
    }

    /// The live interfaces whose packets go to a device: all of them by a rule, or those whose policy
    /// forwards there.
    pub fn redirecting_to(&self, ifindex: u32) -> impl Iterator<Item = &InterfaceFacts> {
        let by_rule = self.has_backend_by(ifindex);
        let live = self.live();
        live.filter(move |i| by_rule || i.policy.device() == Some(ifindex))
    }

    /// The egress device with this index; None where it is gone.
    pub fn serving(&self, ifindex: u32) -> Option<&DeviceFacts> {
        self.devices.get(&ifindex).filter(|link| link.in_service)
    }

    /// Backends whose device is there, with it.
    pub fn served(&self) -> impl Iterator<Item = (&BackendFacts, &DeviceFacts)> {
        let with = |backend: &'_ BackendFacts| self.serving(backend.ifindex);
        let backends = self.backends.iter();
        backends.filter_map(move |backend| Some((backend, with(backend)?)))
    }

    pub fn native_names(&self) -> Vec<&str> {
        self.native().map(|i| i.name.as_str()).collect()
    }

    /// The native interfaces whose packets go to a device.
    pub fn natives_to(&self, ifindex: u32) -> Vec<&str> {
        let natives = self
            .redirecting_to(ifindex)
            .filter(|i| i.mode == Mode::Native);
        natives.map(|i| i.name.as_str()).collect()
    }
}
