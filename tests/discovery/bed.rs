//! A host with a VM, servers that can be restarted, and container engines that are scripts.

use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command};

use crate::fixture::lan::{ANYWHERE, Lan, receive, socket};
use crate::fixture::{Ns, Run, Tool, command, eventually};
use libbpf_rs::{MapCore, MapHandle};
use serde_json::Value;
use tempfile::TempDir;

pub const BY_HAND: &str = "02:00:00:00:00:01";

/// A host with a VM, attached in generic mode, which needs nothing of a server's device.
pub fn attached() -> Lan {
    let lan = Lan::new(false, 0);
    lan.tool().ok("attach lan --mode skb");
    lan
}

/// Connects a server: `name` here, eth0 there, with these addresses.
pub fn connect(host: &Ns, name: &str, server: &Ns, addresses: &[&str]) {
    host.veth(name, server, "eth0");
    for address in addresses {
        server.ip(&format!("addr add {address} dev eth0"));
    }
}

/// The server's namespace goes, and its device with it; another comes under the same name.
pub fn restart(host: &Ns, name: &str, server: &Ns, addresses: &[&str]) {
    server.restart();
    eventually("the kernel has removed the veth", || {
        !host.ip("-br link").contains(&format!("{name}@"))
    });
    // So that the new one has another index than the old one.
    host.ip(&format!("link add {name}x type bridge"));
    connect(host, name, server, addresses);
}

#[track_caller]
pub fn arrives(lan: &Lan, server: &Ns, text: &str) {
    let receiver = socket(server, "0.0.0.0:7999");
    lan.vm_socket().send_to(text.as_bytes(), ANYWHERE).unwrap();
    assert_eq!(receive(&receiver).0, text);
}

pub fn rows(tool: &Tool) -> Vec<Value> {
    tool.json("rule list").as_array().unwrap().clone()
}

pub fn only_row(tool: &Tool) -> Value {
    let rows = rows(tool);
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows[0].clone()
}

/// How many backends are remembered in the kernel.
pub fn remembered(lan: &Lan) -> usize {
    origins(lan).keys().count()
}

pub fn origins(lan: &Lan) -> MapHandle {
    let pins = lan.pins.left();
    // Behind the dash stands the number of the map's schema.
    let pin = pins
        .iter()
        .find(|path| path.to_string_lossy().contains("/locators"));
    MapHandle::from_pinned_path(pin.expect("the map is pinned")).unwrap()
}

/// A process that sleeps in a namespace.
pub struct Sleeper(pub Child);

impl Sleeper {
    pub fn new(ns: &Ns) -> Self {
        let net = format!("--net={}", ns.path().display());
        let child = Command::new("nsenter").args([&net, "sleep", "600"]).spawn();
        let sleeper = Sleeper(child.expect("nsenter is there"));
        let inode = |path: &str| std::fs::metadata(path).map(|file| file.ino()).ok();
        let wanted = inode(ns.path().to_str().unwrap());
        let own = format!("/proc/{}/ns/net", sleeper.pid());
        eventually("it has entered", || inode(&own) == wanted);
        sleeper
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A directory with engines that know the containers whose files are in it.
pub struct Engines(pub TempDir);

impl Engines {
    pub fn new(names: &[&str]) -> Self {
        let engines = Engines(tempfile::tempdir().unwrap());
        let script = engines.path("script");
        let text = format!(
            r#"#!/bin/sh
[ "$1" = inspect ] || exit 64
case "$*" in *" --format {{{{.State.Pid}}}} "*) ;; *) exit 64 ;; esac
for name; do :; done
cat "{}/pid-$name" 2>/dev/null || {{ echo "Error: No such container: $name" >&2; exit 1; }}
"#,
            engines.0.path().display()
        );
        std::fs::write(&script, text).unwrap();
        for name in names {
            // By another process: see `fixture::install`.
            command("install", &["-m", "755", &script, &engines.path(name)]);
        }
        engines
    }

    pub fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    pub fn start(&self, container: &str, pid: u32) {
        std::fs::write(self.path(&format!("pid-{container}")), format!("{pid}\n")).unwrap();
    }

    /// These engines alone, and what a script needs.
    pub fn run(&self, tool: &Tool, words: &str) -> Run {
        let mut command = tool.command(words);
        command.env("PATH", format!("{}:/usr/bin:/bin", self.0.path().display()));
        command.output().unwrap().into()
    }
}
