//! What a device can do, as far as XDP minds, and what it belongs to.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::Mac;

#[derive(Clone, Debug, Default, Serialize)]
pub struct Features {
    pub ifname: String,
    pub ifindex: u32,
    /// The rtnetlink kind; None for hardware and lo.
    pub kind: Option<String>,
    pub driver: Option<String>,
    /// Where the driver finds the device: a PCI address; tap or tun.
    pub bus: Option<String>,
    pub mac: Option<Mac>,
    /// Bytes of an IP packet.
    pub mtu: u32,
    /// Administratively up, and so is its link.
    pub up: bool,
    pub xdp: XdpFeatures,
    /// How the program is attached to its tc hook; None where it has none: its frames have no Ethernet header.
    pub tc: Option<TcHook>,
    pub offloads: Offloads,
    /// The bridge, bond or VRF that it is a port of.
    pub master: Option<Related>,
    pub ports: Vec<Related>,
    /// The VLAN identifier of a VLAN device.
    pub vlan: Option<u16>,
    /// A tap whose other side may hand over large frames, as a VM does.
    #[serde(skip)]
    pub vnet_header: bool,
    /// The device that a VLAN, macvlan or tunnel device sends by.
    pub lower: Option<Remote>,
    /// The devices of this namespace that send by this one.
    pub upper: Vec<Related>,
    /// The other end of a veth or netkit.
    pub peer: Option<Peer>,
}

/// None: not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct XdpFeatures {
    pub source: FeatureSource,
    /// Runs programs in the driver.
    pub native: Option<bool>,
    /// Those programs can redirect.
    pub redirect: Option<bool>,
    /// Takes frames that native programs redirect to it (`NDO_XMIT`).
    pub redirect_target: Option<bool>,
    /// Programs see frames in several buffers (`RX_SG`).
    pub multi_buffer_rx: Option<bool>,
    /// Takes redirected frames in several buffers (`NDO_XMIT_SG`).
    pub multi_buffer_tx: Option<bool>,
    /// AF_XDP without a copy.
    pub zero_copy: Option<bool>,
}

/// How a program is attached to the tc hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TcHook {
    /// By a link of its own, beside other programs.
    Tcx,
    /// As a filter of a queueing discipline: before Linux 6.6.
    Clsact,
}

/// Who says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FeatureSource {
    #[default]
    Kernel,
    /// Inferred from the driver and the peer: kernels before 6.3 don't tell.
    Guess,
}

/// None: not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Offloads {
    pub tx_checksum: Option<bool>,
    pub gro: Option<bool>,
    pub lro: Option<bool>,
    pub tso: Option<bool>,
    pub gso: Option<bool>,
    /// Takes several UDP datagrams of one flow as one large frame, as QUIC servers and clients send them.
    pub tx_udp_segmentation: Option<bool>,
    /// Takes VLAN tags out of frames, so that XDP doesn't see them.
    pub rx_vlan: Option<bool>,
    pub tx_vlan: Option<bool>,
}

/// The queues that a device receives by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RxQueues {
    pub now: u32,
    /// As many as it can have.
    pub most: u32,
}

/// Another device of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Related {
    pub ifname: String,
    pub ifindex: u32,
    pub kind: Option<String>,
}

/// A device that may be in another namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Remote {
    /// As its own namespace counts.
    pub ifindex: u32,
    /// None where its namespace can't be entered.
    pub ifname: Option<String>,
    /// What this namespace calls the other one; None: the same namespace.
    pub nsid: Option<i32>,
    /// None in the same namespace, and where none was found with that nsid.
    pub netns: Option<Netns>,
}

/// How to get into a network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Netns {
    pub path: PathBuf,
    /// Under /run/netns.
    pub name: Option<String>,
    /// Where it has no name: a process in it.
    pub pid: Option<u32>,
    pub command: Option<String>,
}

impl Remote {
    /// A device of this namespace.
    pub fn here(ifindex: u32, ifname: &str) -> Self {
        Remote {
            ifindex,
            ifname: Some(ifname.to_string()),
            nsid: None,
            netns: None,
        }
    }

    pub fn name(&self) -> String {
        let ifindex = || format!("ifindex {}", self.ifindex);
        self.ifname.clone().unwrap_or_else(ifindex)
    }

    /// Whether it is where this process is, or where it can go.
    pub fn is_within_reach(&self) -> bool {
        self.netns.is_some() || self.nsid.is_none()
    }
}

/// With the namespace where it is, if that is another one.
impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        match (&self.netns, self.nsid) {
            (Some(netns), _) => write!(f, " in {netns}"),
            (None, Some(nsid)) => {
                write!(f, " in nsid {nsid}, which has no name or process here")
            }
            (None, None) => Ok(()),
        }
    }
}

impl fmt::Display for Netns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.name, self.pid, &self.command) {
            (Some(name), ..) => f.write_str(name),
            (None, Some(pid), Some(command)) => write!(f, "pid {pid} ({command})"),
            _ => write!(f, "{}", self.path.display()),
        }
    }
}

/// None where the peer's namespace can't be entered.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Peer {
    #[serde(flatten)]
    pub device: Remote,
    pub mac: Option<Mac>,
    pub mtu: Option<u32>,
    pub up: Option<bool>,
    pub gro: Option<bool>,
    /// What it sends may be large TCP segments.
    pub tso: Option<bool>,
    /// What it sends may be several UDP datagrams in one frame.
    pub tx_udp_segmentation: Option<bool>,
    /// A native XDP program runs there.
    pub native_program: Option<bool>,
}
