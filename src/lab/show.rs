//! The lab's status for people.

use super::inspect::{Device, State, Status};
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

impl Status {
    /// For people.
    pub fn text(&self) -> String {
        match self.state {
            State::Absent => "no lab is up: run `xdpredir lab up`".to_string(),
            State::Incomplete => format!(
                "an incomplete bed: `xdpredir lab up` makes it again, `xdpredir lab down` removes it\n\n{}",
                table(self)
            ),
            State::Up(bed) => format!(
                "the bed {} is up\n\n{}\nNow try:\n  {}",
                bed.name,
                table(self),
                bed.first_steps.join("\n  ")
            ),
        }
    }
}

fn table(status: &Status) -> String {
    let mut table = Columns::new(&HEADINGS);
    for host in &status.hosts {
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
    let or_dash = |name: Option<String>| name.unwrap_or("-".into());
    [
        host.to_string(),
        device.ifname.clone(),
        device.ifindex.to_string(),
        or_dash(device.mac.map(|mac| mac.to_string())),
        address.to_string(),
        device.mtu.to_string(),
        or_dash(device.peer.clone()),
        or_dash(device.master.clone()),
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
