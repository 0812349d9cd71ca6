//! What `rule refresh` has done.

use std::fmt;

use serde::Serialize;

use crate::model::{Adjacency, Backend, Match, Port, Proto, Rule, VlanId};

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
    port: Port,
    vlan: Option<VlanId>,
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
            vlan: matches.vlan,
            matches,
        }
    }
}

#[derive(Serialize)]
pub struct Refreshed {
    #[serde(flatten)]
    of: Of,
    origin: Option<String>,
    old: Through,
    new: Through,
}

#[derive(Serialize)]
struct Through {
    #[serde(flatten)]
    way: Adjacency,
    ifname: Option<String>,
}

impl Through {
    fn new(backend: &Backend, ifname: Option<String>) -> Self {
        let way = Adjacency::of(backend);
        Through { way, ifname }
    }

    fn device(&self) -> String {
        let name = self.ifname.as_deref().unwrap_or("gone");
        format!("{} ({name})", self.way.ifindex)
    }
}

impl Refreshed {
    pub fn new(rule: &Rule, old: &Backend, new: &Backend, names: [Option<String>; 2]) -> Self {
        let [before, now] = names;
        Refreshed {
            of: Of::new(rule),
            origin: old.origin.as_ref().map(ToString::to_string),
            old: Through::new(old, before),
            new: Through::new(new, now),
        }
    }

    fn changes(&self) -> String {
        let devices = [&self.old, &self.new].map(Through::device);
        self.old.way.changes(&self.new.way, devices)
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
            let (of, server) = (refreshed.of.matches, &refreshed.old.way.server);
            writeln!(f, "refreshed {of} -> {server}: {}", refreshed.changes())?;
        }
        if self.refreshed.is_empty() && self.failed.is_empty() {
            writeln!(f, "nothing to refresh")?;
        }
        Ok(())
    }
}
