//! What becomes of the frames that arrive at an interface and that no rule matches.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An interface's action for frames that no rule matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// The host's stack takes them.
    #[default]
    Pass,
    Drop,
    /// They leave by a device, as they are.
    Forward {
        /// 0: the device is gone, and another one has its index.
        ifindex: u32,
        /// Whether the device completes partial checksums.
        completes_checksum: bool,
    },
}

impl Policy {
    /// The device that frames leave by.
    pub fn device(&self) -> Option<u32> {
        match self {
            Policy::Forward { ifindex, .. } => Some(*ifindex),
            Policy::Pass | Policy::Drop => None,
        }
    }

    /// Its name, without its device.
    pub fn name(&self) -> &'static str {
        match self {
            Policy::Pass => "pass",
            Policy::Drop => "drop",
            Policy::Forward { .. } => "forward",
        }
    }
}

/// A policy that is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PolicySpec {
    #[default]
    Pass,
    Drop,
    /// To the device with this name, its own or an alternative one.
    Forward(String),
}

impl FromStr for PolicySpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("forward:")) {
            ("pass", _) => Ok(PolicySpec::Pass),
            ("drop", _) => Ok(PolicySpec::Drop),
            (_, Some("")) => Err("the device is missing".into()),
            (_, Some(device)) => Ok(PolicySpec::Forward(device.into())),
            _ => Err("it is one of pass, drop and forward:DEV".into()),
        }
    }
}

impl fmt::Display for PolicySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PolicySpec::Pass => f.write_str("pass"),
            PolicySpec::Drop => f.write_str("drop"),
            PolicySpec::Forward(device) => write!(f, "forward:{device}"),
        }
    }
}

impl Serialize for PolicySpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PolicySpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let wrong = |why| de::Error::custom(format!("policy {text}: {why}"));
        text.parse().map_err(wrong)
    }
}

/// A policy, and the name of its device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedPolicy {
    pub policy: Policy,
    /// None: there is no device, or it is gone.
    pub ifname: Option<String>,
}

impl NamedPolicy {
    /// As it is typed, unless it is the default, or its device is gone.
    pub fn option(&self) -> Option<String> {
        let is_gone = self.policy.device().is_some() && self.ifname.is_none();
        (self.policy != Policy::Pass && !is_gone).then(|| self.to_string())
    }
}

/// As it is typed; a device that is gone has no name.
impl fmt::Display for NamedPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.policy.name())?;
        match (self.policy, &self.ifname) {
            (Policy::Forward { .. }, Some(name)) => write!(f, ":{name}"),
            (Policy::Forward { .. }, None) => f.write_str(" (device gone)"),
            _ => Ok(()),
        }
    }
}

impl Serialize for NamedPolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut keys = serializer.serialize_struct("NamedPolicy", 3)?;
        keys.serialize_field("policy", self.policy.name())?;
        keys.serialize_field("policy_ifindex", &self.policy.device())?;
        keys.serialize_field("policy_ifname", &self.ifname)?;
        keys.end()
    }
}

/// Whether what leaves by a device arrives at an interface, be it through others whose policies forward it.
/// `peer` is the other end of a device in this network namespace, `device` that of an interface's policy.
pub fn arrives_at(
    interface: u32,
    leaves_by: u32,
    peer: impl Fn(u32) -> Option<u32>,
    device: impl Fn(u32) -> Option<u32>,
) -> bool {
    let mut seen = HashSet::new();
    let mut at = Some(leaves_by);
    while let Some(arrived) = at.and_then(&peer) {
        if arrived == interface {
            return true;
        }
        if !seen.insert(arrived) {
            return false;
        }
        at = device(arrived);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Devices 1 and 2, 3 and 4, … are pairs; interface 4 forwards to 5, 6 to 7, 8 to 7.
    fn arrives(interface: u32, leaves_by: u32) -> bool {
        let peer = |device: u32| {
            (device < 20).then(|| {
                if device % 2 == 1 {
                    device + 1
                } else {
                    device - 1
                }
            })
        };
        let device = |interface| match interface {
            4 => Some(5),
            6 | 8 => Some(7),
            _ => None,
        };
        arrives_at(interface, leaves_by, peer, device)
    }

    #[test]
    fn what_leaves_by_a_pair_arrives_at_its_other_end_and_beyond() {
        assert!(arrives(2, 1));
        assert!(!arrives(2, 2));
        assert!(arrives(6, 3), "3 is the peer of 4, which forwards to 5");
        assert!(arrives(8, 3));
        assert!(
            !arrives(1, 3),
            "8 forwards to its own peer, which is no loop of 1"
        );
        assert!(!arrives(1, 21), "a device without a peer leads elsewhere");
    }

    #[test]
    fn a_policy_is_shown_as_it_is_typed() {
        let forward = |ifname: Option<&str>| NamedPolicy {
            policy: Policy::Forward {
                ifindex: 7,
                completes_checksum: true,
            },
            ifname: ifname.map(String::from),
        };
        assert_eq!(NamedPolicy::default().to_string(), "pass");
        assert_eq!(forward(Some("veth0")).to_string(), "forward:veth0");
        assert_eq!(forward(None).to_string(), "forward (device gone)");
        let json = serde_json::to_value(forward(None)).expect("JSON");
        let expected = serde_json::json!({
            "policy": "forward", "policy_ifindex": 7, "policy_ifname": null,
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn a_policy_is_read_as_it_is_typed() {
        let forward = |device: &str| Ok(PolicySpec::Forward(device.into()));
        assert_eq!("pass".parse(), Ok(PolicySpec::Pass));
        assert_eq!("drop".parse(), Ok(PolicySpec::Drop));
        assert_eq!("forward:veth0".parse(), forward("veth0"));
        assert_eq!("forward:pass".parse(), forward("pass"));
        for bad in ["", "Pass", "forward", "forward:", "forward veth0", "reject"] {
            assert!(bad.parse::<PolicySpec>().is_err(), "{bad}");
        }
    }
}
