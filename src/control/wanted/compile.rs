//! Makes rules of what files say. What has to be looked for is looked for at the end, each once and many at a
//! time, because a server that is silent takes seconds.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use anyhow::Result;

use super::backend::{self, Reached};
use super::head::{self, agree};
use super::place::{Fault, Place};
use super::sought::{Host, Sought};
use super::{Missing, Wanted, WantedRule};
use crate::control::ruleset_file::{Asked, bad};
use crate::control::selector::both_families;
use crate::control::{match_text, validate};
use crate::doctor::find_all;
use crate::error::{Exit, exit_code, failure, one_line};
use crate::model::{
    Action, ActionKind, Adjacency, Backend, BackendEntry, InterfaceEntry, MAX_BACKENDS, Macs,
    Prefix, Reply, Rule, RuleEntry, SourcePorts, TableSize,
};

/// What texts are read into.
pub trait Sink {
    /// The source address of rows that have none.
    fn default_source(&self) -> Option<Prefix>;
    fn group(&mut self, place: Place, group: String) -> Result<(), Fault>;
    fn connections(&mut self, place: Place, size: TableSize) -> Result<(), Fault>;
    fn snat_ports(&mut self, place: Place, ports: SourcePorts) -> Result<(), Fault>;
    /// So many rules or rows come, more or less.
    fn expect(&mut self, count: usize);
    /// Interfaces are said, be it none.
    fn interfaces(&mut self);
    fn interface(&mut self, place: Place, entry: InterfaceEntry) -> Result<(), Fault>;
    fn rule(&mut self, place: Place, entry: RuleEntry) -> Result<(), Fault>;
    /// A row has one of the backends of a rule.
    fn row(&mut self, place: Place, entry: RuleEntry) -> Result<(), Fault>;
}

/// Understands what is said, and finds what is named.
pub struct Compiler<'a, H, P> {
    asked: Asked<'a, H>,
    src: Option<Prefix>,
    progress: P,
    expected: usize,
    wanted: Wanted,
    /// Backends that have to be found.
    sought: Vec<Pending>,
    /// Rules whose IP version only their backends can tell.
    adrift: Vec<(Place, bool, RuleEntry)>,
}

/// A backend that is looked for.
struct Pending {
    rule: usize,
    place: Place,
    backend: Backend,
    sought: Sought,
}

type Found = HashMap<Sought, Result<Adjacency, String>>;

impl<'a, H: Host, P: FnMut(usize, usize)> Compiler<'a, H, P> {
    pub fn new(host: &'a H, src: Option<Prefix>, progress: P) -> Self {
        Compiler {
            asked: Asked::new(host),
            src,
            progress,
            expected: 0,
            wanted: Wanted::default(),
            sought: Vec::new(),
            adrift: Vec::new(),
        }
    }

    /// Looks for what has to be found.
    pub fn finish(mut self) -> Result<Wanted, Fault> {
        let mut found = Found::new();
        for (place, is_row, entry) in std::mem::take(&mut self.adrift) {
            self.settle(place, is_row, entry, &mut found)?;
        }
        let sought = self.sought.iter().map(|pending| pending.sought.clone());
        self.find(sought.collect(), &mut found);
        for pending in std::mem::take(&mut self.sought) {
            let result = found.get(&pending.sought).cloned();
            self.place(pending, result)?;
        }
        Ok(self.wanted)
    }

    fn find(&self, mut sought: HashSet<Sought>, found: &mut Found) {
        sought.retain(|sought| !found.contains_key(sought));
        let host = self.asked.host();
        found.extend(find_all(sought, |sought| host.find(sought)));
    }

    /// A rule that has neither an address nor a backend with one: it is for the IP version of the first backend
    /// that is found.
    fn settle(
        &mut self,
        place: Place,
        is_row: bool,
        mut entry: RuleEntry,
        found: &mut Found,
    ) -> Result<(), Fault> {
        let (mut first, mut missing) = (None, Vec::new());
        for backend in &mut entry.backend {
            let any = IpAddr::from([0; 4]);
            let sought = match backend::reached(backend, any, &mut self.asked) {
                Ok(Reached::Sought(sought)) => Sought {
                    ipv6: None,
                    ..sought
                },
                Ok(Reached::Given(_)) => continue,
                Err(error) => {
                    missing.push((name_of(backend), error));
                    continue;
                }
            };
            self.find(HashSet::from([sought.clone()]), found);
            match found.get(&sought) {
                Some(Ok(adjacency)) => {
                    backend.server = Some(adjacency.server);
                    first = first.or(backend.server);
                }
                failed => {
                    let why = failed.and_then(|failed| failed.clone().err());
                    let error = failure(Exit::NotFound, why.unwrap_or_default());
                    missing.push((name_of(backend), error));
                }
            }
        }
        if let Some(family) = first {
            // Those that were not found are looked for again, and noted with their rule.
            return self.add(place, is_row, &entry, family);
        }
        let mut missing = missing.into_iter();
        missing.try_for_each(|(what, error)| self.miss(place, what, error, None))
    }

    fn entry(&mut self, place: Place, is_row: bool, entry: RuleEntry) -> Result<(), Fault> {
        let read = self.wanted.rules.len();
        if read.is_multiple_of(1024) {
            (self.progress)(read, self.expected);
        }
        if entry.action != ActionKind::Redirect {
            return self.act(place, &entry);
        }
        match head::family(&entry) {
            Some(family) => self.add(place, is_row, &entry, family),
            // That is refused, whatever the IP version.
            None if entry.backend.is_empty() => {
                self.add(place, is_row, &entry, IpAddr::from([0; 4]))
            }
            None => {
                self.adrift.push((place, is_row, entry));
                Ok(())
            }
        }
    }

    /// The index of the interface where packets arrive. None where that is missing.
    fn ingress(&mut self, place: Place, entry: &RuleEntry) -> Result<Option<Option<u32>>, Fault> {
        let Some(name) = &entry.ingress else {
            return Ok(Some(None));
        };
        match self.asked.ifindex_or_number(name) {
            Ok(ifindex) => Ok(Some(Some(ifindex))),
            Err(error) => {
                self.miss(place, format!("interface {name}"), error, None)?;
                Ok(None)
            }
        }
    }

    /// A rule without backends.
    fn act(&mut self, place: Place, entry: &RuleEntry) -> Result<(), Fault> {
        let fault = |error| Fault::new(place, error);
        head::require_no_backends(entry).map_err(fault)?;
        let Some(ingress) = self.ingress(place, entry)? else {
            return Ok(());
        };
        let action = self.action(place, entry, ingress)?;
        let families = head::family(entry).map_or_else(both_families, |addr| vec![addr]);
        for family in families {
            let matches = head::matches(entry, family, ingress).map_err(fault)?;
            let rule = Rule {
                too_long: entry.too_long,
                ..Rule::acting(matches, action)
            };
            self.put(place, false, rule, false)?;
        }
        Ok(())
    }

    fn action(
        &mut self,
        place: Place,
        entry: &RuleEntry,
        ingress: Option<u32>,
    ) -> Result<Action, Fault> {
        match entry.action {
            ActionKind::Forward => {}
            ActionKind::Drop => return Ok(Action::Drop),
            ActionKind::Socket => return Ok(Action::Socket),
            _ => return Ok(Action::Pass),
        }
        let fault = |error| Fault::new(place, error);
        let ifindex = match (&entry.device, entry.ifindex) {
            (Some(name), _) => self.asked.ifindex(name),
            (None, Some(ifindex)) => Ok(ifindex),
            (None, None) => {
                return Err(fault(bad(
                    "forward: to which device? device is missing".into()
                )));
            }
        };
        let egress = ifindex.and_then(|ifindex| Ok((ifindex, self.asked.egress(ifindex)?)));
        let (ifindex, egress) = match egress {
            Ok(there) => there,
            Err(error) => {
                let name = entry.device.clone().unwrap_or_default();
                self.miss(place, format!("device {name}"), error, None)?;
                return Ok(Action::Forward {
                    ifindex: 0,
                    macs: None,
                    completes_checksum: false,
                });
            }
        };
        validate::forward(&egress.name, ifindex, ingress).map_err(fault)?;
        Ok(Action::Forward {
            ifindex,
            completes_checksum: egress.completes_checksum,
            macs: entry.mac.map(|destination| Macs {
                destination,
                source: egress.source_mac,
            }),
        })
    }

    /// A rule that redirects, for the IP version of an address.
    fn add(
        &mut self,
        place: Place,
        is_row: bool,
        entry: &RuleEntry,
        family: IpAddr,
    ) -> Result<(), Fault> {
        let fault = |error| Fault::new(place, error);
        let Some(ingress) = self.ingress(place, entry)? else {
            return Ok(());
        };
        let matches = head::matches(entry, family, ingress).map_err(fault)?;
        let rule = head::redirecting(matches, entry).map_err(fault)?;
        let is_open = entry.reply.is_none() && rule.reply == Reply::None;
        let keeps_ip = |backend: &BackendEntry| backend.keep_ip == Some(true);
        let row = is_row.then(|| entry.backend.iter().all(keeps_ip));
        let number = self.put_rule(place, row, rule, is_open)?;
        for (backend, at) in entry.backend.iter().zip(0..) {
            let place = if is_row { place } else { place.backend(at) };
            self.add_backend(place, number, entry, backend)?;
        }
        Ok(())
    }

    fn add_backend(
        &mut self,
        place: Place,
        rule: usize,
        entry: &RuleEntry,
        backend: &BackendEntry,
    ) -> Result<(), Fault> {
        let fault = |error| Fault::new(place, error);
        let wanted = &self.wanted.rules[rule].rule;
        let family = wanted.matches.src.addr();
        let mut unreached = backend::unreached(wanted, entry, backend).map_err(fault)?;
        match backend::reached(backend, family, &mut self.asked) {
            Ok(Reached::Given(adjacency)) => {
                unreached.adjacency = adjacency;
                self.put_backend(place, rule, unreached)
            }
            Ok(Reached::Sought(sought)) => {
                unreached.origin = sought.locator.clone();
                self.sought.push(Pending {
                    rule,
                    place,
                    backend: unreached,
                    sought,
                });
                Ok(())
            }
            Err(error) => {
                let what = name_of(backend);
                self.miss(place, what, error, Some((rule, unreached)))
            }
        }
    }

    /// What was looked for.
    fn place(
        &mut self,
        pending: Pending,
        result: Option<Result<Adjacency, String>>,
    ) -> Result<(), Fault> {
        let Pending {
            rule,
            place,
            mut backend,
            sought,
        } = pending;
        match result {
            Some(Ok(adjacency)) => {
                let wanted = &self.wanted.rules[rule].rule;
                let fits = backend::fits(wanted, &backend.rewrite, adjacency.server);
                fits.map_err(|error| Fault::new(place, error))?;
                backend.adjacency = adjacency;
                self.put_backend(place, rule, backend)
            }
            failed => {
                let why = failed.and_then(Result::err).unwrap_or_default();
                let what = match (sought.locator, sought.server) {
                    (Some(locator), _) if locator.is_followed() => locator.to_string(),
                    (_, server) => format!("server {}", server.unwrap_or(backend.server)),
                };
                let error = failure(Exit::NotFound, why);
                self.miss(place, what, error, Some((rule, backend)))
            }
        }
    }

    /// Notes what is missing. What is wrong whatever there is on the host is a fault.
    fn miss(
        &mut self,
        place: Place,
        what: String,
        error: anyhow::Error,
        backend: Option<(usize, Backend)>,
    ) -> Result<(), Fault> {
        if exit_code(&error) == Exit::Usage {
            return Err(Fault::new(place, error));
        }
        self.wanted.missing.push(Missing {
            place,
            what,
            error,
            backend,
        });
        Ok(())
    }

    fn put_backend(
        &mut self,
        place: Place,
        rule: usize,
        mut backend: Backend,
    ) -> Result<(), Fault> {
        let server = backend.server;
        if self.wanted.rules[rule].rule.finds_snat_of(&backend) {
            match self.asked.source(server) {
                Ok(source) => backend.own_source = Some(source),
                Err(error) => {
                    backend.adjacency.ifindex = 0;
                    let error = failure(Exit::NotFound, one_line(&error));
                    return self.miss(
                        place,
                        format!("server {server}"),
                        error,
                        Some((rule, backend)),
                    );
                }
            }
        }
        let rule = &mut self.wanted.rules[rule].rule;
        let wrong = if rule.backend(server).is_some() {
            format!("{server}: the rule has this backend twice")
        } else if rule.backends.len() == MAX_BACKENDS {
            format!("a rule has {MAX_BACKENDS} backends at most")
        } else {
            rule.put(backend);
            return Ok(());
        };
        Err(Fault::new(place, bad(wrong)))
    }

    /// The number of a new rule, or of the one that a row belongs to.
    fn put_rule(
        &mut self,
        place: Place,
        row: Option<bool>,
        rule: Rule,
        is_open: bool,
    ) -> Result<usize, Fault> {
        let known = self.wanted.places.get(&rule.matches).map(|&at| at as usize);
        let Some(at) = known else {
            return self.put(place, row.is_some(), rule, is_open);
        };
        let known = &mut self.wanted.rules[at];
        let is_same = known.is_of_rows && known.place.source == place.source;
        let Some(keeps_ip) = row.filter(|_| is_same) else {
            return self.put(place, false, rule, is_open);
        };
        let agreed = agree(
            &mut known.rule,
            &mut known.is_open,
            &rule,
            is_open,
            keeps_ip,
        );
        agreed.map_err(|error| Fault::new(place, error))?;
        Ok(at)
    }

    fn put(
        &mut self,
        place: Place,
        is_of_rows: bool,
        rule: Rule,
        is_open: bool,
    ) -> Result<usize, Fault> {
        let at = self.wanted.rules.len();
        if let Some(&first) = self.wanted.places.get(&rule.matches) {
            let first = self.wanted.rules[first as usize].place;
            let what = format!("rule {}", match_text(&rule.matches));
            return Err(Fault::twice(place, first, &what));
        }
        self.wanted.places.insert(rule.matches, at as u32);
        self.wanted.rules.push(WantedRule {
            place,
            rule,
            is_open,
            is_of_rows,
        });
        Ok(at)
    }
}

fn name_of(backend: &BackendEntry) -> String {
    let BackendEntry {
        server,
        container,
        netns,
        pid,
        device,
        ..
    } = backend;
    let container = container.as_ref().map(|name| format!("container {name}"));
    let netns = netns.as_ref().map(|name| format!("netns {name}"));
    let pid = pid.map(|pid| format!("pid {pid}"));
    let device = device.as_ref().map(|name| format!("device {name}"));
    let server = server.map(|server| format!("server {server}"));
    let name = container.or(netns).or(pid).or(device).or(server);
    name.unwrap_or_else(|| "a backend".into())
}

impl<H: Host, P: FnMut(usize, usize)> Sink for Compiler<'_, H, P> {
    fn default_source(&self) -> Option<Prefix> {
        self.src
    }

    fn group(&mut self, place: Place, group: String) -> Result<(), Fault> {
        once(&mut self.wanted.group, place, group, "group")
    }

    fn connections(&mut self, place: Place, size: TableSize) -> Result<(), Fault> {
        once(&mut self.wanted.connections, place, size, "connections")
    }

    fn snat_ports(&mut self, place: Place, ports: SourcePorts) -> Result<(), Fault> {
        once(&mut self.wanted.snat_ports, place, ports, "snat_ports")
    }

    fn expect(&mut self, count: usize) {
        self.expected += count;
        self.wanted.rules.reserve(count);
        self.wanted.places.reserve(count);
    }

    fn interfaces(&mut self) {
        self.wanted.interfaces.get_or_insert_default();
    }

    fn interface(&mut self, place: Place, entry: InterfaceEntry) -> Result<(), Fault> {
        let all = self.wanted.interfaces.get_or_insert_default();
        let known = all.iter().find(|(_, known)| known.name == entry.name);
        if let Some((first, _)) = known {
            let what = format!("interface {}", entry.name);
            return Err(Fault::twice(place, *first, &what));
        }
        all.push((place, entry));
        Ok(())
    }

    fn rule(&mut self, place: Place, entry: RuleEntry) -> Result<(), Fault> {
        self.entry(place, false, entry)
    }

    fn row(&mut self, place: Place, entry: RuleEntry) -> Result<(), Fault> {
        self.entry(place, true, entry)
    }
}

fn once<T>(known: &mut Option<(Place, T)>, place: Place, value: T, key: &str) -> Result<(), Fault> {
    if let Some((first, _)) = known {
        return Err(Fault::twice(place, *first, key));
    }
    *known = Some((place, value));
    Ok(())
}
