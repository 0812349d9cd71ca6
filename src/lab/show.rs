//! The lab's status for people.

use super::inspect::{Device, Host, State, Status};
use crate::view::columns::Columns;

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
    let with = |host| move |device| (host, device);
    let hosts = status.hosts.iter();
    let devices: Vec<(&str, &Device)> = hosts
        .flat_map(|Host { host, devices, .. }| devices.iter().map(with(*host)))
        .collect();
    let or_dash = |name: Option<String>| name.unwrap_or("-".into());
    Columns::of(&devices)
        .text("host", |(host, _)| host.to_string())
        .text("device", |(_, device)| device.ifname.clone())
        .number("ifindex", |(_, device)| device.ifindex.to_string())
        .text("mac", |(_, device)| {
            or_dash(device.mac.map(|mac| mac.to_string()))
        })
        .values("addresses", |(_, device)| addresses(device))
        .number("mtu", |(_, device)| device.mtu.to_string())
        .text("peer", |(_, device)| or_dash(device.peer.clone()))
        .text("master", |(_, device)| or_dash(device.master.clone()))
        .lines(&["mtu", "master", "peer"])
}

/// Link-local addresses follow from the MAC, and would only lengthen the table.
fn addresses(device: &Device) -> Vec<String> {
    let all = device.addresses.iter();
    let global: Vec<String> = all
        .filter(|address| !address.starts_with("fe80:"))
        .cloned()
        .collect();
    match global.is_empty() {
        true => vec!["-".into()],
        false => global,
    }
}
