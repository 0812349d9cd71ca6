//! The beds, each a table of the commands that make it. A host's IPv6 address follows from its IPv4
//! address, whose third and last number are read as they stand: 192.168.122.10 has fd00:122::10
//! beside it, and the internet's 198.51.100.1 has 2001:db8:100::1. Only 172.17.0.2/16 has fd00:17::2.

pub struct Bed {
    pub name: &'static str,
    /// What it is, in help.
    pub about: &'static str,
    pub hosts: &'static [&'static str],
    /// The hosts that forward packets from one of their links to another.
    pub routers: &'static [&'static str],
    /// One command a line, behind the host in whose namespace it runs.
    pub commands: &'static str,
    /// What to do first in the bed.
    pub first_steps: &'static [&'static str],
}

const REDIRECT: Bed = Bed {
    name: "redirect",
    about: "A vm behind virbr0 and a udpserver behind docker0, with the host between them",
    hosts: &["host", "vm", "udpserver"],
    routers: &["host"],
    commands: "\
host       ip link add virbr0 address 52:54:00:7a:01:01 type bridge stp_state 0
host       ip link set virbr0 up
host       ip addr add 192.168.122.1/24 dev virbr0
host       ip addr add fd00:122::1/64 dev virbr0 nodad
host       ip link add vnet0 index 21 type veth peer name eth0 netns xdpredir-vm
host       ip link set vnet0 address 52:5d:6a:08:42:32 master virbr0 up
vm         ip link set eth0 address 52:54:00:7a:01:0a up
vm         ip addr add 192.168.122.10/24 dev eth0
vm         ip addr add fd00:122::10/64 dev eth0 nodad
vm         ip route add default via 192.168.122.1
vm         ip route add default via fd00:122::1
host       ip link add docker0 address 02:42:64:b8:88:a4 type bridge stp_state 0
host       ip link set docker0 up
host       ip addr add 172.17.0.1/16 dev docker0
host       ip addr add fd00:17::1/64 dev docker0 nodad
host       ip link add vethea881ef index 25 type veth peer name eth0 index 24 netns xdpredir-udpserver
host       ip link set vethea881ef address ee:1d:d4:fd:50:55 master docker0 up
udpserver  ip link set eth0 address 02:42:ac:11:00:02 up
udpserver  ip addr add 172.17.0.2/16 dev eth0
udpserver  ip addr add fd00:17::2/64 dev eth0 nodad
udpserver  ip route add default via 172.17.0.1
udpserver  ip route add default via fd00:17::1
",
    first_steps: &[
        "xdpredir lab exec host -- xdpredir attach virbr0",
        "xdpredir lab exec host -- xdpredir rule add --src 192.168.122.10 \
         --server 172.17.0.2 --mac 02:42:ac:11:00:02 --ifindex 25",
    ],
};

const PAIR: Bed = Bed {
    name: "pair",
    about: "One veth pair with MTU 9000: veth1 10.2.2.1 in host, veth2 10.2.2.2 in xdp",
    hosts: &["host", "xdp"],
    routers: &[],
    commands: "\
host  ip link add veth1 type veth peer name veth2 netns xdpredir-xdp
host  ip link set veth1 address 52:54:27:27:27:25 mtu 9000 up
host  ip addr add 10.2.2.1/24 dev veth1
host  ip addr add fd00:2::1/64 dev veth1 nodad
xdp   ip link set veth2 address 52:54:27:27:27:26 mtu 9000 up
xdp   ip addr add 10.2.2.2/24 dev veth2
xdp   ip addr add fd00:2::2/64 dev veth2 nodad
",
    first_steps: &["xdpredir lab exec host -- xdpredir attach veth1"],
};

/// br-lan carries no address of the host: whatever leaves the client goes through xdp. The
/// internet has no route back to the bed: without the masquerade nothing would return from there.
/// Where br_netfilter is loaded, a frame on br-lan would be tracked, and so not be masqueraded any
/// more when it is back on br-wan.
const GATEWAY: Bed = Bed {
    name: "gateway",
    about: "A client, a router (xdp) and a server, with br-lan and br-wan between them; the host masquerades \
            to an internet",
    hosts: &["host", "client", "xdp", "server", "internet"],
    routers: &["host", "xdp"],
    commands: "\
host      ip link add br-lan address 52:54:00:7a:0a:01 type bridge stp_state 0
host      ip link set br-lan up
host      ip link add client0 type veth peer name eth0 netns xdpredir-client
host      ip link set client0 master br-lan up
client    ip link set eth0 address 52:54:00:7a:0a:0a up
client    ip addr add 192.168.10.10/24 dev eth0
client    ip addr add fd00:10::10/64 dev eth0 nodad
client    ip route add default via 192.168.10.2
client    ip route add default via fd00:10::2
host      ip link add xdp-lan type veth peer name lan netns xdpredir-xdp
host      ip link set xdp-lan master br-lan up
xdp       ip link set lan address 52:54:00:7a:0a:02 up
xdp       ip addr add 192.168.10.2/24 dev lan
xdp       ip addr add fd00:10::2/64 dev lan nodad
host      ip link add br-wan address 52:54:00:7a:14:01 type bridge stp_state 0
host      ip link set br-wan up
host      ip addr add 192.168.20.1/24 dev br-wan
host      ip addr add fd00:20::1/64 dev br-wan nodad
host      ip route add 192.168.10.0/24 via 192.168.20.2
host      ip route add fd00:10::/64 via fd00:20::2
host      ip link add xdp-wan type veth peer name wan netns xdpredir-xdp
host      ip link set xdp-wan master br-wan up
xdp       ip link set wan address 52:54:00:7a:14:02 up
xdp       ip addr add 192.168.20.2/24 dev wan
xdp       ip addr add fd00:20::2/64 dev wan nodad
xdp       ip route add default via 192.168.20.1
xdp       ip route add default via fd00:20::1
host      ip link add server0 type veth peer name eth0 netns xdpredir-server
host      ip link set server0 master br-wan up
server    ip link set eth0 address 52:54:00:7a:14:14 up
server    ip addr add 192.168.20.20/24 dev eth0
server    ip addr add fd00:20::20/64 dev eth0 nodad
server    ip route add 192.168.10.0/24 via 192.168.20.2
server    ip route add fd00:10::/64 via fd00:20::2
server    ip route add default via 192.168.20.1
server    ip route add default via fd00:20::1
host      ip link add uplink type veth peer name eth0 netns xdpredir-internet
host      ip link set uplink up
host      ip addr add 198.51.100.2/24 dev uplink
host      ip addr add 2001:db8:100::2/64 dev uplink nodad
internet  ip link set eth0 up
internet  ip addr add 198.51.100.1/24 dev eth0
internet  ip addr add 2001:db8:100::1/64 dev eth0 nodad
host      nft add table inet lab
host      nft add chain inet lab postrouting { type nat hook postrouting priority srcnat ; }
host      nft add rule inet lab postrouting oifname uplink masquerade
host      nft add chain inet lab bridged { type filter hook prerouting priority raw ; }
host      nft add rule inet lab bridged iifname br-lan notrack
",
    first_steps: &[
        "xdpredir lab exec xdp -- xdpredir attach lan",
        "xdpredir lab exec xdp -- xdpredir rule add --src 192.168.10.10 \
         --server 192.168.20.20 --mac 52:54:00:7a:14:14 --dev wan",
    ],
};

/// The host's addresses, and the MAC address of its NIC, are the guest's, too: what it is sent arrives there
/// over the wire. The host's own neighbours are permanent, because the answers to its requests for them
/// cross the wire as well. Segmentation is off where frames are sent, because generic mode forwards no frame
/// of several segments; GRO is on there, because native mode forwards to no veth whose peer has none.
const WIRE: Bed = Bed {
    name: "wire",
    about: "A client behind nic, and a guest behind veth0 that has the host's addresses: all but SSH crosses the host",
    hosts: &["host", "client", "guest"],
    routers: &[],
    commands: "\
host    ip link add nic type veth peer name eth0 netns xdpredir-client
host    ip link set nic address 52:54:00:7a:1e:02 up
host    ip addr add 10.3.3.2/24 dev nic
host    ip addr add fd00:3::2/64 dev nic nodad
client  ethtool -K eth0 gro on tso off tx-udp-segmentation off
client  ip link set eth0 address 52:54:00:7a:1e:01 up
client  ip addr add 10.3.3.1/24 dev eth0
client  ip addr add fd00:3::1/64 dev eth0 nodad
host    ip neigh replace 10.3.3.1 lladdr 52:54:00:7a:1e:01 dev nic nud permanent
host    ip neigh replace fd00:3::1 lladdr 52:54:00:7a:1e:01 dev nic nud permanent
host    ip link add veth0 type veth peer name eth0 netns xdpredir-guest
host    ip link set veth0 up
guest   ethtool -K eth0 gro on tso off tx-udp-segmentation off
guest   ip link set eth0 address 52:54:00:7a:1e:02 up
guest   ip addr add 10.3.3.2/24 dev eth0
guest   ip addr add fd00:3::2/64 dev eth0 nodad
",
    first_steps: &[
        "xdpredir lab exec host -- xdpredir attach nic veth0",
        "xdpredir lab exec host -- xdpredir rule add --in nic --proto tcp --port 22 --pass",
        "xdpredir lab exec host -- xdpredir policy veth0 forward:nic",
        "xdpredir lab exec host -- xdpredir policy nic forward:veth0",
    ],
};

/// Comes first in every bed's list of hosts, and carries the mark of a finished bed.
pub const HOST: &str = "host";

pub static BEDS: [Bed; 4] = [REDIRECT, PAIR, GATEWAY, WIRE];

impl Bed {
    pub fn by_name(name: &str) -> Option<&'static Bed> {
        BEDS.iter().find(|bed| bed.name == name)
    }

    /// The rows of the table: a host and the words of a command.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
        self.commands.lines().filter_map(|line| {
            let (host, command) = line.split_once(' ')?;
            Some((host, command.split_whitespace().collect()))
        })
    }
}

/// Every host of every bed, once.
pub fn all_hosts() -> Vec<&'static str> {
    let mut hosts = Vec::new();
    for host in BEDS.iter().flat_map(|bed| bed.hosts) {
        if !hosts.contains(host) {
            hosts.push(*host);
        }
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_a_bed_names_one_of_its_hosts_and_the_first_one_has_the_mark() {
        for bed in &BEDS {
            assert_eq!(bed.hosts[0], HOST);
            assert_eq!(bed.rows().count(), bed.commands.lines().count());
            for (host, command) in bed.rows() {
                assert!(bed.hosts.contains(&host), "{host} {command:?}");
            }
        }
    }
}
