//! Where something stands in files. Only what is wrong is looked for: its text is read once more then.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_path_to_error::Segment;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::control::error::Error;
use crate::control::ruleset_file::bad;
use crate::error::{Coded, Exit, Failure, exit_code, one_line, remedy};
use crate::model::Remedy;

/// A text that says what is wanted.
#[derive(Clone, Debug)]
pub struct Source {
    /// The path of the file, or what it is called.
    pub name: String,
    pub text: String,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct Sources(pub Vec<Source>);

/// Where something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub source: u32,
    pub entry: Entry,
    /// The number of the rule's backend.
    pub backend: Option<u32>,
}

impl Place {
    pub fn new(source: u32, entry: Entry) -> Self {
        Place {
            source,
            entry,
            backend: None,
        }
    }

    /// That of a backend of the rule.
    pub fn backend(self, number: u32) -> Self {
        Place {
            backend: Some(number),
            ..self
        }
    }
}

/// What of a text it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A key of the whole.
    Key(&'static str),
    /// The interface or rule with this number.
    Of(&'static str, u32),
    /// The row of an array with this number.
    Row(u32),
    /// The row that begins at this byte.
    Line(usize),
}

/// A step into a text.
#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Key(&'a str),
    Number(u32),
}

/// What is wrong, and where.
#[derive(Debug)]
pub struct Fault {
    pub place: Place,
    /// Where the same is said first.
    pub first: Option<Place>,
    pub error: anyhow::Error,
}

impl Fault {
    pub fn new(place: Place, error: anyhow::Error) -> Self {
        Fault {
            place,
            first: None,
            error,
        }
    }

    /// What is said twice.
    pub fn twice(place: Place, first: Place, what: &str) -> Self {
        Fault {
            first: Some(first),
            ..Fault::new(place, bad(format!("{what} is said twice")))
        }
    }

    /// The error that names the place.
    pub fn failure(self, sources: &Sources) -> anyhow::Error {
        let key = self.key();
        let position = sources.position(self.place, key.as_deref());
        let first = self.first.map(|first| sources.position_of(first));
        let first = first.map_or_else(String::new, |first| format!(", first at {first}"));
        if self.is_completed_above() {
            return self.error.context(position);
        }
        let text = format!("{position}: {}{first}", one_line(&self.error));
        Failure::new(AtPlace(text, self.error))
    }

    /// Whether the command line has an option that helps.
    fn is_completed_above(&self) -> bool {
        let failure: Option<&Failure> = self.error.downcast_ref();
        let error = failure.and_then(Failure::typed);
        matches!(error, Some(Error::WhichSource))
    }

    /// The key of the value that is wrong.
    fn key(&self) -> Option<String> {
        let failure: &Failure = self.error.downcast_ref()?;
        match failure.typed()? {
            Error::Value { field, .. } => Some(field.to_string()),
            _ => None,
        }
    }
}

#[derive(Debug)]
struct AtPlace(String, anyhow::Error);

impl Coded for AtPlace {
    fn exit(&self) -> Exit {
        exit_code(&self.1)
    }

    fn remedy(&self) -> Remedy {
        remedy(&self.1)
    }
}

impl fmt::Display for AtPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Sources {
    /// File, line and column, both counted from 1.
    pub fn position_of(&self, place: Place) -> String {
        self.position(place, None)
    }

    /// The file.
    pub fn name_of(&self, place: Place) -> &str {
        &self.0[place.source as usize].name
    }

    /// An error that names a place.
    pub fn fault(&self, place: Place, error: anyhow::Error) -> anyhow::Error {
        Fault::new(place, error).failure(self)
    }

    /// The error that something is said twice.
    pub fn twice(&self, place: Place, first: Place, what: &str) -> anyhow::Error {
        Fault::twice(place, first, what).failure(self)
    }

    fn position(&self, place: Place, key: Option<&str>) -> String {
        let source = &self.0[place.source as usize];
        let (line, column) = source.position(place, key);
        format!("{}:{line}:{column}", source.name)
    }
}

impl Source {
    fn position(&self, place: Place, key: Option<&str>) -> (usize, usize) {
        let entry = place.entry;
        let mut steps = match entry {
            Entry::Key(key) => vec![Step::Key(key)],
            Entry::Of(what, number) => vec![Step::Key(what), Step::Number(number)],
            Entry::Row(number) => vec![Step::Number(number)],
            Entry::Line(_) => Vec::new(),
        };
        let inner = place
            .backend
            .map(|number| [Step::Key("backend"), Step::Number(number)]);
        let within = [inner.map(Vec::from), key.map(|key| vec![Step::Key(key)])];
        let start = match entry {
            Entry::Line(start) => start,
            _ => 0,
        };
        // The most exact place that is there: the key of a backend, the backend, the key of a rule, the rule.
        let [inner, key] = within.map(Option::unwrap_or_default);
        let tries = [[&inner[..], &key[..]].concat(), inner.clone(), key.clone()];
        let length = steps.len();
        for more in tries {
            steps.truncate(length);
            steps.extend(more);
            if let Some(offset) = self.find(start, &steps) {
                return line_and_column(&self.text, start + offset);
            }
        }
        steps.truncate(length);
        line_and_column(&self.text, start + self.find(start, &steps).unwrap_or(0))
    }

    fn find(&self, start: usize, steps: &[Step]) -> Option<usize> {
        let text = &self.text[start..];
        match steps {
            [] => Some(text.len() - text.trim_start().len()),
            _ if self.is_toml() => in_toml(text, steps),
            _ => in_json(text, steps),
        }
    }
}

/// The line and the column of a byte, both counted from 1.
pub fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let mut boundaries = (0..=offset.min(text.len())).rev();
    let offset = boundaries.find(|&at| text.is_char_boundary(at));
    let before = &text[..offset.unwrap_or(0)];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}

fn in_toml(text: &str, steps: &[Step]) -> Option<usize> {
    let whole = DeTable::parse(text).ok()?;
    let (Step::Key(first), rest) = steps.split_first()? else {
        return None;
    };
    let mut at = value_of(whole.get_ref(), first)?;
    for step in rest {
        at = match (step, at.get_ref()) {
            (Step::Key(key), DeValue::Table(table)) => value_of(table, key)?,
            (Step::Number(number), DeValue::Array(all)) => all.get(*number as usize)?,
            _ => return None,
        };
    }
    Some(at.span().start)
}

fn value_of<'a, 'i>(table: &'a DeTable<'i>, key: &str) -> Option<&'a Spanned<DeValue<'i>>> {
    let mut all = table.iter();
    all.find(|(name, _)| *name.get_ref() == key)
        .map(|(_, value)| value)
}

/// Where the value of a path begins in JSON; None where that can't be read, or is the whole.
pub fn position(text: &str, path: &serde_path_to_error::Path) -> Option<usize> {
    let step = |segment| match segment {
        &Segment::Seq { index } => Some(Step::Number(u32::try_from(index).ok()?)),
        Segment::Map { key } => Some(Step::Key(key)),
        _ => None,
    };
    let steps: Vec<Step> = path.iter().map(step).collect::<Option<_>>()?;
    (!steps.is_empty()).then(|| in_json(text, &steps))?
}

fn in_json(text: &str, steps: &[Step]) -> Option<usize> {
    let mut at = text;
    for step in steps {
        // What comes behind the value is another row.
        let mut values = serde_json::Deserializer::from_str(at).into_iter::<&RawValue>();
        let value = values.next()?.ok()?.get();
        let inner: &RawValue = match step {
            Step::Key(key) => {
                let Pairs(pairs) = serde_json::from_str(value).ok()?;
                pairs.into_iter().find(|(name, _)| name == key)?.1
            }
            Step::Number(number) => {
                let all: Vec<&RawValue> = serde_json::from_str(value).ok()?;
                all.get(*number as usize)?
            }
        };
        at = inner.get();
    }
    Some(at.as_ptr().addr() - text.as_ptr().addr())
}

/// The keys of an object with their values, as they stand there.
struct Pairs<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'de>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(Object)
    }
}
