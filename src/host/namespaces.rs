//! The other network namespaces of this host, by the numbers that this one has given them.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::netns;
use crate::model::Netns;

/// By nsid. A namespace that neither a name nor a process keeps is not among them.
pub struct Namespaces(HashMap<i32, Netns>);

impl Namespaces {
    /// Looks through the names and then, for what has none, through the processes.
    pub fn find() -> Self {
        let mut found = HashMap::new();
        for netns in all() {
            let nsid = netns::file(&netns.path)
                .ok()
                .and_then(|file| netns::nsid(&file).ok()?);
            if let Some(nsid) = nsid {
                found.entry(nsid).or_insert(netns);
            }
        }
        Namespaces(found)
    }

    /// The namespace that has a cookie, under whatever name or process.
    pub fn with_cookie(cookie: u64) -> Option<Netns> {
        let has_it =
            |netns: &Netns| netns::within(&netns.path, netns::cookie).is_ok_and(|it| it == cookie);
        all().find(has_it)
    }

    /// The path of the namespace that has a cookie, if it has a name.
    pub fn with_name(cookie: u64) -> Option<PathBuf> {
        let has_it =
            |netns: &Netns| netns::within(&netns.path, netns::cookie).is_ok_and(|it| it == cookie);
        named().into_iter().find(has_it).map(|netns| netns.path)
    }

    /// What the first namespace that has an answer says, asked from inside.
    pub fn first<T: Send>(ask: impl Fn() -> Result<Option<T>> + Sync) -> Option<(Netns, T)> {
        all().find_map(|netns| {
            let answer = netns::within(&netns.path, &ask).ok().flatten();
            answer.map(|answer| (netns, answer))
        })
    }

    /// The cookies of all namespaces that have a name or a process.
    pub fn cookies() -> HashSet<u64> {
        all()
            .filter_map(|netns| netns::within(&netns.path, netns::cookie).ok())
            .collect()
    }

    pub fn get(&self, nsid: i32) -> Option<&Netns> {
        self.0.get(&nsid)
    }
}

fn all() -> impl Iterator<Item = Netns> {
    named().into_iter().chain(processes())
}

fn named() -> Vec<Netns> {
    let mut names = entries(Path::new(netns::NAMED));
    names.sort();
    let netns = |name: String| Netns {
        path: Path::new(netns::NAMED).join(&name),
        name: Some(name),
        pid: None,
        command: None,
    };
    names.into_iter().map(netns).collect()
}

/// One process of each namespace: the one with the lowest number.
fn processes() -> Vec<Netns> {
    let mut pids: Vec<u32> = entries(Path::new("/proc"))
        .iter()
        .filter_map(|name| name.parse().ok())
        .collect();
    pids.sort_unstable();
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for pid in pids {
        let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
        let inode = fs::metadata(&path).map(|file| file.ino());
        if inode.is_ok_and(|inode| seen.insert(inode)) {
            found.push(process(pid, path));
        }
    }
    found
}

fn process(pid: u32, path: PathBuf) -> Netns {
    let command = fs::read_to_string(format!("/proc/{pid}/comm")).ok();
    Netns {
        path,
        name: None,
        pid: Some(pid),
        command: command.map(|command| command.trim_end().to_string()),
    }
}

fn entries(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let name = |entry: fs::DirEntry| entry.file_name().into_string().ok();
    entries.filter_map(name).collect()
}
