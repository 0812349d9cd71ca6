//! Announced addresses: who is told of them, and who has them already.

use std::net::IpAddr;

use anyhow::Result;

use crate::datapath::{self, Interface, Pins};
use crate::host::device;
use crate::host::link_address::{self, Link, Owner};
use crate::model::{Mac, Match, Purpose, Rule};

/// Another host has an address that a rule is to announce.
#[derive(Clone, Debug)]
pub struct Taken {
    pub addr: IpAddr,
    pub mac: Mac,
    /// The interface behind which that host is.
    pub interface: String,
}

/// Says for announced addresses that they are at the MAC addresses of the interfaces where their rules hold.
pub fn tell(pins: &Pins, rules: &[Rule]) -> Result<()> {
    for (link, addrs) in announced(pins, rules)? {
        link_address::announce(&link, &addrs)?;
    }
    Ok(())
}

/// The first address that is to be announced and that another host has, as far as this process may ask.
pub fn taken(pins: &Pins, rules: &[Rule]) -> Result<Option<Taken>> {
    let questions = announced(pins, rules)?;
    let Ok(owners) = owners(&questions) else {
        return Ok(None);
    };
    let first = owners.first().map(|owner| Taken {
        addr: owner.addr,
        mac: owner.mac,
        interface: device::name_of(owner.ifindex).unwrap_or_default(),
    });
    Ok(first)
}

fn announced(pins: &Pins, rules: &[Rule]) -> Result<Vec<(Link, Vec<IpAddr>)>> {
    if rules.iter().all(|rule| !rule.announce) {
        return Ok(Vec::new());
    }
    let interfaces = datapath::interfaces(pins)?;
    let mut all: Vec<(Link, Vec<IpAddr>)> = Vec::new();
    for rule in rules.iter().filter(|rule| rule.announce) {
        let addrs = addresses(&rule.matches);
        for link in links(&rule.matches, &interfaces)? {
            match all.iter_mut().find(|(other, _)| *other == link) {
                Some((_, others)) => others.extend(&addrs),
                None => all.push((link, addrs.clone())),
            }
        }
    }
    for (_, addrs) in &mut all {
        addrs.sort_unstable();
        addrs.dedup();
    }
    Ok(all)
}

/// Who else has addresses. The interfaces of this host may stand on one link, and answer each other.
pub fn owners(questions: &[(Link, Vec<IpAddr>)]) -> Result<Vec<Owner>> {
    let mut owners = link_address::who_has(questions)?;
    if !owners.is_empty() {
        let own: Vec<Mac> = device::all()?.iter().filter_map(|d| d.mac).collect();
        owners.retain(|owner| !own.contains(&owner.mac));
    }
    Ok(owners)
}

/// The most addresses of a destination that can be announced.
const MOST: u128 = 256;

/// The addresses of a rule's destination; none where there are too many.
pub fn addresses(matches: &Match) -> Vec<IpAddr> {
    let dst = matches.dst;
    let host_bits = u32::from(dst.max_prefix_len() - dst.prefix_len());
    let count = 1u128.checked_shl(host_bits).unwrap_or(u128::MAX);
    if count > MOST {
        return Vec::new();
    }
    let nth = |n: u128| match dst.network() {
        IpAddr::V4(first) => IpAddr::V4((u32::from(first) + n as u32).into()),
        IpAddr::V6(first) => IpAddr::V6((u128::from(first) + n).into()),
    };
    (0..count).map(nth).collect()
}

/// Where a rule holds.
fn links(matches: &Match, interfaces: &[Interface]) -> Result<Vec<Link>> {
    let holds = |interface: &&Interface| {
        let ingress = matches.ingress;
        let takes = interface.purpose == Purpose::Rules && !interface.moved;
        takes && ingress.is_none_or(|ifindex| ifindex == interface.ifindex)
    };
    let mut links = Vec::new();
    for interface in interfaces.iter().filter(holds) {
        if let Some(device) = device::by_index(interface.ifindex)? {
            links.extend(device.mac.map(|mac| link(matches, device.ifindex, mac)));
        }
    }
    Ok(links)
}

/// A device, as packets that a rule takes come there.
pub fn link(matches: &Match, ifindex: u32, mac: Mac) -> Link {
    let tags = [matches.vlan, matches.inner_vlan].into_iter().flatten();
    Link {
        ifindex,
        mac,
        tags: tags.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_of_a_prefix_are_meant() {
        let of = |dst: &str| {
            let dst: crate::model::Prefix = dst.parse().expect("a prefix");
            addresses(&Match {
                dst,
                ..Match::any_like(dst.addr())
            })
        };
        let text = |dst| of(dst).iter().map(IpAddr::to_string).collect::<Vec<_>>();
        assert_eq!(text("192.0.2.4/31"), ["192.0.2.4", "192.0.2.5"]);
        assert_eq!(text("2001:db8::"), ["2001:db8::"]);
        assert_eq!(of("255.255.255.0/24").len(), 256);
        assert_eq!(of("2001:db8::/120").len(), 256);
        assert!(of("192.0.2.0/23").is_empty() && of("::/0").is_empty());
    }
}
