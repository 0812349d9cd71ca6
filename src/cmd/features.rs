//! `xdpredir features`

use anyhow::Result;

use crate::cli::{self, Global};
use crate::host::device;
use crate::host::features::Survey;
use crate::model::Features;
use crate::show;

pub fn run(global: &Global, args: &cli::Features) -> Result<()> {
    let features = gather(&args.interfaces)?;
    if global.json {
        return show::json::print(&features);
    }
    let text = if args.interfaces.is_empty() {
        show::features::table(&features)
    } else {
        show::features::listing(&features)
    };
    show::text(text)?;
    Ok(())
}

/// Of the named devices, or of all.
fn gather(names: &[String]) -> Result<Vec<Features>> {
    let named = names.iter().map(|name| device::by_name(name));
    let mut named = named.collect::<Result<Vec<_>>>()?;
    let mut seen = std::collections::HashSet::new();
    named.retain(|device| seen.insert(device.ifindex));
    let survey = Survey::take()?;
    let devices = if names.is_empty() {
        survey.devices()
    } else {
        &named
    };
    Ok(devices.iter().map(|d| survey.features(d)).collect())
}
