//! Whether packets can reach a backend, as far as the host knows without asking its neighbours.

use std::fmt;

use serde::Serialize;

/// The first of these that holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendState {
    /// Nothing speaks against it.
    #[default]
    Up,
    /// Somebody has said that the server is down.
    MarkedDown,
    /// The device that the backend was added with is unregistered.
    DeviceGone,
    LinkDown,
    /// The server has another MAC address now.
    StaleMac,
    /// It was found by a route that is gone.
    NoRoute,
    /// It takes no new flows, because its weight is 0.
    Draining,
}

impl fmt::Display for BackendState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BackendState::Up => "up",
            BackendState::MarkedDown => "marked down",
            BackendState::DeviceGone => "device gone",
            BackendState::LinkDown => "link down",
            BackendState::StaleMac => "stale MAC",
            BackendState::NoRoute => "no route",
            BackendState::Draining => "draining",
        })
    }
}
