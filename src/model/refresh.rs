//! What finding the backends again has changed.

use std::net::IpAddr;

use serde::Serialize;

use super::{Adjacency, Locator, Match};

/// The backends that moved, and those that were not found.
#[derive(Default, Serialize)]
pub struct RefreshReport {
    /// The backends that have a new adjacency.
    pub refreshed: Vec<RefreshedBackend>,
    /// The backends that stay as they were.
    pub failed: Vec<FailedBackend>,
}

/// A backend that has a new adjacency.
#[derive(Serialize)]
pub struct RefreshedBackend {
    /// The backend's rule.
    #[serde(flatten)]
    pub matches: Match,
    /// How the backend was found.
    pub origin: Option<Locator>,
    /// The adjacency before.
    pub old: NamedAdjacency,
    /// The adjacency now.
    pub new: NamedAdjacency,
}

/// An adjacency with the name of its device.
#[derive(Serialize)]
pub struct NamedAdjacency {
    /// The adjacency.
    #[serde(flatten)]
    pub adjacency: Adjacency,
    /// None: the device is gone.
    pub ifname: Option<String>,
}

/// A backend that was not found.
#[derive(Serialize)]
pub struct FailedBackend {
    /// The backend's rule.
    #[serde(flatten)]
    pub matches: Match,
    /// The backend's address.
    pub server: IpAddr,
    /// How the backend was found before.
    pub origin: Option<Locator>,
    /// Why it was not found.
    pub error: String,
}
