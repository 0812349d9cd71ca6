//! What a network namespace is to have, as files say it: read, checked, and found on this host.

mod backend;
mod compile;
mod file;
mod head;
mod parse;
mod place;
mod row;
mod sought;

use std::collections::HashMap;

use anyhow::{Context, Result};

pub use self::file::read;
pub use self::place::{Place, Source, Sources};
pub use self::sought::{Host, Sought};

use self::compile::Compiler;
use super::ruleset_file::bad;
use crate::model::{Backend, InterfaceEntry, Match, Prefix, Rule, SourcePorts, TableSize};

/// What files say, and where they say it.
#[derive(Debug, Default)]
pub struct Wanted {
    pub group: Option<(Place, String)>,
    pub connections: Option<(Place, TableSize)>,
    pub snat_ports: Option<(Place, SourcePorts)>,
    /// None: interfaces stay as they are.
    pub interfaces: Option<Vec<(Place, InterfaceEntry)>>,
    pub rules: Vec<WantedRule>,
    places: Places,
    /// What can't be found now.
    pub missing: Vec<Missing>,
}

impl Wanted {
    /// The number of the rule with a match.
    pub fn number_of(&self, matches: &Match) -> Option<usize> {
        self.places.get(matches).map(|&number| number as usize)
    }
}

/// A rule that is wanted.
#[derive(Debug)]
pub struct WantedRule {
    pub place: Place,
    pub rule: Rule,
    /// It does not say how answers come back.
    pub is_open: bool,
    /// It is of rows, each of which has one of its backends.
    is_of_rows: bool,
}

impl WantedRule {
    /// The rule, which is not needed here any more.
    pub fn take(&mut self) -> Rule {
        let backends = std::mem::take(&mut self.rule.backends);
        self.rule.with(backends)
    }
}

/// Something that can't be found now.
#[derive(Debug)]
pub struct Missing {
    pub place: Place,
    /// What is missing, in words.
    pub what: String,
    pub error: anyhow::Error,
    /// The backend that it is, with the number of its rule: it has no device, and perhaps no address.
    pub backend: Option<(usize, Backend)>,
}

/// Understands files, and looks for what they name. `progress` hears how many rules were read, of how many that
/// are known of.
pub fn understand(
    sources: &Sources,
    src: Option<Prefix>,
    host: &impl Host,
    progress: impl FnMut(usize, usize),
) -> Result<Wanted> {
    let mut compiler = Compiler::new(host, src, progress);
    let mut says_something = false;
    for number in 0..sources.0.len() {
        let parsed = parse::each(sources, number as u32, &mut compiler);
        says_something |= parsed.map_err(|fault| fault.failure(sources))?;
    }
    if !says_something {
        let names = sources.0.iter().map(|source| source.name.as_str());
        let names = names.collect::<Vec<_>>().join(", ");
        let none =
            "no rule and no interface is in there; what is to have none says rule = [], or []";
        return Err(bad(none.into())).context(names);
    }
    compiler.finish().map_err(|fault| fault.failure(sources))
}

/// The port of the demo that came before, which rules have that name none.
const DEMO_PORT: u16 = 7999;

/// Where the rules with these matches are.
type Places = HashMap<Match, u32>;
