//! The map of the changes that fixes made, so that they can be reverted. It goes with the rest of the
//! state.

use std::os::fd::AsFd;

use anyhow::{Context, Result, ensure};
use libbpf_rs::{MapType, libbpf_sys};

use super::bpffs::{At, exists, mkdir};
use super::maps::{self, Map};
use super::{Pins, sys};
use crate::model::Change;

const NAME: &str = "journal";
/// The most entries; only a host with more stale backends than this needs more.
const MOST: u32 = 65536;
/// The bytes of an entry: JSON, then zeros.
const LENGTH: usize = 768;

type Text = [u8; LENGTH];

/// The journal's entries, by their numbers.
pub struct JournalMap(Map<u32, Text>);

impl JournalMap {
    /// Opens the map; None where no fix was ever made.
    pub fn open(pins: &Pins) -> Result<Option<Self>> {
        let path = pins.journal();
        if !exists(&path)? {
            return Ok(None);
        }
        Ok(Some(JournalMap(Map::open(&path, NAME)?)))
    }

    /// Opens the map, and makes it where it is missing.
    pub fn open_or_create(pins: &Pins) -> Result<Self> {
        if let Some(journal) = Self::open(pins)? {
            return Ok(journal);
        }
        let flags = libbpf_sys::BPF_F_NO_PREALLOC;
        let map = maps::create::<u32, Text>(NAME, MapType::Hash, MOST, flags)
            .context("cannot make the journal of changes")?;
        let path = pins.journal();
        let directory = path.parent().unwrap_or(&path);
        mkdir(directory, 0o700).at("cannot make", directory)?;
        sys::pin(map.as_fd(), &path)?;
        Ok(JournalMap(Map::open(&path, NAME)?))
    }

    /// The numbers of all changes, the last one first.
    pub fn numbers(&self) -> Result<Vec<u32>> {
        let mut numbers = self.0.keys()?;
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        Ok(numbers)
    }

    /// Reads an entry.
    pub fn get(&self, number: u32) -> Result<Change> {
        let text = self.0.get(&number)?.unwrap_or([0; LENGTH]);
        change(&text)
    }

    /// Writes an entry.
    pub fn note(&self, number: u32, change: &Change) -> Result<()> {
        self.0.put(&number, &text(change)?)
    }

    /// Deletes an entry.
    pub fn forget(&self, number: u32) -> Result<()> {
        self.0.delete(&number)
    }
}

fn text(change: &Change) -> Result<Text> {
    let json = serde_json::to_vec(change)?;
    ensure!(
        json.len() <= LENGTH,
        "{change}: too long for the journal of changes"
    );
    let mut text = [0; LENGTH];
    text[..json.len()].copy_from_slice(&json);
    Ok(text)
}

fn change(text: &Text) -> Result<Change> {
    let end = text.iter().position(|&byte| byte == 0).unwrap_or(LENGTH);
    serde_json::from_slice(&text[..end])
        .context("cannot understand this entry of the journal of changes")
}
