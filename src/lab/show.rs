//! The lab's status for people.

use super::inspect::{Device, Report, State};
use crate::view::columns::Columns;

const HEADINGS: [&str; 8] = [
    "host",
    "device",
    "ifindex",
    "mac",
    "addresses",
    "mtu",
    "peer",
    "master",
];

pub fn text(state: &State, report: &Report) -> String {
    match state {
        State::Absent => "no lab is up: run `xdpredir lab up`".to_string(),
        State::Incomplete => format!(
            "an incomplete bed: `xdpredir lab up` builds anew, `xdpredir lab down` removes it\n\n{}",
            table(report)
        ),
        State::Up(bed) => format!(
            "the bed {} is up\n\n{}\nNow try:\n  {}",
            bed.name(),
            table(report),
            bed.layout().first_steps.join("\n  ")
        ),
    }
}

fn table(report: &Report) -> String {
    let mut table = Columns::new(&HEADINGS);
    for host in &report.hosts {
        for device in &host.devices {
            let addresses = addresses(device);
            let first = addresses.first().map_or("-", |address| address);
            table.add(row(host.host, device, first));
            for further in addresses.iter().skip(1) {
                table.add(further_address(further));
            }
        }
    }
    table.text(&["ifindex", "mtu"], &["mtu", "master", "peer"])
}

fn row(host: &str, device: &Device, address: &str) -> [String; 8] {
    let or_dash = |name: &Option<String>| name.clone().unwrap_or("-".into());
    [
        host.to_string(),
        device.ifname.clone(),
        device.ifindex.to_string(),
        device.mac.clone(),
        address.to_string(),
        device.mtu.to_string(),
        or_dash(&device.peer),
        or_dash(&device.master),
    ]
}

/// One more row for the device of the row above.
fn further_address(address: &str) -> [String; 8] {
    HEADINGS.map(|heading| match heading {
        "addresses" => address.to_string(),
        _ => String::new(),
    })
}

/// Link-local addresses follow from the MAC, and would only lengthen the table.
fn addresses(device: &Device) -> Vec<&String> {
    let is_global = |address: &&String| !address.starts_with("fe80:");
    device.addresses.iter().filter(is_global).collect()
}
