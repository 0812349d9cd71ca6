//! What finding the backends again has changed.

use std::net::IpAddr;

use serde::Serialize;

use super::{Adjacency, ForAnswers, Locator, Match};

/// The backends that moved, and those that were not found.
#[derive(Default, Serialize)]
pub struct RefreshReport {
    /// The backends that have a new adjacency.
    pub refreshed: Vec<RefreshedBackend>,
    /// The backends that stay as they were.
    pub failed: Vec<FailedBackend>,
    /// The devices whose other end has moved.
    pub other_ends: Vec<OtherEnd>,
    #[serde(flatten)]
    pub for_answers: ForAnswers,
}

/// Where the other end of a device is now.
#[derive(Debug, Serialize)]
pub struct OtherEnd {
    pub ifname: String,
    pub ifindex: u32,
    /// It is in another network namespace.
    pub in_other_netns: bool,
}

/// A backend that has a new adjacency.
#[derive(Serialize)]
pub struct RefreshedBackend {
    #[serde(flatten)]
    pub matches: Match,
    /// The name of the interface that the rule compares.
    #[serde(rename = "in")]
    pub ingress: Option<String>,
    pub origin: Option<Locator>,
    pub old: NamedAdjacency,
    pub new: NamedAdjacency,
}

/// An adjacency with the name of its device.
#[derive(Serialize)]
pub struct NamedAdjacency {
    #[serde(flatten)]
    pub adjacency: Adjacency,
    /// None: the device is gone.
    pub ifname: Option<String>,
    /// The address by which this host reaches the server, where the rule makes that the source.
    pub snat: Option<IpAddr>,
}

/// A backend that was not found, or a rule that forwards by a device that is gone.
#[derive(Serialize)]
pub struct FailedBackend {
    #[serde(flatten)]
    pub matches: Match,
    /// The name of the interface that the rule compares.
    #[serde(rename = "in")]
    pub ingress: Option<String>,
    /// None: the rule has no backends.
    pub server: Option<IpAddr>,
    pub origin: Option<Locator>,
    pub error: String,
}
