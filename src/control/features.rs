//! What devices can do with XDP, and at the tc hook.

use std::collections::HashSet;

use anyhow::Result;

use crate::datapath;
use crate::host::device;
use crate::host::features::Survey;
use crate::model::{Features, TcHook};

/// The features of the named devices, or of all devices where none is named.
pub fn features(names: &[String]) -> Result<Vec<Features>> {
    let named = names.iter().map(|name| device::by_name(name));
    let mut named = named.collect::<Result<Vec<_>>>()?;
    let mut seen = HashSet::new();
    named.retain(|device| seen.insert(device.ifindex));
    let survey = Survey::take()?;
    let devices = if names.is_empty() {
        survey.devices()
    } else {
        &named
    };
    let hook = tc_hook();
    let features = devices.iter().map(|device| Features {
        tc: device.require_ethernet_header().is_ok().then_some(hook),
        ..survey.features(device)
    });
    Ok(features.collect())
}

fn tc_hook() -> TcHook {
    const LO: u32 = 1; // in each network namespace
    match datapath::knows_tcx(LO) {
        true => TcHook::Tcx,
        false => TcHook::Clsact,
    }
}
