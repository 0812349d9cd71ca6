//! A server that never reads: the stack delivers each datagram up to its full socket, and counts it.

use std::fs::{self, File};
use std::net::{SocketAddrV4, UdpSocket};

use anyhow::{Context as _, Result};
use nix::sys::socket::{setsockopt, sockopt::RcvBuf};

use crate::host::{run, within};
use crate::window;

pub struct Receiver<'far> {
    far: &'far File,
    _socket: UdpSocket,
}

impl<'far> Receiver<'far> {
    /// The socket is connected to the client, because that is the kernel's fastest lookup of a socket:
    /// the less it costs, the more the compared programs differ.
    pub fn new(far: &'far File, server: SocketAddrV4, client: SocketAddrV4) -> Result<Self> {
        let [address, peer] = [server, client].map(|end| end.ip().to_string());
        let socket = within(far, || {
            run("ip", &["address", "add", &address, "dev", "sink"])?;
            run("ip", &["route", "add", &peer, "dev", "sink"])?;
            let socket = UdpSocket::bind(server)?;
            socket.connect(client)?;
            setsockopt(&socket, RcvBuf, &0)?; // the kernel takes its minimum
            Ok(socket)
        })?;
        Ok(Self {
            far,
            _socket: socket,
        })
    }

    /// Nanoseconds from one datagram that reaches the socket to the next, on average over a window.
    pub fn ns_per_datagram(&self) -> Result<f64> {
        let counted = window::count(|| self.datagrams(), |after, before| (after, after - before))?;
        Ok(counted.ns_per_packet)
    }

    /// Datagrams that reached the socket so far, apart from the few that are in its buffer.
    fn datagrams(&self) -> Result<u64> {
        let snmp = within(self.far, || {
            Ok(fs::read_to_string("/proc/thread-self/net/snmp")?)
        })?;
        udp_counter(&snmp, "RcvbufErrors").context("the kernel does not count UDP datagrams")
    }
}

/// A line of names, then one of values.
fn udp_counter(snmp: &str, name: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter(|line| line.starts_with("Udp: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let mut counters = names.split(' ').zip(values.split(' '));
    counters.find(|counter| counter.0 == name)?.1.parse().ok()
}
