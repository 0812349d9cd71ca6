//! The map of what is kept of revisions, so that the rules can be as they were before. It goes with the rest of
//! the state.
//!
//! A revision is written before it is published, in chunks. The first one says how many there are; it is written
//! first and deleted last, so that what a run leaves that is killed in between can be found.

use anyhow::{Context, Result, ensure};

use super::maps::{Map, says_full};
use super::{Pins, abi};
use crate::model::Revision;

const MOST: u64 = abi::HISTORY_REVISIONS as u64;
const CHUNK: usize = abi::HISTORY_CHUNK as usize;
/// Chunks written with one system call.
const AT_ONCE: usize = 256;

/// A revision, and which of its chunks.
type Key = [u64; 2];
type Chunk = [u8; CHUNK];

pub struct History(Map<Key, Chunk>);

/// A revision that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    pub revision: Revision,
    /// What was before it is kept, too.
    pub has_before: bool,
    /// It ends unless somebody confirms it.
    pub unconfirmed: Option<Unconfirmed>,
}

/// A revision that ends unless somebody confirms it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unconfirmed {
    /// When it ends, in seconds since 1970.
    pub until: u64,
    /// What whoever ends it is to know, so that it is not another one of the same number. Not 0.
    pub token: u64,
}

/// A revision that is about to be published.
pub struct New {
    pub revision: Revision,
    /// What was before it.
    pub before: Vec<u8>,
    pub unconfirmed: Option<Unconfirmed>,
}

/// What the first chunk begins with; then follow the JSON of the revision, and what was before it.
struct Lead {
    /// The first revision that is kept.
    oldest: u64,
    /// The chunks of all revisions from there on.
    total: u64,
    /// Those of this one.
    chunks: u64,
    json: u64,
    /// The bytes of what was before; 0: that is not kept.
    before: u64,
    /// Of a revision that is not confirmed.
    until: u64,
    /// 0: it is confirmed.
    token: u64,
}

type Words = [u64; 7];

impl Lead {
    const LENGTH: usize = size_of::<Words>();

    fn read(chunk: &Chunk) -> Result<Self> {
        let [oldest, total, chunks, json, before, until, token] =
            abi::from_bytes::<Words>(&chunk[..Self::LENGTH])?;
        let most = u64::from(abi::HISTORY_CHUNKS);
        let is_whole = json <= (CHUNK - Self::LENGTH) as u64
            && (1..=most).contains(&chunks)
            && before <= chunks * CHUNK as u64;
        ensure!(is_whole, "this is not what the command has written");
        Ok(Lead {
            oldest,
            total,
            chunks,
            json,
            before,
            until,
            token,
        })
    }

    fn bytes(&self) -> Vec<u8> {
        let words = [
            self.oldest,
            self.total,
            self.chunks,
            self.json,
            self.before,
            self.until,
            self.token,
        ];
        abi::bytes_of::<Words>(&words).to_vec()
    }

    fn unconfirmed(&self) -> Option<Unconfirmed> {
        let Lead { until, token, .. } = *self;
        (token != 0).then_some(Unconfirmed { until, token })
    }
}

impl History {
    pub fn open(pins: &Pins) -> Result<Self> {
        Ok(History(Map::shared(pins, "history")?))
    }

    /// Writes a revision that is about to take the place of the live one, and what was before it. The oldest
    /// ones make room.
    pub fn record(&self, live: u64, new: &New) -> Result<()> {
        let recorded = self.try_to_record(live, new);
        match recorded {
            // Only others could have filled the map.
            Err(error) if says_full(&error) => {
                self.0.retain(|_| false)?;
                self.try_to_record(live, new)
            }
            recorded => recorded,
        }
    }

    fn try_to_record(&self, live: u64, new: &New) -> Result<()> {
        let number = new.revision.revision;
        // A run that was killed before it published has left that.
        self.forget(number)?;
        let json = serde_json::to_vec(&new.revision)?;
        let chunks = |before: &[u8]| (Lead::LENGTH + json.len() + before.len()).div_ceil(CHUNK);
        let has_room = chunks(&new.before) <= abi::HISTORY_CHUNKS as usize;
        let before: &[u8] = if has_room { &new.before } else { &[] };
        let chunks = chunks(before) as u64;
        let (oldest, total) = self.make_room(live, chunks)?;
        let lead = Lead {
            oldest,
            total: total + chunks,
            chunks,
            json: json.len() as u64,
            before: before.len() as u64,
            until: new.unconfirmed.map_or(0, |unconfirmed| unconfirmed.until),
            token: new.unconfirmed.map_or(0, |unconfirmed| unconfirmed.token),
        };
        let (first, rest) = before.split_at(before.len().min(CHUNK - Lead::LENGTH - json.len()));
        let first = [lead.bytes(), json, first.to_vec()].concat();
        self.0.put(&[number, 0], &chunk(&first))?;
        for (batch, bytes) in (0..).zip(rest.chunks(AT_ONCE * CHUNK)) {
            let values: Vec<Chunk> = bytes.chunks(CHUNK).map(chunk).collect();
            let keys = (1 + batch * AT_ONCE as u64..).take(values.len());
            let keys: Vec<Key> = keys.map(|place| [number, place]).collect();
            self.0.put_many(&keys, &values)?;
        }
        Ok(())
    }

    /// Forgets the oldest revisions where there are too many, or they take too much. Returns which is the oldest
    /// one then, and how many chunks there are.
    fn make_room(&self, live: u64, chunks: u64) -> Result<(u64, u64)> {
        let next = live + 1;
        let lead = self.lead(live)?;
        let (oldest, mut total) = lead.map_or((next, 0), |lead| (lead.oldest, lead.total));
        // One more than are kept, at most.
        let mut oldest = oldest.clamp(next.saturating_sub(MOST), next);
        while oldest < next && (next - oldest >= MOST || total + chunks > abi::HISTORY_KEPT.into())
        {
            total = total.saturating_sub(self.forget(oldest)?);
            oldest += 1;
        }
        Ok((oldest, if oldest == next { 0 } else { total }))
    }

    /// Deletes a revision, and returns how many chunks it had.
    fn forget(&self, revision: u64) -> Result<u64> {
        let Some(first) = self.0.get(&[revision, 0])? else {
            return Ok(0);
        };
        // Of what nobody understands goes the first chunk alone.
        let chunks = Lead::read(&first).map_or(1, |lead| lead.chunks);
        let mut places = (0..chunks).rev();
        places.try_for_each(|place| self.0.delete(&[revision, place]))?;
        Ok(chunks)
    }

    /// Whether a revision is kept that ends unless somebody confirms it.
    pub fn unconfirmed(&self, revision: u64) -> Result<Option<Unconfirmed>> {
        Ok(self.lead(revision)?.and_then(|lead| lead.unconfirmed()))
    }

    /// Makes a revision one that stays.
    pub fn confirm(&self, revision: u64) -> Result<()> {
        let Some(mut first) = self.0.get(&[revision, 0])? else {
            return Ok(());
        };
        let lead = Lead {
            token: 0,
            ..Lead::read(&first)?
        };
        first[..Lead::LENGTH].copy_from_slice(&lead.bytes());
        self.0.put(&[revision, 0], &first)
    }

    fn lead(&self, revision: u64) -> Result<Option<Lead>> {
        let first = self.0.get(&[revision, 0])?;
        Ok(first.and_then(|first| Lead::read(&first).ok()))
    }

    /// The revisions that are kept up to the live one, the newest first.
    pub fn revisions(&self, live: u64) -> Result<Vec<Past>> {
        let lead = self.lead(live)?;
        let oldest = lead.map_or(live, |lead| lead.oldest);
        let oldest = oldest.clamp((live + 1).saturating_sub(MOST), live);
        let mut all = Vec::new();
        for number in (oldest..=live).rev() {
            if let Some(first) = self.0.get(&[number, 0])? {
                let read = past(&first);
                all.push(read.with_context(|| format!("revision {number} in the history"))?);
            }
        }
        Ok(all)
    }

    /// What was before a revision; None where that is not kept.
    pub fn before(&self, revision: u64) -> Result<Option<Vec<u8>>> {
        let Some(first) = self.0.get(&[revision, 0])? else {
            return Ok(None);
        };
        let lead = Lead::read(&first)?;
        let begin = Lead::LENGTH + lead.json as usize;
        let mut bytes = first[begin..].to_vec();
        for place in 1..lead.chunks {
            let Some(chunk) = self.0.get(&[revision, place])? else {
                return Ok(None);
            };
            bytes.extend(chunk);
        }
        bytes.truncate(lead.before as usize);
        Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

fn past(first: &Chunk) -> Result<Past> {
    let lead = Lead::read(first)?;
    let json = &first[Lead::LENGTH..Lead::LENGTH + lead.json as usize];
    Ok(Past {
        revision: serde_json::from_slice(json)?,
        has_before: lead.before > 0,
        unconfirmed: lead.unconfirmed(),
    })
}

fn chunk(bytes: &[u8]) -> Chunk {
    let mut chunk = [0; CHUNK];
    chunk[..bytes.len()].copy_from_slice(bytes);
    chunk
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Author, Changes, How, Match, Ports};

    /// Three rules with all that a match can have, and a command line that is as long as can be.
    #[test]
    fn the_longest_revision_fits_the_first_chunk() {
        let matches = Match {
            dst: "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe".parse().unwrap(),
            src: "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap(),
            ports: "64534-65535".parse::<Ports>().unwrap(),
            vlan: Some(4094.try_into().unwrap()),
            inner_vlan: Some(4094.try_into().unwrap()),
            ingress: Some(u32::MAX),
            ..Match::example(1)
        };
        let mut changes = Changes::default();
        (0..3).for_each(|_| changes.note(How::Changed, &matches));
        (0..3).for_each(|_| changes.note_interface(How::Changed, "\"".repeat(15)));
        assert_eq!((changes.rules.len(), changes.interfaces.len()), (3, 3));
        let revision = Revision {
            revision: u64::MAX,
            time: u64::MAX,
            author: Author::new(u32::MAX, vec!["\"".repeat(2000)]),
            changes,
        };
        let json = serde_json::to_vec(&revision).unwrap();
        assert!(Lead::LENGTH + json.len() <= CHUNK, "{}", json.len());
    }
}
