//! What is pinned beside the state of this network namespace.

use std::path::PathBuf;

use anyhow::Result;

use super::bpffs::entries;
use super::{Pins, abi};

impl Pins {
    /// The state of this namespace that another version made.
    pub fn other_versions(&self) -> Result<Vec<PathBuf>> {
        let ours = format!("abi-{}", abi::XDPREDIR_ABI);
        let mut names = entries(&self.namespace)?;
        names.retain(|name| name.starts_with("abi-") && *name != ours);
        Ok(names.iter().map(|name| self.namespace.join(name)).collect())
    }

    /// The directories of other network namespaces, with their cookies.
    pub fn other_namespaces(&self) -> Result<Vec<(u64, PathBuf)>> {
        let cookie = |name: &String| name.strip_prefix("netns-")?.parse().ok();
        let other = |name: String| Some((cookie(&name)?, self.root.join(name)));
        let mut others: Vec<_> = entries(&self.root)?.into_iter().filter_map(other).collect();
        others.retain(|(_, path)| *path != self.namespace);
        Ok(others)
    }
}
