//! A file of rules: one JSON object a line or an array of them, as `rule list` prints them.

use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::collections::{BTreeMap, HashMap};
use std::fmt;

use anyhow::{Result, ensure};
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

use super::error::Field;
use super::validate;
use crate::error::{Coded, Exit, Failure, failure, one_line};
use crate::model::{Adjacency, Backend, MAX_BACKENDS, Mac, Match, Pops, Rewrite, Rule, RuleRecord};

/// The records of a file, each with its place.
pub type Records = Vec<(Place, RuleRecord)>;

/// Where in a file a record is: the line, or the rule of an array, counted from 1.
pub type Place = (&'static str, usize);

/// What the host says about an egress device.
#[derive(Clone, Debug)]
pub struct Egress {
    pub name: String,
    /// The device's own address.
    pub source_mac: Mac,
    /// Whether it completes partial checksums.
    pub completes_checksum: bool,
}

/// Reads the records of a file.
pub fn records(text: &str) -> Result<Records> {
    if text.trim_start().starts_with('[') {
        let all: Vec<RuleRecord> = serde_json::from_str(text)
            .map_err(|error| syntax::<Vec<RuleRecord>>(error.line(), text, &error))?;
        return Ok((1..).map(|number| ("rule", number)).zip(all).collect());
    }
    let lines = (1..).zip(text.lines());
    let lines = lines.filter(|(_, line)| !line.trim().is_empty());
    let read = |(number, line)| match serde_json::from_str(line) {
        Ok(record) => Ok((("line", number), record)),
        Err(error) => Err(syntax::<RuleRecord>(number, line, &error)),
    };
    lines.map(read).collect()
}

fn syntax<T: DeserializeOwned>(
    line: usize,
    json: &str,
    error: &serde_json::Error,
) -> anyhow::Error {
    let text = error.to_string();
    let what = text
        .rsplit_once(" at line ")
        .map_or(&*text, |split| split.0);
    let column = error.column();
    let is_named = |key: &String| words(what).any(|word| word == key);
    let key = key::<T>(json).filter(|key| !is_named(key));
    let key = key.map_or_else(String::new, |key| format!("{key}: "));
    bad(format!("line {line}, column {column}: {key}{what}"))
}

/// The key whose value is wrong. It is asked for once something is wrong, because to follow the keys takes
/// time.
fn key<T: DeserializeOwned>(json: &str) -> Option<String> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let read = serde_path_to_error::deserialize::<_, T>(&mut deserializer);
    let error = read.err()?;
    error.path().iter().rev().find_map(|segment| match segment {
        Segment::Map { key } => Some(key.clone()),
        _ => None,
    })
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
}

/// Makes rules of records. `egress` is asked once for each device: many rules share few.
pub fn rules(records: Records, egress: impl Fn(u32) -> Result<Egress>) -> Result<Vec<Rule>> {
    let mut devices: HashMap<u32, Egress> = HashMap::new();
    let mut rules: BTreeMap<Match, Rule> = BTreeMap::new();
    for (place, record) in records {
        let matches = record.matches();
        let rule = rules.entry(matches).or_insert(Rule::new(matches));
        let device = match devices.entry(record.ifindex) {
            Occupied(known) => Ok(&*known.into_mut()),
            Vacant(new) => egress(record.ifindex).map(|device| &*new.insert(device)),
        };
        let added = device.and_then(|device| add(rule, record, device));
        added.map_err(|error| Failure::new(At(place, error)))?;
    }
    Ok(rules.into_values().collect())
}

/// An error in a record.
#[derive(Debug)]
struct At(Place, anyhow::Error);

impl Coded for At {
    fn exit(&self) -> Exit {
        crate::error::exit_code(&self.1)
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.0.0, self.0.1, one_line(&self.1))
    }
}

fn bad(message: String) -> anyhow::Error {
    failure(Exit::Usage, message)
}

fn add(rule: &mut Rule, record: RuleRecord, egress: &Egress) -> Result<()> {
    let (matches, server) = (rule.matches, record.server);
    validate(&record, egress)?;
    let twice = || {
        bad(format!(
            "{matches} -> {server}: this backend is in the file twice"
        ))
    };
    ensure!(rule.backend(server).is_none(), twice());
    agree(rule, &record)?;
    rule.put(Backend {
        adjacency: Adjacency {
            server,
            mac: record.mac,
            source_mac: egress.source_mac,
            ifindex: record.ifindex,
            completes_checksum: egress.completes_checksum,
        },
        weight: record.weight,
        rewrite: Rewrite {
            to_port: record.to_port,
            keep_ip: record.keep_ip,
            push_vlan: record.push_vlan,
            pops: Pops::new(record.pop_vlan.into()).unwrap_or_default(),
        },
        counter: None,
        origin: record.origin,
    });
    let many = || bad(format!("{matches}: more than {MAX_BACKENDS} backends"));
    ensure!(rule.backends.len() <= MAX_BACKENDS, many());
    Ok(())
}

fn validate(record: &RuleRecord, egress: &Egress) -> Result<()> {
    validate::source(record.src, record.server)?;
    validate::server(record.server)?;
    if let Some(name) = record.ifname.as_ref().filter(|name| **name != egress.name) {
        let (ifindex, now) = (record.ifindex, &egress.name);
        return Err(bad(format!(
            "ifname {name}: ifindex {ifindex} is {now} now"
        )));
    }
    if let Some(snat) = record.snat {
        validate::snat(snat, record.server)?;
    }
    if record.keep_ip && (record.to_port.is_some() || record.snat.is_some()) {
        let why = "give the one or the other".to_string();
        return Err(bad(format!("keep_ip with to_port or snat: {why}")));
    }
    let origin = record.origin.as_ref();
    origin.map_or(Ok(()), |origin| validate::locator(Field::Origin, origin))
}

/// Gives the rule what the record has of the rule as a whole, on which all of its records must agree.
fn agree(rule: &mut Rule, record: &RuleRecord) -> Result<()> {
    let matches = rule.matches;
    let differ = |what| bad(format!("{matches}: backends with different {what}"));
    let ttl_differs = rule.decrement_ttl != record.decrement_ttl;
    ensure!(
        rule.backends.is_empty() || !ttl_differs,
        differ("decrement_ttl")
    );
    rule.decrement_ttl = record.decrement_ttl;
    if record.keep_ip {
        return Ok(());
    }
    let uses_snat = rule.backends.iter().any(|b| !b.rewrite.keep_ip);
    ensure!(!uses_snat || rule.snat == record.snat, differ("snat"));
    rule.snat = record.snat;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(server: &str, more: &str) -> String {
        format!(
            r#"{{"src":"10.0.0.0/8","proto":"udp","port":53,"server":"{server}","mac":"2:0:0:0:0:1","ifindex":4{more}}}"#
        )
    }

    fn parse(text: &str) -> Result<Vec<Rule>> {
        rules(records(text)?, |_| {
            Ok(Egress {
                name: "out0".into(),
                source_mac: Mac([2, 0, 0, 0, 0, 9]),
                completes_checksum: true,
            })
        })
    }

    fn refused(lines: &[String], said: &str) {
        let error = parse(&lines.join("\n")).expect_err(said);
        let text = one_line(&error);
        assert!(text.starts_with(said), "{text}");
        assert_eq!(crate::error::exit_code(&error), Exit::Usage);
    }

    #[test]
    fn lines_and_an_array_are_the_same_rules() {
        let lines = [line("10.1.1.2", ""), String::new(), line("10.1.1.1", "")];
        let array = format!(" [{},{}]", lines[2], lines[0]);
        let rules = parse(&lines.join("\n")).unwrap();
        assert_eq!(rules, parse(&array).unwrap());
        assert_eq!((rules.len(), rules[0].backends.len()), (1, 2));
        assert_eq!(rules[0].backends[0].source_mac, Mac([2, 0, 0, 0, 0, 9]));
    }

    #[test]
    fn what_belongs_to_the_rule_is_the_same_for_all_its_backends() {
        let (one, snat) = (line("10.1.1.1", ""), r#","snat":"10.1.1.9""#);
        refused(
            &[one.clone(), line("10.1.1.2", snat)],
            "line 2: src 10.0.0.0/8 udp port 53: backends with different snat",
        );
        refused(
            &[one, line("10.1.1.2", r#","decrement_ttl":false"#)],
            "line 2: src 10.0.0.0/8 udp port 53: backends with different decrement_ttl",
        );
        let keeps = line("10.1.1.1", r#","keep_ip":true"#);
        let rules = parse(&format!("{keeps}\n{}", line("10.1.1.2", snat))).unwrap();
        assert_eq!(rules[0].snat, Some([10, 1, 1, 9].into()));
        assert_eq!(rules[0].snat_of(&rules[0].backends[0]), None);
    }

    #[test]
    fn errors_name_the_place() {
        refused(&[line("10.1.1.1", ""), "{".into()], "line 2, column 1: EOF");
        let weight = line("10.1.1.1", r#","weight":"x""#);
        let said = "column 108: weight: invalid type: string \"x\"";
        refused(std::slice::from_ref(&weight), &format!("line 1, {said}"));
        refused(&[format!("[\n{weight}]")], &format!("line 2, {said}"));
        // Named already.
        let weight = line("10.1.1.1", r#","weight":0"#);
        refused(&[weight], "line 1, column 107: weight 0: ");
        refused(
            &[line("127.0.0.1", "")],
            "line 1: server 127.0.0.1: not the",
        );
        refused(
            &[line("10.1.1.1", r#","ifname":"out1""#)],
            "line 1: ifname out1: ifindex 4 is out0 now",
        );
        let twice = [line("10.1.1.1", ""), line("10.1.1.1", "")];
        refused(
            &twice,
            "line 2: src 10.0.0.0/8 udp port 53 -> 10.1.1.1: this backend is in the file twice",
        );
        let array = format!("[{}]", twice.join(","));
        refused(&[array], "rule 2: ");
    }
}
