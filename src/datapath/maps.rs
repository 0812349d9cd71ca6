//! Pinned maps with typed keys and values.

use std::fmt;
use std::marker::PhantomData;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use libbpf_rs::{ErrorKind, MapCore, MapFlags, MapHandle, MapType, libbpf_sys};

use super::abi::{self, Plain};
use super::bpffs::At;
use super::ruleset::room::{Limit, makes_room};
use super::{Pins, sys};
use crate::error::{Coded, Exit, Failure};
use crate::model::{Counter, Remedy};

/// Entries to a system call. The kernel reads whole buckets of a hash map, and refuses a call that has no
/// room for one.
const BATCH: usize = 16384;
const BATCH_BYTES: usize = 8 << 20;

/// How often an update is tried while there is no memory, and how long it waits in between.
const ATTEMPTS: usize = 200;
const PAUSE: Duration = Duration::from_millis(5);

pub struct Map<K, V> {
    handle: MapHandle,
    name: &'static str,
    types: PhantomData<(K, V)>,
}

impl<K: Plain, V: Plain> Map<K, V> {
    pub fn open(path: &Path, name: &'static str) -> Result<Self> {
        let handle = MapHandle::from_pinned_path(path).at("cannot open", path)?;
        Ok(Map::of(handle, name))
    }

    /// A map that is open.
    pub fn of(handle: MapHandle, name: &'static str) -> Self {
        Map {
            handle,
            name,
            types: PhantomData,
        }
    }

    /// A map that all interfaces of the network namespace share.
    pub fn shared(pins: &Pins, name: &'static str) -> Result<Self> {
        Map::open(&pins.map(name), name)
    }

    pub fn get(&self, key: &K) -> Result<Option<V>> {
        let value = self.handle.lookup(abi::bytes_of(key), MapFlags::ANY)?;
        value.map(|bytes| abi::from_bytes(&bytes)).transpose()
    }

    pub fn put(&self, key: &K, value: &V) -> Result<()> {
        let (key, value) = (abi::bytes_of(key), abi::bytes_of(value));
        self.explain(with_patience(|| {
            self.handle.update(key, value, MapFlags::ANY)
        }))
    }

    pub fn put_many(&self, keys: &[K], values: &[V]) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let (keys_bytes, values_bytes) = (bytes_of_all(keys), bytes_of_all(values));
        let (count, flags) = (keys.len() as u32, MapFlags::ANY);
        self.explain(with_patience(|| {
            let handle = &self.handle;
            handle.update_batch(&keys_bytes, &values_bytes, count, flags, flags)
        }))
    }

    /// Deletes an entry, if it is there.
    pub fn delete(&self, key: &K) -> Result<()> {
        match self.handle.delete(abi::bytes_of(key)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => Ok(result?),
        }
    }

    pub fn keys(&self) -> Result<Vec<K>> {
        let keys = self.handle.keys();
        keys.map(|key| abi::from_bytes(&key)).collect()
    }

    /// Deletes the entries of a hash map that are not to be kept.
    pub fn retain(&self, is_kept: impl Fn(&K) -> bool) -> Result<()> {
        let mut gone = Vec::new();
        for batch in self.batches()? {
            let keys = batch?.into_iter().map(|(key, _)| key);
            gone.extend(keys.filter(|key| !is_kept(key)));
        }
        gone.iter().try_for_each(|key| self.delete(key))
    }

    /// All entries of a hash map.
    pub fn entries(&self) -> Result<Vec<(K, V)>> {
        let mut entries = Vec::new();
        for batch in self.batches()? {
            entries.extend(batch?);
        }
        Ok(entries)
    }

    /// How many entries a hash map has.
    pub fn count(&self) -> Result<usize> {
        let mut count = 0;
        for batch in self.batches()? {
            count += batch?.len();
        }
        Ok(count)
    }

    /// The entries of a hash map, many to a system call.
    pub fn batches(&self) -> Result<impl Iterator<Item = Result<Vec<(K, V)>>>> {
        let most = BATCH.min(BATCH_BYTES / size_of::<V>());
        let most = most.min(self.handle.max_entries() as usize);
        let (mut keys, mut values) = (vec![abi::zero(); most], vec![abi::zero(); most]);
        let mut cursor = sys::Cursor::default();
        Ok(std::iter::from_fn(move || {
            if cursor.done {
                return None;
            }
            let count = sys::lookup_batch(&self.handle, &mut cursor, &mut keys, &mut values);
            cursor.done |= count.is_err();
            let entries = |count| {
                let entries = keys.iter().copied().zip(values.iter().copied());
                entries.take(count).collect()
            };
            let context = || format!("cannot read the map {}", self.name);
            Some(count.map(entries).with_context(context))
        }))
    }

    /// Names the limit where the map is full.
    fn explain(&self, result: libbpf_rs::Result<()>) -> Result<()> {
        result.map_err(|error| {
            if is_full(&error) {
                let (name, limit) = (self.name, self.handle.max_entries());
                Failure::new(Full { name, limit })
            } else {
                anyhow::Error::from(error).context(format!("cannot write to the map {}", self.name))
            }
        })
    }
}

/// Makes a map, which nothing has pinned.
pub fn create<K: Plain, V: Plain>(
    name: &str,
    kind: MapType,
    entries: u32,
    flags: u32,
) -> libbpf_rs::Result<MapHandle> {
    let options = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
        map_flags: flags,
        ..Default::default()
    };
    let (key, value) = (size_of::<K>() as u32, size_of::<V>() as u32);
    MapHandle::create(kind, Some(name), key, value, entries, &options)
}

/// The kernel allocates an entry of a hash map without waiting for memory (BPF_F_NO_PREALLOC), and says
/// ENOMEM where there is none for just a moment.
fn with_patience(update: impl Fn() -> libbpf_rs::Result<()>) -> libbpf_rs::Result<()> {
    for _ in 0..ATTEMPTS {
        match update() {
            Err(error) if error.kind() == ErrorKind::OutOfMemory => sleep(PAUSE),
            result => return result,
        }
    }
    update()
}

fn bytes_of_all<T: Plain>(values: &[T]) -> Vec<u8> {
    let bytes: Vec<&[u8]> = values.iter().map(abi::bytes_of).collect();
    bytes.concat()
}

/// A map has no room.
#[derive(Debug)]
pub struct Full {
    pub name: &'static str,
    pub limit: u32,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Limit::of_map(self.name) {
            Some(limit) => limit.fmt(f),
            None => write!(
                f,
                "the map {} is full: it holds {} entries",
                self.name, self.limit
            ),
        }
    }
}

impl Coded for Full {
    fn exit(&self) -> Exit {
        Exit::Failed
    }

    fn remedy(&self) -> Remedy {
        Limit::of_map(self.name).map_or_else(Remedy::default, |_| makes_room())
    }
}

/// Whether an error says that a map has no room.
pub fn says_full(error: &anyhow::Error) -> bool {
    let failure: Option<&Failure> = error.downcast_ref();
    failure.is_some_and(|failure| failure.typed::<Full>().is_some())
}

/// Hash maps say E2BIG when they are full.
fn is_full(error: &libbpf_rs::Error) -> bool {
    error.kind() == ErrorKind::TooBig
}

/// A per-CPU map of numbers; read as the sum over all CPUs.
impl Map<u32, u64> {
    pub fn sum(&self, key: u32) -> Result<u64> {
        let per_cpu = self
            .handle
            .lookup_percpu(abi::bytes_of(&key), MapFlags::ANY)?;
        let numbers = per_cpu.into_iter().flatten();
        numbers.map(|bytes| abi::from_bytes::<u64>(&bytes)).sum()
    }
}

impl<V: Plain> Map<u32, V> {
    /// The values of a per-CPU map: one for each CPU that there can be, in the order of their numbers; none where there
    /// is no such key.
    pub fn per_cpu(&self, key: u32) -> Result<Vec<V>> {
        let per_cpu = self
            .handle
            .lookup_percpu(abi::bytes_of(&key), MapFlags::ANY)?;
        let values = per_cpu.into_iter().flatten();
        values.map(|bytes| abi::from_bytes(&bytes)).collect()
    }
}

/// A per-CPU map of counters.
pub type Counters = Map<u32, abi::counter>;

impl Counters {
    /// One for each CPU that there can be, in the order of their numbers.
    pub fn by_cpu(&self, key: u32) -> Result<Vec<Counter>> {
        let per_cpu = self.per_cpu(key)?.into_iter();
        let counters = per_cpu.map(|abi::counter { packets, bytes }| Counter { packets, bytes });
        Ok(counters.collect())
    }
}
