//! What this host says and asks of addresses on a link, frame by frame: RFC 826, RFC 5227, RFC 4861.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, recv, send, setsockopt, socket, sockopt,
};

use super::sys;
use crate::model::{Mac, VlanId};

/// Linux uapi: linux/if_ether.h.
const ETH_P_ARP: u16 = 0x0806;
const ETH_P_IPV6: u16 = 0x86dd;
const ETH_P_8021Q: u16 = 0x8100;

const REQUEST: u8 = 1;
const REPLY: u8 = 2;

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const ICMPV6: u8 = 58;

const EVERYBODY: Mac = Mac([0xff; 6]);
const NOBODY: Mac = Mac([0; 6]);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// How long who is asked may take to answer. Hosts of one link answer in less than a millisecond, mostly.
const WITHIN: Duration = Duration::from_millis(200);
/// How often is looked for answers meanwhile.
const STEP: Duration = Duration::from_millis(5);
/// For what else arrives meanwhile.
const BUFFER: usize = 1 << 20;

/// Where frames leave, and behind which tags, the outer one first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub ifindex: u32,
    /// The device's own.
    pub mac: Mac,
    pub tags: Vec<VlanId>,
}

/// Who has an address that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub ifindex: u32,
    pub addr: IpAddr,
    pub mac: Mac,
}

/// Says that addresses are at a link's own MAC address: who has another one for them takes this.
pub fn announce(link: &Link, addrs: &[IpAddr]) -> Result<()> {
    let socket = open(link, ETH_P_ARP)?;
    for &addr in addrs {
        match addr {
            IpAddr::V4(addr) => say(&socket, &arp_announcement(link, addr))?,
            IpAddr::V6(addr) => say(&socket, &advertisement(link, addr))?,
        }
    }
    Ok(())
}

/// Asks who has addresses, without an address of the asker (RFC 5227, RFC 4862), so that no host changes
/// its neighbour table.
pub fn who_has(questions: &[(Link, Vec<IpAddr>)]) -> Result<Vec<Owner>> {
    let mut asked = Vec::new();
    for (link, addrs) in questions {
        let (v4, v6): (Vec<_>, Vec<_>) = addrs.iter().partition(|addr| addr.is_ipv4());
        for (protocol, addrs) in [(ETH_P_ARP, v4), (ETH_P_IPV6, v6)] {
            if !addrs.is_empty() {
                asked.push(Asked::new(link, protocol, addrs)?);
            }
        }
    }
    let mut owners = Vec::new();
    let deadline = Instant::now() + WITHIN;
    while asked.iter().any(|asked| !asked.addrs.is_empty()) && Instant::now() < deadline {
        sleep(STEP);
        asked.iter_mut().for_each(|asked| asked.hear(&mut owners));
    }
    Ok(owners)
}

/// What was asked and not answered so far.
struct Asked {
    socket: OwnedFd,
    ifindex: u32,
    addrs: Vec<IpAddr>,
}

impl Asked {
    fn new(link: &Link, protocol: u16, addrs: Vec<IpAddr>) -> Result<Self> {
        let socket = open(link, protocol)?;
        // Fewer bytes than wished for will do, too.
        let _ = setsockopt(&socket, sockopt::RcvBuf, &BUFFER);
        for &addr in &addrs {
            match addr {
                IpAddr::V4(addr) => say(&socket, &arp_probe(link, addr))?,
                IpAddr::V6(addr) => say(&socket, &solicitation(link, addr))?,
            }
        }
        Ok(Asked {
            socket,
            ifindex: link.ifindex,
            addrs,
        })
    }

    /// Takes what has arrived.
    fn hear(&mut self, owners: &mut Vec<Owner>) {
        let mut frame = [0; 128];
        while let Ok(len) = recv(self.socket.as_raw_fd(), &mut frame, MsgFlags::MSG_DONTWAIT) {
            let Some((addr, mac)) = answer(&frame[..len]) else {
                continue;
            };
            if let Some(place) = self.addrs.iter().position(|asked| *asked == addr) {
                self.addrs.swap_remove(place);
                let ifindex = self.ifindex;
                owners.push(Owner { ifindex, addr, mac });
            }
        }
    }
}

fn open(link: &Link, protocol: u16) -> Result<OwnedFd> {
    let (family, kind) = (AddressFamily::Packet, SockType::Raw);
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, None);
    let socket = socket.context("cannot send frames of its own (CAP_NET_RAW)")?;
    sys::bind_packet_socket(&socket, protocol, link.ifindex)
        .with_context(|| format!("cannot send frames out of ifindex {}", link.ifindex))?;
    Ok(socket)
}

/// A device that is down, or full, says nothing: that is no failure of this run.
fn say(socket: &OwnedFd, frame: &[u8]) -> Result<()> {
    match send(socket.as_raw_fd(), frame, MsgFlags::empty()) {
        Ok(_) | Err(Errno::ENETDOWN | Errno::ENOBUFS | Errno::ENXIO) => Ok(()),
        Err(error) => Err(error).context("cannot send a frame"),
    }
}

fn ethernet(link: &Link, to: Mac, protocol: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [to.0, link.mac.0].concat();
    for tag in &link.tags {
        frame.extend(ETH_P_8021Q.to_be_bytes());
        frame.extend(tag.get().to_be_bytes());
    }
    frame.extend(protocol.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A request of all hosts: from whom, and for which address.
fn arp(link: &Link, from: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, REQUEST];
    for (mac, addr) in [(link.mac, from), (NOBODY, target)] {
        arp.extend(mac.0);
        arp.extend(addr.octets());
    }
    ethernet(link, EVERYBODY, ETH_P_ARP, &arp)
}

fn arp_announcement(link: &Link, addr: Ipv4Addr) -> Vec<u8> {
    arp(link, addr, addr)
}

fn arp_probe(link: &Link, addr: Ipv4Addr) -> Vec<u8> {
    arp(link, Ipv4Addr::UNSPECIFIED, addr)
}

/// An advertisement that nobody has asked for, and that replaces what others know.
fn advertisement(link: &Link, addr: Ipv6Addr) -> Vec<u8> {
    const OVERRIDE: u8 = 0x20;
    const TARGET_LINK_LAYER_ADDRESS: u8 = 2;
    let mut message = vec![ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0];
    message.extend(addr.octets());
    message.extend([TARGET_LINK_LAYER_ADDRESS, 1]);
    message.extend(link.mac.0);
    icmpv6(link, addr, ALL_NODES, message)
}

fn solicitation(link: &Link, addr: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    message.extend(addr.octets());
    icmpv6(link, Ipv6Addr::UNSPECIFIED, solicited_node(addr), message)
}

/// The group of all hosts whose addresses end with the same three bytes.
fn solicited_node(addr: Ipv6Addr) -> Ipv6Addr {
    let group = u128::from(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0));
    Ipv6Addr::from(group | u128::from(addr) & 0x00ff_ffff)
}

fn icmpv6(link: &Link, from: Ipv6Addr, to: Ipv6Addr, mut message: Vec<u8>) -> Vec<u8> {
    const HOPS: u8 = 255;
    let len = message.len() as u16;
    let addrs = [from.octets(), to.octets()].concat();
    let check = !sum([&addrs[..], &len.to_be_bytes(), &[0, ICMPV6], &message].concat());
    message[2..4].copy_from_slice(&check.to_be_bytes());
    let [high, low] = len.to_be_bytes();
    let header = [0x60, 0, 0, 0, high, low, ICMPV6, HOPS];
    let [.., a, b, c, d] = to.octets();
    let packet = [&header[..], &addrs, &message].concat();
    ethernet(link, Mac([0x33, 0x33, a, b, c, d]), ETH_P_IPV6, &packet)
}

/// RFC 1071, of an even number of bytes.
fn sum(bytes: Vec<u8>) -> u16 {
    let words = bytes.chunks_exact(2);
    let mut sum: u32 = words
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The address and the MAC address that a frame says belong together, if it is an answer. The kernel has taken
/// the tags.
fn answer(frame: &[u8]) -> Option<(IpAddr, Mac)> {
    let mac = |bytes: &[u8]| Some(Mac(bytes.try_into().ok()?));
    match frame.get(12..)? {
        [8, 6, 0, 1, 8, 0, 6, 4, 0, REPLY, rest @ ..] => {
            let addr = <[u8; 4]>::try_from(rest.get(6..10)?).ok()?;
            Some((addr.into(), mac(rest.get(..6)?)?))
        }
        [0x86, 0xdd, packet @ ..] if packet.get(6) == Some(&ICMPV6) => {
            let message = packet.get(40..)?;
            let is_answer = message.first() == Some(&ADVERTISEMENT);
            let addr = <[u8; 16]>::try_from(message.get(8..24)?).ok()?;
            Some((addr.into(), mac(frame.get(6..12)?)?)).filter(|_| is_answer)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(tags: &[u16]) -> Link {
        Link {
            ifindex: 1,
            mac: Mac([2, 0, 0, 0, 0, 7]),
            tags: tags.iter().copied().filter_map(VlanId::new).collect(),
        }
    }

    #[test]
    fn a_probe_does_not_say_who_asks() {
        let frame = arp_probe(&link(&[5, 6]), Ipv4Addr::new(192, 0, 2, 53));
        assert_eq!(frame[..6], [0xff; 6]);
        assert_eq!(frame[12..20], [0x81, 0, 0, 5, 0x81, 0, 0, 6]);
        assert_eq!(frame[20..22], [8, 6]);
        assert_eq!(frame[36..40], [0; 4], "the sender");
        assert_eq!(frame[46..], [192, 0, 2, 53]);
        let frame = solicitation(&link(&[]), "2001:db8::1:2:3".parse().unwrap());
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 2, 0, 3]);
        assert_eq!(frame[22..38], [0; 16], "the source");
    }

    #[test]
    fn answers_say_who_has_an_address() {
        let link = link(&[]);
        let (v4, v6) = (
            Ipv4Addr::new(192, 0, 2, 53),
            "2001:db8::53".parse().unwrap(),
        );
        let mut reply = arp(&link, v4, Ipv4Addr::UNSPECIFIED);
        assert_eq!(answer(&reply), None, "a request");
        reply[21] = REPLY;
        assert_eq!(answer(&reply), Some((v4.into(), link.mac)));
        let advertised = advertisement(&link, v6);
        assert_eq!(answer(&advertised), Some((v6.into(), link.mac)));
        assert_eq!(answer(&solicitation(&link, v6)), None);
        for len in 0..reply.len() {
            assert_eq!(answer(&reply[..len]).is_some(), len >= 32);
        }
        for len in 0..advertised.len() {
            assert_eq!(answer(&advertised[..len]).is_some(), len >= 78);
        }
    }

    #[test]
    fn what_is_sent_has_good_checksums() {
        let frame = advertisement(&link(&[]), "2001:db8::53".parse().unwrap());
        let (addrs, message) = (&frame[22..54], &frame[54..]);
        let len = (message.len() as u16).to_be_bytes();
        let all = [addrs, &len, &[0, ICMPV6], message].concat();
        assert_eq!(sum(all), 0xffff);
    }
}
