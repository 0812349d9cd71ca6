//! Rows: what `rule list` prints, and what the demo took that came before.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::control::error::Error;
use crate::control::ruleset_file::bad;
use crate::error::Failure;
use crate::model::{
    ActionKind, BackendEntry, Mac, Port, Prefix, Proto, Reply, RuleEntry, RuleRecord,
};

/// A rule with one of its backends, or without.
pub trait Row: DeserializeOwned {
    /// The same, as a file has rules. `src` is the source address where the row has none.
    fn entry(self, src: Option<Prefix>) -> Result<RuleEntry>;
}

impl Row for RuleRecord {
    fn entry(self, _: Option<Prefix>) -> Result<RuleEntry> {
        let redirects = self.action == ActionKind::Redirect;
        let reply = || bad("keep_ip and reply contradict each other".into());
        let reply = self.reply().ok_or_else(reply)?;
        let says_reply = self.reply.is_some() || self.snat_auto;
        let entry = RuleEntry {
            dst: self.dst,
            src: Some(self.src),
            proto: self.proto,
            port: Some(self.port),
            vlan: self.vlan,
            inner_vlan: self.inner_vlan,
            // Names outlive reboots, and indexes do not.
            ingress: self
                .ingress
                .clone()
                .or(self.in_ifindex.map(|ifindex| ifindex.to_string())),
            action: self.action,
            too_long: self.too_long,
            reply: Some(reply).filter(|reply| says_reply && *reply != Reply::Direct),
            snat: self.snat().filter(|_| reply != Reply::Direct),
            sticky: self.sticky,
            announce: self.announce,
            hash: self.hash,
            decrement_ttl: self.decrement_ttl || !redirects,
            ..RuleEntry::default()
        };
        if !redirects {
            ensure!(
                self.server.is_none() && self.origin.is_none(),
                bad(format!("action {}: takes no server", self.action))
            );
            return Ok(RuleEntry {
                ifindex: self.ifindex.filter(|_| self.ifname.is_none()),
                device: self.ifname,
                mac: self.mac,
                ..entry
            });
        }
        let pops = || bad("pop_vlan and pop_vlans contradict each other".into());
        let mut backend = BackendEntry {
            server: self.server,
            weight: self.weight,
            marked_down: self.marked_down,
            to_port: self.to_port,
            keep_ip: Some(reply == Reply::Direct),
            push_vlan: self.push_vlan,
            pop_vlans: self.pops().ok_or_else(pops)?,
            ..BackendEntry::default()
        };
        match &self.origin {
            Some(locator) => backend.set_locator(locator),
            None => {
                backend.mac = self.mac;
                backend.ifindex = self.ifindex.filter(|_| self.ifname.is_none());
                backend.device = self.ifname;
            }
        }
        Ok(RuleEntry {
            backend: vec![backend],
            ..entry
        })
    }
}

/// A backend of the demo: its rules are for all UDP to one port that a source address sends.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct DemoRow {
    server: IpAddr,
    mac: Mac,
    ifindex: u32,
    #[serde(alias = "sourceAddr")]
    src: Option<Prefix>,
    #[serde(default, rename = "forward_packages")]
    _packets: Option<IgnoredAny>,
    #[serde(default, rename = "forward_bytes")]
    _bytes: Option<IgnoredAny>,
}

impl Row for DemoRow {
    fn entry(self, src: Option<Prefix>) -> Result<RuleEntry> {
        let src = self.src.or(src);
        ensure!(src.is_some(), Failure::new(Error::WhichSource));
        Ok(RuleEntry {
            src,
            proto: Proto::Udp,
            port: Port::new(super::DEMO_PORT).map(Into::into),
            backend: vec![BackendEntry {
                server: Some(self.server),
                mac: Some(self.mac),
                ifindex: Some(self.ifindex),
                ..BackendEntry::default()
            }],
            ..RuleEntry::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(more: &str) -> Result<RuleEntry> {
        let least = r#""src":"10.0.0.7","proto":"udp","port":53,"server":"10.1.1.1","mac":"2:0:0:0:0:1","ifindex":4"#;
        let record: RuleRecord = serde_json::from_str(&format!("{{{least}{more}}}")).unwrap();
        record.entry(None)
    }

    #[test]
    fn a_locator_comes_before_a_name_and_a_name_before_an_index() {
        let by = |more| entry(more).unwrap().backend.remove(0);
        let found = by(r#","ifname":"old0","origin":"container web""#);
        assert_eq!(found.container.as_deref(), Some("web"));
        assert_eq!((found.mac, found.device, found.ifindex), (None, None, None));
        let named = by(r#","ifname":"out0""#);
        assert_eq!(
            (named.device.as_deref(), named.ifindex),
            (Some("out0"), None)
        );
        assert_eq!(by("").ifindex, Some(4));
        assert!(by("").mac.is_some());
    }

    #[test]
    fn how_answers_come_back_may_be_left_open() {
        let reply = |more| entry(more).unwrap().reply;
        assert_eq!(reply(""), None);
        assert_eq!(reply(r#","reply":"none""#), Some(Reply::None));
        assert_eq!(reply(r#","snat_auto":true"#), Some(Reply::Nat));
        let direct = entry(r#","keep_ip":true"#).unwrap();
        assert_eq!(
            (direct.reply, direct.backend[0].keep_ip),
            (None, Some(true))
        );
        assert!(entry(r#","keep_ip":true,"reply":"nat""#).is_err());
    }

    #[test]
    fn a_row_of_the_demo_needs_a_source() {
        let row =
            r#"{"server":"172.17.0.2","mac":"02:42:ac:11:00:02","ifindex":25,"forward_bytes":7}"#;
        let read = |src: Option<&str>| {
            let row: DemoRow = serde_json::from_str(row).unwrap();
            row.entry(src.map(|src| src.parse().unwrap()))
        };
        assert!(read(None).is_err());
        let entry = read(Some("192.168.122.10")).unwrap();
        assert_eq!(entry.src.unwrap().to_string(), "192.168.122.10/32");
        assert_eq!(entry.port.unwrap().to_string(), "7999");
    }
}
