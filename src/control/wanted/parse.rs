//! The texts of files: TOML, JSON, and rows as `rule list` prints them.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::mpsc;
use std::thread;

use serde::de::{
    DeserializeOwned, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_path_to_error::Segment;

use super::compile;
use super::place::{Entry, Fault, Place, Source, Sources, line_and_column, position};
use super::row::{DemoRow, Row};
use crate::control::nearest;
use crate::control::ruleset_file::bad;
use crate::error::join_lines;
use crate::model::{Prefix, RuleEntry, RuleRecord, RuleSet};

/// Rows are handed from thread to thread so many at a time, and so many times before the other one waits.
const BATCH: usize = 1024;
const BATCHES: usize = 4;

/// The keys of a rule set as a whole.
const WHOLE: [&str; 5] = ["group", "connections", "snat_ports", "interface", "rule"];
/// Some keys that every row has, one of them at least.
const OF_ROWS: [&str; 6] = ["src", "dst", "proto", "port", "server", "mac"];
/// Keys that only the rows of `rule list` have.
const OF_RECORDS: [&str; 4] = ["dst", "proto", "port", "action"];

impl Source {
    /// By the name of its file; where that does not tell, by what it begins with.
    pub fn is_toml(&self) -> bool {
        let start = self.text.trim_start();
        let is_json = || match start.strip_prefix('[') {
            Some(inner) => inner.trim_start().starts_with(['{', ']']) || inner.trim().is_empty(),
            None => start.starts_with('{'),
        };
        match self.name.rsplit_once('.') {
            Some((_, "toml")) => true,
            Some((_, "json" | "jsonl")) => false,
            _ => !is_json(),
        }
    }

    fn fault(&self, offset: usize, why: String) -> anyhow::Error {
        let (line, column) = line_and_column(&self.text, offset);
        bad(format!("{}:{line}:{column}: {why}", self.name))
    }
}

/// What goes wrong while a text is read.
pub enum Failed {
    /// In the text.
    Syntax(anyhow::Error),
    /// In what it says.
    Meaning(Fault),
}

impl Failed {
    pub fn failure(self, sources: &Sources) -> anyhow::Error {
        match self {
            Failed::Syntax(error) => error,
            Failed::Meaning(fault) => fault.failure(sources),
        }
    }
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Failed::Meaning(fault)
    }
}

/// Gives each interface and rule of a text to a compiler. Whether the text says anything of them.
pub fn each(sources: &Sources, number: u32, to: &mut impl compile::Sink) -> Result<bool, Failed> {
    let source = &sources.0[number as usize];
    let text = &source.text;
    if source.is_toml() {
        let whole: RuleSet =
            toml::from_str(text).map_err(|error| Failed::Syntax(toml(source, &error)))?;
        return rule_set(number, whole, to);
    }
    let start = text.trim_start();
    let keys = first_keys(start);
    if start.starts_with('[') {
        return match is_demo(&keys) {
            true => array::<DemoRow>(source, number, to),
            false => array::<RuleRecord>(source, number, to),
        };
    }
    let is_row = OF_ROWS.iter().any(|key| keys.contains(*key));
    if !is_row || WHOLE.iter().any(|key| keys.contains(*key)) {
        let whole =
            serde_json::from_str(text).map_err(|error| json::<RuleSet>(source, 0, text, &error))?;
        return rule_set(number, whole, to);
    }
    match is_demo(&keys) {
        true => lines::<DemoRow>(source, number, to),
        false => lines::<RuleRecord>(source, number, to),
    }
}

/// Whether rows are those that the demo took, which came before.
fn is_demo(keys: &BTreeSet<String>) -> bool {
    !keys.is_empty() && !OF_RECORDS.iter().any(|key| keys.contains(*key))
}

fn rule_set(number: u32, whole: RuleSet, to: &mut impl compile::Sink) -> Result<bool, Failed> {
    let at = |entry| Place::new(number, entry);
    let key = |key| at(Entry::Key(key));
    let says_something = whole.rule.is_some() || whole.interface.is_some();
    if let Some(group) = whole.group {
        to.group(key("group"), group)?;
    }
    if let Some(connections) = whole.connections {
        to.connections(key("connections"), connections)?;
    }
    if let Some(ports) = whole.snat_ports {
        to.snat_ports(key("snat_ports"), ports)?;
    }
    if let Some(interfaces) = whole.interface {
        to.interfaces();
        for (entry, place) in interfaces.into_iter().zip(0..) {
            to.interface(at(Entry::Of("interface", place)), entry)?;
        }
    }
    to.expect(whole.rule.as_ref().map_or(0, Vec::len));
    for (entry, place) in whole.rule.unwrap_or_default().into_iter().zip(0..) {
        to.rule(at(Entry::Of("rule", place)), entry)?;
    }
    Ok(says_something)
}

/// One row a line. Another thread reads them, because a million take a second.
fn lines<R: Row>(
    source: &Source,
    number: u32,
    to: &mut impl compile::Sink,
) -> Result<bool, Failed> {
    to.expect(source.text.bytes().filter(|&byte| byte == b'\n').count());
    let src = to.default_source();
    thread::scope(|scope| {
        let (give, batches) = mpsc::sync_channel(BATCHES);
        scope.spawn(move || {
            let mut rows = rows_of::<R>(source, number, src);
            loop {
                let batch: Vec<_> = rows.by_ref().take(BATCH).collect();
                if batch.is_empty() || give.send(batch).is_err() {
                    return;
                }
            }
        });
        for row in batches.into_iter().flatten() {
            let (place, entry) = row?;
            to.row(place, entry)?;
        }
        Ok(true)
    })
}

fn rows_of<R: Row>(
    source: &Source,
    number: u32,
    src: Option<Prefix>,
) -> impl Iterator<Item = Result<(Place, RuleEntry), Failed>> {
    let mut end = 0;
    let lines = source.text.split_inclusive('\n').map(move |line| {
        let offset = end;
        end += line.len();
        (offset, line)
    });
    let rows = lines.filter(|(_, line)| !line.trim().is_empty());
    rows.map(move |(offset, line)| {
        let row = serde_json::from_str::<R>(line);
        let row = row.map_err(|error| json::<R>(source, offset, line, &error))?;
        Ok(entry(row, Place::new(number, Entry::Line(offset)), src)?)
    })
}

fn entry(row: impl Row, place: Place, src: Option<Prefix>) -> Result<(Place, RuleEntry), Fault> {
    let entry = row.entry(src).map_err(|error| Fault::new(place, error))?;
    Ok((place, entry))
}

/// The rows of an array, each given on before the next is read: there may be a million.
fn array<R: Row>(
    source: &Source,
    number: u32,
    to: &mut impl compile::Sink,
) -> Result<bool, Failed> {
    let mut fault = None;
    let rows = Rows {
        number,
        to,
        fault: &mut fault,
        of: std::marker::PhantomData::<R>,
    };
    let mut deserializer = serde_json::Deserializer::from_str(&source.text);
    let read = deserializer.deserialize_seq(rows);
    let read = read.and_then(|()| deserializer.end());
    match (read, fault) {
        (_, Some(fault)) => Err(fault.into()),
        (Err(error), None) => Err(json::<Vec<R>>(source, 0, &source.text, &error)),
        (Ok(()), None) => Ok(true),
    }
}

struct Rows<'a, S, R> {
    number: u32,
    to: &'a mut S,
    fault: &'a mut Option<Fault>,
    of: std::marker::PhantomData<R>,
}

impl<'de, S: compile::Sink, R: Row> Visitor<'de> for Rows<'_, S, R> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an array of rules")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<(), A::Error> {
        let mut count = 0;
        while let Some(row) = rows.next_element::<R>()? {
            let place = Place::new(self.number, Entry::Row(count));
            let given = entry(row, place, self.to.default_source());
            if let Err(fault) = given.and_then(|(place, entry)| self.to.row(place, entry)) {
                *self.fault = Some(fault);
                return Err(A::Error::custom("what the row says is wrong"));
            }
            count += 1;
        }
        Ok(())
    }
}

/// The keys of the first object of a text, up to one that only a rule set has. None where it can't be read.
fn first_keys(text: &str) -> BTreeSet<String> {
    struct First<'a>(&'a mut BTreeSet<String>);

    impl<'de> Visitor<'de> for First<'_> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            while let Some(key) = map.next_key::<String>()? {
                let ends = WHOLE.contains(&key.as_str());
                self.0.insert(key);
                if ends {
                    return Err(A::Error::custom("enough is read"));
                }
                map.next_value::<IgnoredAny>()?;
            }
            Ok(())
        }
    }

    let mut keys = BTreeSet::new();
    let object = text.trim_start_matches('[');
    let mut deserializer = serde_json::Deserializer::from_str(object);
    // What is wrong there is said when the text is read.
    let _ = deserializer.deserialize_map(First(&mut keys));
    keys
}

fn toml(source: &Source, error: &toml::de::Error) -> anyhow::Error {
    let offset = error.span().map_or(source.text.len(), |span| span.start);
    let key = || {
        let read = serde_path_to_error::deserialize::<_, RuleSet>(
            toml::Deserializer::parse(&source.text).ok()?,
        );
        key(read.err()?.path())
    };
    source.fault(offset, what(error.message(), key))
}

fn json<R: DeserializeOwned>(
    source: &Source,
    start: usize,
    text: &str,
    error: &serde_json::Error,
) -> Failed {
    let message = error.to_string();
    let message = message
        .rsplit_once(" at line ")
        .map_or(&*message, |(what, _)| what);
    let lines = text
        .split_inclusive('\n')
        .take(error.line().saturating_sub(1));
    let line_start: usize = lines.map(str::len).sum();
    // serde_json counts bytes of a line from 1; after a value it names its last one.
    let last = text.len().saturating_sub(1);
    let offset = start + (line_start + error.column().saturating_sub(1)).min(last);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = serde_path_to_error::deserialize::<_, R>(&mut deserializer);
    let path = read.err().map(|error| error.path().clone());
    let what = what(message, || key(path.as_ref()?));
    let at_key = || {
        let key = format!("\"{}\"", nearest::unknown(message)?);
        source.text[..=offset].strip_suffix(&key).map(str::len)
    };
    let at_value = || Some(start + position(text, path.as_ref()?)?);
    let offset = at_key().or_else(at_value).unwrap_or(offset);
    Failed::Syntax(source.fault(offset, what))
}

/// What is wrong, with the key whose value it is. That is asked for once something is wrong, because to follow
/// the keys takes time.
fn what(message: &str, key: impl FnOnce() -> Option<String>) -> String {
    let what = nearest::explain(&join_lines(message));
    let words = |word: &str| {
        what.split(|c: char| !c.is_alphanumeric() && c != '_')
            .any(|other| other == word)
    };
    match key().filter(|key| !words(key)) {
        Some(key) => format!("{key}: {what}"),
        None => what,
    }
}

fn key(path: &serde_path_to_error::Path) -> Option<String> {
    path.iter().rev().find_map(|segment| match segment {
        Segment::Map { key } => Some(key.clone()),
        _ => None,
    })
}
