//! A rule's JSON, in and out: what `rule list` prints is what a file of rules may contain.

use std::net::IpAddr;

use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize};

use super::{
    Action, ActionKind, Backend, BackendState, Counter, CpuCounter, Failures, HashOf, Locator, Mac,
    Match, Pops, Port, Ports, Prefix, Proto, Reply, Rule, Snat, TooLong, VlanId, Weight,
};

/// A backend with its rule, or a rule that has no backends. The counters have the names of the demo that
/// came before. What was observed is ignored where a record is read.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct RuleRecord {
    pub src: Prefix,
    pub proto: Proto,
    pub port: Ports,
    /// None: the action has no backends.
    pub server: Option<IpAddr>,
    /// The server's MAC address, or that of the next hop to it; or that which forwarded frames get.
    pub mac: Option<Mac>,
    /// The egress device; None: the action has none.
    pub ifindex: Option<u32>,
    /// The egress device's name; None: it is gone, or there is none.
    pub ifname: Option<String>,
    #[serde(default)]
    pub weight: Weight,
    /// Somebody has said that the server is down.
    #[serde(default)]
    pub marked_down: bool,
    /// Packets that were redirected to the backend.
    #[serde(default, deserialize_with = "ignored")]
    pub forward_packages: u64,
    /// Bytes that were redirected to the backend.
    #[serde(default, deserialize_with = "ignored")]
    pub forward_bytes: u64,
    /// The identifier of the outer VLAN tag; None: the frame has no tag.
    #[serde(default, deserialize_with = "outer_vlan")]
    pub vlan: Option<VlanId>,
    /// The new destination port.
    #[serde(default, deserialize_with = "to_port")]
    pub to_port: Option<Port>,
    /// The new source address.
    pub snat: Option<IpAddr>,
    /// That is the one by which this host reaches the server.
    #[serde(default)]
    pub snat_auto: bool,
    /// Only MAC addresses change.
    #[serde(default)]
    pub keep_ip: bool,
    /// The TTL or hop limit is decremented.
    #[serde(default = "yes")]
    pub decrement_ttl: bool,
    /// The 802.1Q tag that is added.
    #[serde(default, deserialize_with = "push_vlan")]
    pub push_vlan: Option<VlanId>,
    /// At least the outer tag is removed.
    #[serde(default)]
    pub pop_vlan: bool,
    /// How many tags are removed; None: that is not said, but by `pop_vlan`.
    pub pop_vlans: Option<Pops>,
    /// Redirected packets that reached the device. None: no ledger is kept.
    #[serde(default, deserialize_with = "ignored")]
    pub delivered: Option<u64>,
    /// Redirected packets that were lost. None: no ledger is kept.
    #[serde(default, deserialize_with = "ignored")]
    pub failures: Option<Failures>,
    /// What was redirected, by CPU, but for those that redirected nothing; None: nobody asked.
    #[serde(
        default,
        deserialize_with = "ignored",
        skip_serializing_if = "Option::is_none"
    )]
    pub cpus: Option<Vec<CpuCounter>>,
    #[serde(default, deserialize_with = "ignored")]
    pub state: BackendState,
    /// How the backend is found again; None: the user gave its MAC address.
    pub origin: Option<Locator>,
    /// None: any address.
    pub dst: Option<Prefix>,
    /// The identifier of the second tag; None: it is not compared.
    #[serde(default, deserialize_with = "inner_vlan")]
    pub inner_vlan: Option<VlanId>,
    /// The name of the interface where packets arrive; None: any, or it is gone.
    #[serde(rename = "in")]
    pub ingress: Option<String>,
    /// Its index; None: any.
    pub in_ifindex: Option<u32>,
    #[serde(default)]
    pub action: ActionKind,
    #[serde(default)]
    pub too_long: TooLong,
    /// How answers come back; None: that is not said, but by `keep_ip` and `snat_auto`.
    pub reply: Option<Reply>,
    /// A flow keeps its backend when others join and weights change.
    #[serde(default)]
    pub sticky: bool,
    /// The destination is answered for on the link.
    #[serde(default)]
    pub announce: bool,
    /// What of a packet chooses one of several backends.
    #[serde(default)]
    pub hash: HashOf,
    /// What `rule add --json` prints beside.
    #[serde(
        default,
        rename = "warnings",
        deserialize_with = "ignored",
        skip_serializing
    )]
    _warnings: Ignored,
    #[serde(
        default,
        rename = "attached",
        deserialize_with = "ignored",
        skip_serializing
    )]
    _attached: Ignored,
    #[serde(
        default,
        rename = "answers",
        deserialize_with = "ignored",
        skip_serializing
    )]
    _answers: Ignored,
    #[serde(
        default,
        rename = "detached",
        deserialize_with = "ignored",
        skip_serializing
    )]
    _detached: Ignored,
}

/// What is skipped.
#[derive(Clone, Copy, Debug, Default)]
struct Ignored;

impl RuleRecord {
    /// A backend as its rule has it; nothing is observed yet.
    pub fn new(rule: &Rule, backend: &Backend) -> Self {
        let rewrite = &backend.rewrite;
        RuleRecord {
            server: Some(backend.server),
            // One that was not found yet has none.
            mac: Some(backend.mac).filter(|mac| mac.is_unicast()),
            ifindex: Some(backend.ifindex),
            weight: backend.weight,
            marked_down: backend.marked_down,
            to_port: rewrite.to_port,
            snat: rule.snat_of(backend),
            snat_auto: rule.finds_snat_of(backend),
            keep_ip: rewrite.keep_ip,
            push_vlan: rewrite.push_vlan,
            pop_vlan: rewrite.pops.get() > 0,
            pop_vlans: Some(rewrite.pops),
            origin: backend.origin.clone(),
            reply: Some(rule.reply_of(backend)),
            ..RuleRecord::of(rule)
        }
    }

    /// A rule whose action has no backends; nothing is observed yet.
    pub fn of(rule: &Rule) -> Self {
        let matches = &rule.matches;
        let mac = match rule.action {
            Action::Forward { macs, .. } => macs.map(|macs| macs.destination),
            _ => None,
        };
        RuleRecord {
            src: matches.src,
            proto: matches.proto,
            port: matches.ports,
            server: None,
            mac,
            ifindex: rule.action.ifindex(),
            ifname: None,
            weight: Weight::default(),
            marked_down: false,
            forward_packages: 0,
            forward_bytes: 0,
            vlan: matches.vlan,
            to_port: None,
            snat: None,
            snat_auto: false,
            keep_ip: false,
            decrement_ttl: rule.action == Action::Redirect && rule.decrement_ttl,
            push_vlan: None,
            pop_vlan: false,
            pop_vlans: Some(Pops::default()),
            delivered: None,
            failures: None,
            cpus: None,
            state: BackendState::default(),
            origin: None,
            dst: Some(matches.dst),
            inner_vlan: matches.inner_vlan,
            ingress: None,
            in_ifindex: matches.ingress,
            action: rule.action.kind(),
            too_long: rule.too_long,
            reply: None,
            sticky: rule.sticky,
            announce: rule.announce,
            hash: rule.hash,
            _warnings: Ignored,
            _attached: Ignored,
            _answers: Ignored,
            _detached: Ignored,
        }
    }

    /// Adds what was counted. Failures are None where no ledger is kept.
    pub fn count(&mut self, counter: Counter, failures: Option<Failures>) {
        self.forward_packages = counter.packets;
        self.forward_bytes = counter.bytes;
        self.delivered = failures
            .as_ref()
            .map(|lost| counter.packets.saturating_sub(lost.total()));
        self.failures = failures;
    }

    /// Which packets the rule takes.
    pub fn matches(&self) -> Match {
        let any = Match::any_like(self.src.addr());
        Match {
            dst: self.dst.unwrap_or(any.dst),
            src: self.src,
            proto: self.proto,
            ports: self.port,
            vlan: self.vlan,
            inner_vlan: self.inner_vlan,
            ingress: self.in_ifindex,
        }
    }

    /// The match in words, with the name of the interface.
    pub fn matches_text(&self) -> String {
        let interface = self.interface();
        self.matches().named(interface.as_deref()).to_string()
    }

    /// The name of the interface where packets arrive, or that it is gone; None: any.
    pub fn interface(&self) -> Option<String> {
        let ifindex = self.in_ifindex?;
        Some(name_or_gone(self.ingress.clone(), ifindex))
    }

    /// The name of the egress device, or that it is gone; None: there is none.
    pub fn device(&self) -> Option<String> {
        let ifindex = self.ifindex?;
        Some(name_or_gone(self.ifname.clone(), ifindex))
    }

    /// How many tags are removed; None where the record contradicts itself.
    pub fn pops(&self) -> Option<Pops> {
        let said = Pops::new(self.pop_vlan.into())?;
        let pops = self.pop_vlans.unwrap_or(said);
        (self.pop_vlans.is_none() || self.pop_vlan == (pops.get() > 0)).then_some(pops)
    }

    /// The rule's source address.
    pub fn snat(&self) -> Option<Snat> {
        match self.snat_auto {
            true => Some(Snat::Auto),
            false => self.snat.map(Snat::Address),
        }
    }

    /// How answers come back; None where the record contradicts itself.
    pub fn reply(&self) -> Option<Reply> {
        match (self.reply, self.keep_ip) {
            (None, true) => Some(Reply::Direct),
            (None, false) if self.snat_auto => Some(Reply::Nat),
            (None, false) => Some(Reply::None),
            (Some(reply), keeps_ip) => (!keeps_ip || reply == Reply::Direct).then_some(reply),
        }
    }

    /// Redirected packets that were lost, as far as a ledger is kept.
    pub fn lost(&self) -> u64 {
        self.failures.as_ref().map_or(0, Failures::total)
    }

    /// What was redirected to the backend.
    pub fn counter(&self) -> Counter {
        Counter {
            packets: self.forward_packages,
            bytes: self.forward_bytes,
        }
    }

    /// What tells it from all others.
    pub fn identity(&self) -> (Match, Option<IpAddr>) {
        (self.matches(), self.server)
    }
}

pub(super) fn name_or_gone(name: Option<String>, ifindex: u32) -> String {
    name.unwrap_or_else(|| format!("{ifindex} (gone)"))
}

fn yes() -> bool {
    true
}

fn ignored<'de, D: Deserializer<'de>, T: Default>(deserializer: D) -> Result<T, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| T::default())
}

/// 0 says that the frame has no tag, too.
fn outer_vlan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<VlanId>, D::Error> {
    let number = Option::<u64>::deserialize(deserializer)?.filter(|&number| number != 0);
    let vlan = number.map(VlanId::try_from).transpose();
    vlan.map_err(D::Error::custom)
}

fn to_port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Port>, D::Error> {
    number("to_", deserializer)
}

fn inner_vlan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<VlanId>, D::Error> {
    number("inner_", deserializer)
}

fn push_vlan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<VlanId>, D::Error> {
    number("push_", deserializer)
}

/// Reads a number whose key has a word before that of its type, so that an error names the key.
fn number<'de, D, T>(word: &str, deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64, Error = String>,
{
    let number = Option::<u64>::deserialize(deserializer)?;
    let number = number.map(T::try_from).transpose();
    number.map_err(|why| D::Error::custom(format!("{word}{why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = r#""src":"10.0.0.7","proto":"udp","port":53,"server":"10.1.1.1","mac":"2:0:0:0:0:1","ifindex":4"#;

    fn read(more: &str) -> Result<RuleRecord, serde_json::Error> {
        serde_json::from_str(&format!("{{{LEAST}{more}}}"))
    }

    #[test]
    fn what_is_written_is_read_again() {
        let keys = r#","vlan":5,"weight":3,"to_port":54,"snat":"10.1.1.2","snat_auto":true,"decrement_ttl":false,
            "push_vlan":7,"pop_vlan":true,"pop_vlans":2,"origin":"container web","dst":"10.9.0.0/16",
            "inner_vlan":6,"in":"lan","in_ifindex":3,"action":"redirect","too_long":"drop","reply":"nat",
            "sticky":true,"announce":true,"marked_down":true,"hash":"source""#;
        let written = serde_json::to_value(read(keys).unwrap()).unwrap();
        let again: RuleRecord = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(serde_json::to_value(&again).unwrap(), written);
        assert_eq!(
            again.matches_text(),
            "dst 10.9.0.0/16 src 10.0.0.7/32 udp port 53 vlan 5 inner-vlan 6 in lan"
        );
        assert_eq!(again.pops(), Pops::new(2));
        assert_eq!(written["origin"], "container web");
        assert_eq!(written["weight"], 3);
        assert_eq!(written["sticky"], true);
        assert_eq!(written["marked_down"], true);
        assert_eq!(written["hash"], "source");
        assert!(written.get("warnings").is_none());
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let record = read("").unwrap();
        assert_eq!(record.weight.get(), 1);
        assert!(record.decrement_ttl && !record.keep_ip && record.vlan.is_none());
        assert_eq!(record.matches().dst.to_string(), "0.0.0.0/0");
        assert_eq!(record.action, ActionKind::Redirect);
        for none in ["0", "null"] {
            assert!(read(&format!(r#","vlan":{none}"#)).unwrap().vlan.is_none());
        }
    }

    #[test]
    fn removed_tags_are_said_in_one_way_or_two() {
        let pops = |keys| read(keys).unwrap().pops().map(Pops::get);
        assert_eq!(pops(""), Some(0));
        assert_eq!(pops(r#","pop_vlan":true"#), Some(1));
        assert_eq!(pops(r#","pop_vlan":true,"pop_vlans":2"#), Some(2));
        assert_eq!(pops(r#","pop_vlans":2"#), None);
        assert_eq!(pops(r#","pop_vlan":true,"pop_vlans":0"#), None);
    }

    #[test]
    fn how_answers_come_back_is_said_in_one_way_or_two() {
        let reply = |keys| read(keys).unwrap().reply();
        assert_eq!(reply(""), Some(Reply::None));
        assert_eq!(reply(r#","reply":"nat""#), Some(Reply::Nat));
        assert_eq!(reply(r#","keep_ip":true"#), Some(Reply::Direct));
        assert_eq!(reply(r#","reply":"direct""#), Some(Reply::Direct));
        let both = r#","keep_ip":true,"reply":"direct""#;
        assert_eq!(reply(both), Some(Reply::Direct));
        assert_eq!(reply(r#","keep_ip":true,"reply":"nat""#), None);
    }

    #[test]
    fn what_was_observed_is_ignored() {
        let observed = r#","state":"stale_mac","failures":{"mtu":1},"delivered":7,
            "forward_packages":"many","forward_bytes":-1,"warnings":[{}]"#;
        let record = read(observed).unwrap();
        assert_eq!((record.state, record.lost()), (BackendState::Up, 0));
    }

    #[test]
    fn errors_name_the_key() {
        for (more, words) in [
            (r#","to_port":0"#, "to_port 0: ports are 1 to 65535"),
            (r#","push_vlan":4095"#, "push_vlan 4095: VLAN identifiers"),
            (r#","inner_vlan":0"#, "inner_vlan 0: VLAN identifiers"),
            (r#","pop_vlans":3"#, "pop_vlans 3: numbers of removed tags"),
            (
                r#","action":"reject""#,
                "unknown variant `reject`, expected",
            ),
            (r#","weight":65536"#, "weight 65536: weights are"),
            (r#","origin":"vm web""#, "origin \"vm web\": not route"),
            (r#","server_":1"#, "unknown field `server_`"),
        ] {
            let error = read(more).unwrap_err().to_string();
            assert!(error.starts_with(words), "{error}");
        }
    }
}
