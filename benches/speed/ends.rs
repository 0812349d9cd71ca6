//! A client and a server with sockets, and what is between them:
//!
//! ```text
//! namespace client          namespace of this process     namespace server
//! 10.0.0.1 eth0 ----------- dut0            dut1 -------- eth0 10.0.1.1
//! ```
//!
//! The client asks an address that nobody has, but for a proxy.

use std::fs::File;

use anyhow::Result;

use crate::bed::{DUT0_MAC, DUT1_MAC, GENERATOR_MAC, SINK_MAC, server};
use crate::host::{add_veth, enter_new_network_namespace, run, set_sysctl, within};
use crate::traffic::{CLIENT, SERVICE};

/// The devices of this process's namespace.
pub const DEVICES: [&str; 2] = ["dut0", "dut1"];

const GATEWAYS: [&str; 2] = ["10.0.0.254", "10.0.1.254"];

pub struct Ends {
    pub client: File,
    pub server: File,
}

impl Ends {
    pub fn new() -> Result<Self> {
        let client = namespace()?;
        let server = namespace()?;
        namespace()?;
        let ends = Self { client, server };
        let macs = [[DUT0_MAC, GENERATOR_MAC], [DUT1_MAC, SINK_MAC]];
        let addresses = [CLIENT, self::server(0)];
        for (number, namespace) in ends.namespaces().into_iter().enumerate() {
            let [near, far] = macs[number];
            add_veth(namespace, [DEVICES[number], near], ["eth0", far])?;
            add_address(GATEWAYS[number], DEVICES[number])?;
            within(namespace, || {
                add_address(&addresses[number].to_string(), "eth0")?;
                run("ip", &["route", "add", "default", "via", GATEWAYS[number]])
            })?;
        }
        set_sysctl("net/ipv4/ip_forward", "1")?;
        // Only a proxy needs it, and then the stack takes translated answers for forged.
        set_sysctl("net/ipv4/conf/dut1/accept_local", "1")?;
        run("ip", &["link", "set", "lo", "up"])?;
        run("ip", &["address", "add", &SERVICE.to_string(), "dev", "lo"])?;
        Ok(ends)
    }

    pub fn namespaces(&self) -> [&File; 2] {
        [&self.client, &self.server]
    }
}

/// One that does not remember connections that are closed: there would be too many.
fn namespace() -> Result<File> {
    let namespace = enter_new_network_namespace()?;
    set_sysctl("net/ipv4/tcp_max_tw_buckets", "0")?;
    Ok(namespace)
}

fn add_address(address: &str, device: &str) -> Result<()> {
    let prefix = format!("{address}/24");
    run("ip", &["address", "add", &prefix, "dev", device])
}
