//! What an interface's packets came to.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use super::maps::Counters;
use crate::model::Counter;

/// Packets and bytes by XDP action.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Actions {
    pub aborted: Counter,
    pub drop: Counter,
    pub pass: Counter,
    pub tx: Counter,
    pub redirect: Counter,
}

impl Actions {
    pub fn read(path: &Path) -> Result<Self> {
        let map = Counters::open(path, "actions")?;
        let total = |action| Ok::<_, anyhow::Error>(map.total(action)?.unwrap_or_default());
        // The order of enum xdp_action.
        Ok(Actions {
            aborted: total(0)?,
            drop: total(1)?,
            pass: total(2)?,
            tx: total(3)?,
            redirect: total(4)?,
        })
    }
}
