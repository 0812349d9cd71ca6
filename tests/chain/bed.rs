//! A VM behind `lan`, a server of UDP, and programs of others that drop a port each.

use std::net::UdpSocket;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::fixture::foreign::Foreign;
use crate::fixture::lan::Lan;
use crate::fixture::{Tool, eventually};

/// The port that all programs pass.
pub const OPEN: u16 = 7000;

pub const DROP: i32 = 1;

pub struct Bed {
    pub lan: Lan,
    vm: UdpSocket,
    server: UdpSocket,
}

impl Bed {
    pub fn new(mode: &str) -> Self {
        let bed = Bed::without_rules();
        bed.tool().ok(&format!("attach lan --mode {mode}"));
        bed.add_rule();
        bed
    }

    /// Nothing is attached yet.
    pub fn without_rules() -> Self {
        let lan = Lan::new(false, 1);
        let (vm, server) = (lan.vm_socket(), lan.server_socket(0));
        Bed { lan, vm, server }
    }

    /// All datagrams to anywhere go to the one port of the server.
    pub fn add_rule(&self) {
        self.lan.add_backend(0, "--port any --to-port 7999");
    }

    pub fn tool(&self) -> Tool<'_> {
        self.lan.tool()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.lan.pins.dir().with_file_name(name)
    }

    /// Pins a program that drops a port; it has its name.
    pub fn pin(&self, port: u16) -> String {
        let name = format!("drop_{port}");
        let path = self.path(&name);
        Foreign::of_port(&name, port, DROP).pin(&path);
        path.display().to_string()
    }

    /// Adds one.
    pub fn add(&self, port: u16, words: &str) {
        let pin = self.pin(port);
        self.tool().ok(&format!("chain add lan {pin} {words}"));
        std::fs::remove_file(pin).expect("it is pinned");
    }

    /// Which of the ports are dropped: of datagrams to all of them and then to the open one, none comes after the
    /// last.
    pub fn dropped(&self, ports: &[u16]) -> Vec<u16> {
        let mut left = ports.to_vec();
        for port in ports.iter().chain([&OPEN]) {
            let to = ("11.22.33.44", *port);
            self.vm
                .send_to(&port.to_be_bytes(), to)
                .expect("it is sent");
        }
        let mut bytes = [0; 2];
        loop {
            self.server.recv(&mut bytes).expect("the last one arrives");
            match u16::from_be_bytes(bytes) {
                OPEN => return left,
                port => left.retain(|other| *other != port),
            }
        }
    }

    /// The names in the chain, in their order.
    pub fn chain(&self) -> Vec<String> {
        let list = self.tool().json("chain list lan");
        let all = list[0]["programs"].as_array().expect("programs").iter();
        all.map(|program| program["name"].as_str().expect("a name").into())
            .collect()
    }

    /// What was counted of the programs, by their names: dropped, passed and skipped.
    pub fn counted(&self, name: &str) -> [u64; 3] {
        let stats = self.tool().json("stats");
        let mut all = stats["interfaces"][0]["chain"]
            .as_array()
            .expect("a chain")
            .iter();
        let found = all.find(|program| program["name"] == name);
        let found = found.expect("it is in the chain");
        ["drop", "pass", "skipped"].map(|verdict| found[verdict].as_u64().expect("a number"))
    }

    /// The number of the program that `lan` has, as the kernel says it.
    pub fn program(&self) -> Option<u64> {
        let links = self.lan.host.ip("-j -d link show lan");
        let links: Value = serde_json::from_str(&links).expect("JSON");
        links[0]["xdp"]["prog"]["id"].as_u64()
    }

    /// Sends to two ports in turn until `work` is done: one that a program drops all the time, and the open one, from
    /// which nothing is lost. How many went to the open one.
    pub fn under_traffic(&self, closed: u16, work: impl FnOnce() + Send) -> u64 {
        use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
        let done = AtomicBool::new(false);
        let vm = self.vm.try_clone().expect("a socket");
        let server = self.server.try_clone().expect("a socket");
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| {
                let mut sent = 0u64;
                while !done.load(Relaxed) {
                    for port in [closed, OPEN] {
                        let to = ("11.22.33.44", port);
                        vm.send_to(&port.to_be_bytes(), to).expect("it is sent");
                    }
                    sent += 1;
                    std::thread::sleep(Duration::from_micros(200));
                }
                sent
            });
            let receiver = scope.spawn(|| {
                let mut arrived = 0u64;
                let mut bytes = [0; 2];
                while let Ok(2) = server.recv(&mut bytes) {
                    match u16::from_be_bytes(bytes) {
                        OPEN => arrived += 1,
                        0 => return arrived,
                        port => panic!("{port} got through"),
                    }
                }
                panic!("the last one did not arrive after {arrived}");
            });
            work();
            done.store(true, Relaxed);
            let sent = sender.join().expect("all is sent");
            // By another way, behind all the others.
            let last = [0u8; 2];
            let to = ("11.22.33.44", OPEN);
            vm.send_to(&last, to).expect("it is sent");
            let arrived = receiver.join().expect("the right ones arrive");
            assert_eq!(arrived, sent, "none is lost");
            sent
        })
    }

    /// Waits until nothing is pinned of a chain.
    pub fn nothing_is_pinned(&self) {
        eventually("no chain is pinned", || {
            let left = self.lan.pins.left();
            !left.iter().any(|path| path.ends_with("slots"))
        });
    }
}
