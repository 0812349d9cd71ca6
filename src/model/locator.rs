//! How a backend was found, so that it can be found again.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// How a backend is found again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Locator {
    /// By the host's route, and its neighbour table.
    Route,
    Device(String),
    /// In the network namespace of this process. The kernel gives the numbers of processes that ended to
    /// others, which started at another time.
    Pid {
        pid: u32,
        /// When the process started, in clock ticks after the host did.
        started: u64,
    },
    /// In the network namespace of this name or path.
    Netns(String),
    Container(String),
}

impl Locator {
    /// Whether the server is found even where its address has changed.
    pub fn is_followed(&self) -> bool {
        *self != Locator::Route
    }
}

impl fmt::Display for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Locator::Route => f.write_str("route"),
            Locator::Device(name) => write!(f, "device {name}"),
            Locator::Pid { pid, started } => write!(f, "pid {pid} started {started}"),
            Locator::Netns(name) => write!(f, "netns {name}"),
            Locator::Container(name) => write!(f, "container {name}"),
        }
    }
}

impl FromStr for Locator {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = "not route, nor device, pid, netns or container with its name";
        if text == "route" {
            return Ok(Locator::Route);
        }
        let (kind, name) = text.split_once(' ').ok_or(unknown)?;
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(unknown);
        }
        match kind {
            "device" => Ok(Locator::Device(name.into())),
            "pid" => process(name).ok_or(unknown),
            "netns" => Ok(Locator::Netns(name.into())),
            "container" => Ok(Locator::Container(name.into())),
            _ => Err(unknown),
        }
    }
}

impl Serialize for Locator {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Locator {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = |why| de::Error::custom(format!("origin {text:?}: {why}"));
        text.parse().map_err(wrong)
    }
}

fn process(text: &str) -> Option<Locator> {
    let (pid, started) = text.split_once(" started ")?;
    Some(Locator::Pid {
        pid: pid.parse().ok()?,
        started: started.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints() {
        for text in [
            "route",
            "device wan 0",
            "pid 17 started 9",
            "netns /run/netns/a",
            "container web",
        ] {
            assert_eq!(text.parse::<Locator>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "router",
            "device",
            "device ",
            "pid 17",
            "pid x started 9",
            "vm web",
            "container a\nb",
        ] {
            assert!(text.parse::<Locator>().is_err(), "{text}");
        }
    }
}
