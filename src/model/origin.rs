//! How a backend was found, so that it can be found again.

use std::fmt;
use std::str::FromStr;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// By route and neighbour.
    Route,
    /// On this device.
    Device(String),
    /// In the network namespace of this process, and of none that gets its number after it.
    Pid { pid: u32, started: u64 },
    /// In the network namespace of this name or path.
    Netns(String),
    /// In the network namespace of this container.
    Container(String),
}

impl Origin {
    /// Whether it leads to the server's new address too, if that changes.
    pub fn is_followed(&self) -> bool {
        *self != Origin::Route
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Route => f.write_str("route"),
            Origin::Device(name) => write!(f, "device {name}"),
            Origin::Pid { pid, started } => write!(f, "pid {pid} started {started}"),
            Origin::Netns(name) => write!(f, "netns {name}"),
            Origin::Container(name) => write!(f, "container {name}"),
        }
    }
}

impl FromStr for Origin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = "not route, nor device, pid, netns or container with its name";
        if text == "route" {
            return Ok(Origin::Route);
        }
        let (way, name) = text.split_once(' ').ok_or(unknown)?;
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(unknown);
        }
        match way {
            "device" => Ok(Origin::Device(name.into())),
            "pid" => process(name).ok_or(unknown),
            "netns" => Ok(Origin::Netns(name.into())),
            "container" => Ok(Origin::Container(name.into())),
            _ => Err(unknown),
        }
    }
}

fn process(text: &str) -> Option<Origin> {
    let (pid, started) = text.split_once(" started ")?;
    Some(Origin::Pid {
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
            assert_eq!(text.parse::<Origin>().unwrap().to_string(), text);
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
            assert!(text.parse::<Origin>().is_err(), "{text}");
        }
    }
}
