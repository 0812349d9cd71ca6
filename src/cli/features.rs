//! `xdpredir features`

use anyhow::Result;

use super::grammar::{self, Global};
use xdpredir::host::device;
use xdpredir::host::features::Survey;
use xdpredir::model::Features;
use xdpredir::view;

pub fn run(global: &Global, args: &grammar::Features) -> Result<()> {
    let features = gather(&args.interfaces)?;
    if global.json {
        return view::json::print(&features);
    }
    let text = if args.interfaces.is_empty() {
        view::features::table(&features)
    } else {
        view::features::listing(&features)
    };
    view::text(text)?;
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
