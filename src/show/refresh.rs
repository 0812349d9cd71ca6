//! What `rule refresh` has done.

use std::fmt;

use serde::Serialize;

use crate::model::{Backend, Match, Proto, Rule};

#[derive(Default, Serialize)]
pub struct Report {
    pub refreshed: Vec<Refreshed>,
    pub failed: Vec<Failed>,
}

/// A backend's rule.
#[derive(Serialize)]
struct Of {
    src: String,
    proto: Proto,
    port: u16,
    vlan: Option<u16>,
    #[serde(skip)]
    matches: Match,
}

impl Of {
    fn new(rule: &Rule) -> Self {
        let matches = rule.matches;
        Of {
            src: matches.src.to_string(),
            proto: matches.proto,
            port: matches.port,
            vlan: Some(matches.vlan).filter(|&vlan| vlan != 0),
            matches,
        }
    }
}

#[derive(Serialize)]
pub struct Refreshed {
    #[serde(flatten)]
    of: Of,
    origin: Option<String>,
    old: Way,
    new: Way,
}

#[derive(Serialize)]
struct Way {
    server: String,
    mac: String,
    source_mac: String,
    ifindex: u32,
    ifname: Option<String>,
    completes_checksum: bool,
}

impl Way {
    fn new(backend: &Backend, ifname: Option<String>) -> Self {
        Way {
            server: backend.server.to_string(),
            mac: backend.mac.to_string(),
            source_mac: backend.source_mac.to_string(),
            ifindex: backend.ifindex,
            ifname,
            completes_checksum: backend.completes_checksum,
        }
    }

    fn device(&self) -> String {
        let name = self.ifname.as_deref().unwrap_or("gone");
        format!("{} ({name})", self.ifindex)
    }
}

impl Refreshed {
    pub fn new(rule: &Rule, old: &Backend, new: &Backend, names: [Option<String>; 2]) -> Self {
        let [before, now] = names;
        Refreshed {
            of: Of::new(rule),
            origin: old.origin.as_ref().map(ToString::to_string),
            old: Way::new(old, before),
            new: Way::new(new, now),
        }
    }

    /// What is another now, in words.
    fn changes(&self) -> String {
        let (old, new) = (&self.old, &self.new);
        let completes = |way: &Way| if way.completes_checksum { "yes" } else { "no" }.to_string();
        let all = [
            ("server", old.server.clone(), new.server.clone()),
            ("mac", old.mac.clone(), new.mac.clone()),
            ("ifindex", old.device(), new.device()),
            ("source mac", old.source_mac.clone(), new.source_mac.clone()),
            ("completes checksums", completes(old), completes(new)),
        ];
        let changed: Vec<String> = all
            .into_iter()
            .filter(|(_, old, new)| old != new)
            .map(|(what, old, new)| format!("{what} {old} -> {new}"))
            .collect();
        if changed.is_empty() {
            return format!("ifindex {} is another device now", new.device());
        }
        changed.join(", ")
    }
}

#[derive(Serialize)]
pub struct Failed {
    #[serde(flatten)]
    of: Of,
    server: String,
    origin: Option<String>,
    error: String,
}

impl Failed {
    pub fn new(rule: &Rule, backend: &Backend, why: &str) -> Self {
        Failed {
            of: Of::new(rule),
            server: backend.server.to_string(),
            origin: backend.origin.as_ref().map(ToString::to_string),
            error: why.into(),
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failed {
            of, server, error, ..
        } = self;
        write!(f, "{} -> {server} stays as it is: {error}", of.matches)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for refreshed in &self.refreshed {
            let (of, server) = (refreshed.of.matches, &refreshed.old.server);
            writeln!(f, "refreshed {of} -> {server}: {}", refreshed.changes())?;
        }
        if self.refreshed.is_empty() && self.failed.is_empty() {
            writeln!(f, "nothing to refresh")?;
        }
        Ok(())
    }
}
