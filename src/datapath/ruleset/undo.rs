//! What a change replaces: the rules as they were, packed.
//!
//! A rule is kept as its lines have it. Whoever may write here may write these, too, so that what is read is
//! trusted no more and no less.

use std::io::{BufReader, BufWriter, Read, Write};

use anyhow::{Context, Result, ensure};
use lz4_flex::frame::{FrameDecoder, FrameEncoder};

use super::codec::{match_of, rule_of, stored_action, stored_backend};
use super::key::{Key, is_ipv6};
use crate::datapath::abi::{self, Plain};
use crate::model::{Changes, How, InterfaceEntry, MAX_BACKENDS, Match, Rule};

/// What comes after the last rule; no rule has such a probe.
const END: [u64; 2] = [u64::MAX; 2];
/// Bytes that are packed and unpacked together.
const BUFFER: usize = 64 << 10;
/// As many bytes as a change can have, and some more: what is packed may claim to be of any size.
const MOST: u64 = 512 << 20;

/// The rules that a change replaces, while it is prepared.
pub struct Undo {
    packed: BufWriter<FrameEncoder<Vec<u8>>>,
    pub changes: Changes,
    /// All interfaces that rules are for, where some of them change.
    interfaces: Option<Vec<InterfaceEntry>>,
}

/// What was before a change.
#[derive(Debug)]
pub struct Before {
    /// None: the interfaces stayed as they were.
    pub interfaces: Option<Vec<InterfaceEntry>>,
}

impl Default for Undo {
    fn default() -> Self {
        Undo {
            packed: BufWriter::with_capacity(BUFFER, FrameEncoder::new(Vec::new())),
            changes: Changes::default(),
            interfaces: None,
        }
    }
}

impl Undo {
    /// Adds a rule that changes: how it is before, unless there is none.
    pub fn note(&mut self, how: How, matches: &Match, key: &Key, old: Option<&Rule>) -> Result<()> {
        self.changes.note(how, matches);
        let actions = old.map(actions_of).unwrap_or_default();
        self.put(&[key.probe, key.place])?;
        match key.is_ipv6() {
            true => self.put(&[key.src, key.dst])?,
            false => self.put(&[key.src[0], key.dst[0]])?,
        }
        self.put(&(actions.len() as u32))?;
        let backends = old.map_or(&[][..], |rule| &rule.backends);
        for (place, action) in actions.iter().enumerate() {
            let origin = backends.get(place).and_then(|b| b.origin.as_ref());
            let origin = origin.map(ToString::to_string).unwrap_or_default();
            self.put(action)?;
            self.put(&(origin.len() as u32))?;
            self.packed.write_all(origin.as_bytes())?;
        }
        Ok(())
    }

    /// Adds the interfaces as they are before, and as they are to be.
    pub fn note_interfaces(&mut self, before: Vec<InterfaceEntry>, after: &[InterfaceEntry]) {
        let named =
            |all: &[InterfaceEntry], name: &str| all.iter().find(|i| i.name == name).cloned();
        for old in &before {
            match named(after, &old.name) {
                None => self.changes.note_interface(How::Deleted, old.name.clone()),
                Some(new) if new != *old => {
                    self.changes.note_interface(How::Changed, new.name);
                }
                Some(_) => {}
            }
        }
        let new = after
            .iter()
            .filter(|new| named(&before, &new.name).is_none());
        new.for_each(|new| self.changes.note_interface(How::Added, new.name.clone()));
        self.interfaces = (before != after).then_some(before);
    }

    fn put<T: Plain>(&mut self, value: &T) -> Result<()> {
        Ok(self.packed.write_all(abi::bytes_of(value))?)
    }

    /// What changed, and the rules as they were before.
    pub fn finish(mut self) -> Result<(Changes, Vec<u8>)> {
        self.put(&END)?;
        let interfaces = serde_json::to_vec(&self.interfaces)?;
        self.put(&(interfaces.len() as u32))?;
        self.packed.write_all(&interfaces)?;
        let packed = self.packed.into_inner().map_err(|error| error.into_error());
        let packed = packed.map(FrameEncoder::finish);
        Ok((
            self.changes,
            packed?.context("cannot pack what was before")?,
        ))
    }
}

/// A rule's actions, with the counters of its backends.
fn actions_of(rule: &Rule) -> Vec<abi::action> {
    let counter = |counter: Option<u32>| counter.unwrap_or(abi::UNATTRIBUTED);
    let backends = rule.backends.iter();
    let backends = backends.map(|b| stored_backend(rule, b, counter(b.counter)));
    stored_action(rule).into_iter().chain(backends).collect()
}

/// Reads the rules as they were, one by one: a match, and its rule unless there was none.
pub fn read(
    packed: &[u8],
    mut each: impl FnMut(Match, Option<Rule>) -> Result<()>,
) -> Result<Before> {
    let packed = FrameDecoder::new(packed).take(MOST);
    let mut packed = BufReader::with_capacity(BUFFER, packed);
    loop {
        let words = take(&mut packed)?;
        if words == END {
            let length: u32 = take(&mut packed)?;
            let mut json = Vec::new();
            packed.take(length.into()).read_to_end(&mut json)?;
            let interfaces = serde_json::from_slice(&json)?;
            return Ok(Before { interfaces });
        }
        let [probe, place] = words;
        let [src, dst] = match is_ipv6(probe) {
            true => take(&mut packed)?,
            false => take::<[u32; 2]>(&mut packed)?.map(|word| [word, 0, 0, 0]),
        };
        let key = Key {
            probe,
            place,
            src,
            dst,
        };
        let matches = match_of(&key)?;
        let count: u32 = take(&mut packed)?;
        let rule = (count > 0).then(|| rule(&mut packed, matches, count as usize));
        each(matches, rule.transpose()?)?;
    }
}

fn rule(packed: &mut impl Read, matches: Match, count: usize) -> Result<Rule> {
    ensure!(count <= MAX_BACKENDS, "a rule with {count} backends");
    let (mut actions, mut origins) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let action: abi::action = take(packed)?;
        let length: u32 = take(packed)?;
        ensure!(length < abi::LOCATOR_LEN, "a locator of {length} bytes");
        let mut origin = vec![0; length as usize];
        packed.read_exact(&mut origin)?;
        actions.push((action, action.counter));
        origins.push(String::from_utf8(origin)?);
    }
    let mut rule = rule_of(matches, &actions);
    for (backend, origin) in rule.backends.iter_mut().zip(origins) {
        backend.origin = origin.parse().ok();
    }
    Ok(rule)
}

fn take<T: Plain>(packed: &mut impl Read) -> Result<T> {
    let mut value = abi::zero();
    packed.read_exact(abi::bytes_of_mut(&mut value))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::super::codec::key_of;
    use super::*;
    use crate::model::{Action, Adjacency, Backend, Locator, Reply, Weight};

    fn rules() -> Vec<Rule> {
        let backend = |last: u8, origin| Backend {
            weight: Weight::new(last.into()).unwrap(),
            counter: Some(last.into()),
            origin,
            ..Backend::new(Adjacency::example([10, 0, 0, last]))
        };
        let mut several = Rule::new(Match::example(1));
        several.put(backend(1, Some(Locator::Container("web".into()))));
        several.put(backend(2, None));
        (several.reply, several.sticky) = (Reply::Nat, true);
        let drop = Rule {
            counter: Some(abi::UNATTRIBUTED),
            ..Rule::acting(Match::example(2), Action::Drop)
        };
        vec![several, drop]
    }

    fn interface(name: &str) -> InterfaceEntry {
        serde_json::from_value(serde_json::json!({ "name": name })).unwrap()
    }

    fn packed(rules: &[Rule]) -> Vec<u8> {
        let mut undo = Undo::default();
        for rule in rules {
            let key = key_of(&rule.matches);
            undo.note(How::Deleted, &rule.matches, &key, Some(rule))
                .unwrap();
        }
        let new = Match::example(3);
        undo.note(How::Added, &new, &key_of(&new), None).unwrap();
        undo.note_interfaces(vec![interface("lan")], &[interface("wan")]);
        let (changes, packed) = undo.finish().unwrap();
        assert_eq!((changes.added, changes.deleted), (1, rules.len()));
        assert_eq!(changes.interfaces_changed, 2);
        packed
    }

    fn unpacked(packed: &[u8]) -> Result<Vec<(Match, Option<Rule>)>> {
        let mut all = Vec::new();
        let before = read(packed, |matches, rule| {
            all.push((matches, rule));
            Ok(())
        })?;
        assert_eq!(before.interfaces, Some(vec![interface("lan")]));
        Ok(all)
    }

    #[test]
    fn rules_come_back_as_they_were() {
        let rules = rules();
        let before = unpacked(&packed(&rules)).unwrap();
        let mut expected: Vec<_> = rules.iter().map(|r| (r.matches, Some(r.clone()))).collect();
        expected.push((Match::example(3), None));
        assert_eq!(before, expected);
    }

    /// Members of the group may write anything into the map.
    #[test]
    fn what_is_damaged_is_refused() {
        let packed = packed(&rules());
        for end in 0..packed.len() - 4 {
            assert!(unpacked(&packed[..end]).is_err(), "{end}");
        }
        for place in 0..packed.len() {
            let mut damaged = packed.clone();
            damaged[place] ^= 0xff;
            let _ = read(&damaged, |_, _| Ok(()));
        }
        let frame = |bytes: &[u8]| {
            let mut frame = FrameEncoder::new(Vec::new());
            frame.write_all(bytes).unwrap();
            frame.finish().unwrap()
        };
        let mut many = abi::bytes_of(&[[0x0100_0001u64; 2]; 3]).to_vec();
        many.extend(u32::MAX.to_ne_bytes());
        assert!(unpacked(&frame(&many)).is_err());
    }
}
