//! SSH sessions of this host, from the kernel's table of TCP sockets.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::SshSession;

const SSH: u16 = 22;
/// In /proc/net/tcp: TCP_ESTABLISHED.
const ESTABLISHED: &str = "01";

/// The sessions from other hosts in this network namespace. A table that cannot be read has none.
pub fn sessions() -> BTreeSet<SshSession> {
    let ports = [Some(SSH), own_port()];
    let tables = ["tcp", "tcp6"].map(|name| {
        let table = fs::read_to_string(format!("/proc/thread-self/net/{name}"));
        table.unwrap_or_default()
    });
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    let sessions = lines.filter_map(session);
    let is_ssh = |session: &SshSession| ports.contains(&Some(session.port));
    let is_remote =
        |session: &SshSession| session.host != session.addr && !session.host.is_loopback();
    sessions.filter(is_ssh).filter(is_remote).collect()
}

/// The port that the session of this very run came in by: sshd need not listen on 22.
fn own_port() -> Option<u16> {
    let connection = env::var("SSH_CONNECTION").ok()?;
    connection.split(' ').nth(3)?.parse().ok()
}

/// From a line of the table, where it is an established connection.
fn session(line: &str) -> Option<SshSession> {
    let mut words = line.split_whitespace().skip(1);
    let (local, remote, state) = (words.next()?, words.next()?, words.next()?);
    if state != ESTABLISHED {
        return None;
    }
    let (addr, port) = local.split_once(':')?;
    let (host, _) = remote.split_once(':')?;
    Some(SshSession {
        host: address(host)?,
        addr: address(addr)?,
        port: u16::from_str_radix(port, 16).ok()?,
    })
}

/// Words of 32 bits, each as the machine reads the four bytes that are in network byte order.
fn address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at..at + 8)?, 16).ok();
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?.to_ne_bytes()).into()),
        32 => {
            let mut bytes = [0; 16];
            for (index, chunk) in bytes.chunks_mut(4).enumerate() {
                chunk.copy_from_slice(&word(8 * index)?.to_ne_bytes());
            }
            Some(IpAddr::from(Ipv6Addr::from(bytes)).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_read_from_lines_of_the_table() {
        let of = |local: &str, remote: &str, state: &str| {
            session(&format!(
                "   0: {local} {remote} {state} 00000000:00000000 02:000A 0 0"
            ))
        };
        let expected = |host: &str, addr: &str, port| {
            let (host, addr) = (host.parse().unwrap(), addr.parse().unwrap());
            Some(SshSession { host, addr, port })
        };
        assert_eq!(
            of("0200000A:0016", "0100000A:C350", "01"),
            expected("10.0.0.1", "10.0.0.2", 22)
        );
        assert_eq!(of("0200000A:0016", "0100000A:C350", "06"), None);
        let (here, there) = (
            "B80D0120000000000000000002000000",
            "B80D0120000000000000000001000000",
        );
        assert_eq!(
            of(&format!("{here}:08AE"), &format!("{there}:0001"), "01"),
            expected("2001:db8::1", "2001:db8::2", 2222)
        );
        let mapped = "0000000000000000FFFF00000100000A";
        assert_eq!(
            of(&format!("{mapped}:0016"), &format!("{mapped}:0001"), "01"),
            expected("10.0.0.1", "10.0.0.1", 22)
        );
        assert_eq!(session("  sl  local_address rem_address   st"), None);
        assert_eq!(session("1: 0200:16 01:1 01"), None);
    }
}
