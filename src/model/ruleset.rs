//! What a network namespace is to have, as files say it: one shape for TOML and JSON. What is left out has the
//! default that it has in `attach` and `rule add`.

use std::fmt::Display;
use std::net::IpAddr;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    Action, ActionKind, Backend, HashOf, Locator, Mac, Mode, PolicySpec, Pops, Port, Ports, Prefix,
    Proto, Reply, Rule, Snat, SourcePorts, TableSize, TooLong, VlanId, Weight,
};

/// What a network namespace is to have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table")]
#[schemars(title = "Rule set of xdpredir")]
pub struct RuleSet {
    /// The group whose members may change rules [default: as it is]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// How many connections are remembered, or a few more [default: 262144, or as it is]
    #[serde(default, with = "connections", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<u32>", range(min = 1, max = 4194304))]
    pub connections: Option<TableSize>,
    /// The range of source ports that connections get, such as "10000-32767" [default: as it is]
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", regex(pattern = "^[0-9]+-[0-9]+$"))]
    pub snat_ports: Option<SourcePorts>,
    /// The interfaces that the program is attached to [default: those that there are]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<Vec<InterfaceEntry>>,
    /// The rules [default: none]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Vec<RuleEntry>>,
}

/// An interface that the program is attached to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct InterfaceEntry {
    /// The name of the device, its own or an alternative one
    pub name: String,
    /// Where the program runs [default: auto]
    #[serde(default, skip_serializing_if = "ModeEntry::is_auto")]
    pub mode: ModeEntry,
    /// What becomes of frames that no rule matches: pass, drop, or forward:DEV [default: pass]
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(with = "String", regex(pattern = "^(pass|drop|forward:.+)$"))]
    pub policy: PolicySpec,
    /// Whether the frames are counted that the kernel loses after the redirect [default: true]
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub ledger: bool,
}

/// Where the program runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ModeEntry {
    /// Where it pays
    #[default]
    Auto,
    /// In the driver
    Native,
    /// Generic XDP
    Skb,
    /// tc, on arrival
    Tc,
}

/// A rule: a match, an action and, where that is to redirect, backends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct RuleEntry {
    /// Destination address or prefix, IPv4 or IPv6 [default: any destination]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub dst: Option<Prefix>,
    /// Source address or prefix [default: any source]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub src: Option<Prefix>,
    /// Protocol of the packets [default: udp]
    #[serde(default = "udp")]
    pub proto: Proto,
    /// Destination ports: one, a range such as "7000-7010", or "any" [default: 7999; any with icmp and any]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::ports")]
    pub port: Option<Ports>,
    /// VLAN identifier of the outer tag [default: untagged frames]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<u16>", range(min = 1, max = 4094))]
    pub vlan: Option<VlanId>,
    /// VLAN identifier of the second tag [default: it is not compared]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<u16>", range(min = 1, max = 4094))]
    pub inner_vlan: Option<VlanId>,
    /// The interface where packets arrive [default: any]
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    pub ingress: Option<String>,
    /// What becomes of the packets [default: redirect]
    #[serde(default, skip_serializing_if = "is_default")]
    pub action: ActionKind,
    /// With forward: the device that frames leave by
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// With forward: its index, where no name is given
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ifindex: Option<u32>,
    /// With forward: the destination that frames get [default: MAC addresses stay]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::mac")]
    pub mac: Option<Mac>,
    /// What becomes of packets that are longer than the egress device's MTU [default: icmp]
    #[serde(default, skip_serializing_if = "is_default")]
    pub too_long: TooLong,
    /// How answers come back [default: nat for UDP and TCP where this host can see them, otherwise none]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<Reply>,
    /// The source address that packets get; "auto" is the one by which this host reaches the backend
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub snat: Option<Snat>,
    /// A flow keeps its backend when others join and weights change [default: false]
    #[serde(default, skip_serializing_if = "is_default")]
    pub sticky: bool,
    /// The program answers for the destination on the link [default: false]
    #[serde(default, skip_serializing_if = "is_default")]
    pub announce: bool,
    /// What of a packet chooses one of several backends [default: flow]
    #[serde(default, skip_serializing_if = "is_default")]
    pub hash: HashOf,
    /// Whether the TTL or hop limit is decremented [default: true]
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub decrement_ttl: bool,
    /// Where packets are redirected to
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 255))]
    pub backend: Vec<BackendEntry>,
}

/// One of the servers that a rule sends packets to. It is found by its container, network namespace, process or
/// route, which is the default; by its device, where no MAC address is given; and not at all where that is given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct BackendEntry {
    /// Address of the server [default: the one in the namespace that is named, or behind the device]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<IpAddr>,
    /// It is found in the network namespace of this docker or podman container
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// It is found in this network namespace: a name under /run/netns, or a path
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
    /// It is found in the network namespace of this process
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub pid: Option<u32>,
    /// When the process started, in clock ticks after the host did: another one may have its number now
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<u64>,
    /// It is found by the host's route to it, whatever else is said
    #[serde(default, skip_serializing_if = "is_default")]
    pub route: bool,
    /// The egress device
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Its index, where no name is given
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ifindex: Option<u32>,
    /// Its MAC address, or that of the next hop; a hint where it is found
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::mac")]
    pub mac: Option<Mac>,
    /// Share of the flows, relative to the rule's other backends [default: 1]
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(with = "u16")]
    pub weight: Weight,
    /// No packet goes there [default: false]
    #[serde(default, skip_serializing_if = "is_default")]
    pub marked_down: bool,
    /// The destination port that packets get
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<u16>", range(min = 1))]
    pub to_port: Option<Port>,
    /// Only MAC addresses change [default: true where the rule has reply = "direct", otherwise false]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_ip: Option<bool>,
    /// The 802.1Q tag that is added
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<u16>", range(min = 1, max = 4094))]
    pub push_vlan: Option<VlanId>,
    /// How many tags are removed [default: 0]
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(with = "u16", range(max = 2))]
    pub pop_vlans: Pops,
}

impl ModeEntry {
    fn is_auto(&self) -> bool {
        *self == ModeEntry::Auto
    }

    /// The mode that is asked for; None: the one that pays.
    pub fn mode(self) -> Option<Mode> {
        match self {
            ModeEntry::Auto => None,
            ModeEntry::Native => Some(Mode::Native),
            ModeEntry::Skb => Some(Mode::Skb),
            ModeEntry::Tc => Some(Mode::Tc),
        }
    }
}

impl From<Mode> for ModeEntry {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Native => ModeEntry::Native,
            Mode::Skb => ModeEntry::Skb,
            Mode::Tc => ModeEntry::Tc,
        }
    }
}

impl BackendEntry {
    /// A backend as files have it: where it is found again, what was found is not said.
    fn of(rule: &Rule, backend: &Backend, mut name: impl FnMut(u32) -> Option<String>) -> Self {
        let rewrite = &backend.rewrite;
        let is_direct = rule.translatable_by().next().is_none();
        let mut entry = BackendEntry {
            server: Some(backend.server),
            weight: backend.weight,
            marked_down: backend.marked_down,
            to_port: rewrite.to_port,
            keep_ip: Some(true).filter(|_| rewrite.keep_ip && !is_direct),
            push_vlan: rewrite.push_vlan,
            pop_vlans: rewrite.pops,
            ..BackendEntry::default()
        };
        match &backend.origin {
            Some(locator) => entry.set_locator(locator),
            None => {
                entry.mac = Some(backend.mac);
                entry.device = name(backend.ifindex);
                entry.ifindex = Some(backend.ifindex).filter(|_| entry.device.is_none());
            }
        }
        entry
    }

    /// Says how it is found. By its route it is where nothing is said.
    pub fn set_locator(&mut self, locator: &Locator) {
        match locator {
            Locator::Route => {}
            Locator::Device(name) => self.device = Some(name.clone()),
            Locator::Pid { pid, started } => {
                (self.pid, self.started) = (Some(*pid), Some(*started));
            }
            Locator::Netns(name) => self.netns = Some(name.clone()),
            Locator::Container(name) => self.container = Some(name.clone()),
        }
    }
}

impl RuleEntry {
    /// A rule as files have it. `name` tells how the device with an index is called.
    pub fn of(rule: &Rule, mut name: impl FnMut(u32) -> Option<String>) -> Self {
        let matches = &rule.matches;
        let is_any = |prefix: &Prefix| prefix.prefix_len() == 0;
        let ingress = matches
            .ingress
            .map(|ifindex| name(ifindex).unwrap_or_else(|| ifindex.to_string()));
        let has_ports = !matches!(matches.proto, Proto::Icmp | Proto::Any);
        let entry = RuleEntry {
            dst: Some(matches.dst).filter(|dst| !is_any(dst)),
            src: Some(matches.src).filter(|src| !is_any(src) || is_any(&matches.dst)),
            proto: matches.proto,
            port: Some(matches.ports).filter(|ports| has_ports || !ports.is_any()),
            vlan: matches.vlan,
            inner_vlan: matches.inner_vlan,
            ingress,
            action: rule.action.kind(),
            too_long: rule.too_long,
            ..RuleEntry::default()
        };
        match rule.action {
            Action::Redirect => RuleEntry {
                reply: Some(match rule.translatable_by().next() {
                    Some(_) => rule.reply,
                    None => Reply::Direct,
                }),
                snat: rule.snat,
                sticky: rule.sticky,
                announce: rule.announce,
                hash: rule.hash,
                decrement_ttl: rule.decrement_ttl,
                backend: rule
                    .backends
                    .iter()
                    .map(|backend| BackendEntry::of(rule, backend, &mut name))
                    .collect(),
                ..entry
            },
            Action::Forward { ifindex, macs, .. } => {
                let device = name(ifindex);
                RuleEntry {
                    ifindex: Some(ifindex).filter(|_| device.is_none()),
                    device,
                    mac: macs.map(|macs| macs.destination),
                    ..entry
                }
            }
            Action::Pass | Action::Drop | Action::Socket => entry,
        }
    }
}

/// A rule that says nothing.
impl Default for RuleEntry {
    fn default() -> Self {
        RuleEntry {
            dst: None,
            src: None,
            proto: Proto::Udp,
            port: None,
            vlan: None,
            inner_vlan: None,
            ingress: None,
            action: ActionKind::default(),
            device: None,
            ifindex: None,
            mac: None,
            too_long: TooLong::default(),
            reply: None,
            snat: None,
            sticky: false,
            announce: false,
            hash: HashOf::default(),
            decrement_ttl: true,
            backend: Vec::new(),
        }
    }
}

fn udp() -> Proto {
    Proto::Udp
}

fn yes() -> bool {
    true
}

fn is_true(value: &bool) -> bool {
    *value
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A value that is written as it is typed.
mod text {
    use super::*;

    pub fn serialize<T: Display, S: Serializer>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.collect_str(value),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let text = Option::<String>::deserialize(deserializer)?;
        let wrong = |text: &str, why| D::Error::custom(format!("{text}: {why}"));
        let value = text.map(|text| text.parse().map_err(|why| wrong(&text, why)));
        value.transpose()
    }
}

/// How many connections there is room for.
mod connections {
    use super::*;

    pub fn serialize<S: Serializer>(
        size: &Option<TableSize>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        size.map(TableSize::connections).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<TableSize>, D::Error> {
        let number = Option::<u64>::deserialize(deserializer)?;
        let size = number.map(|number| {
            let why = |why| D::Error::custom(format!("{number}: {why}"));
            number.to_string().parse().map_err(why)
        });
        size.transpose()
    }
}

/// Schemas of types that JSON Schema has no type for.
mod schema {
    use schemars::{Schema, SchemaGenerator, json_schema};

    pub fn ports(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "integer", "minimum": 1, "maximum": 65535 },
                { "type": "string", "pattern": "^(any|[0-9]+(-[0-9]+)?)$" },
            ],
        })
    }

    pub fn mac(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[0-9A-Fa-f]{1,2}([:-][0-9A-Fa-f]{1,2}){5}$",
        })
    }
}
