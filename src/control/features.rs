//! What devices can do with XDP.

use std::collections::HashSet;

use anyhow::Result;

use crate::host::device;
use crate::host::features::Survey;
use crate::model::Features;

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
    Ok(devices.iter().map(|d| survey.features(d)).collect())
}
