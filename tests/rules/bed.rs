//! A host with a device to attach to and one to send through.

use crate::fixture::{self, Ns, Pins, Tool};

pub const MAC: &str = "02:00:00:00:00:01";

/// A host with a device to attach to and one to send through.
pub struct Bed {
    pub ns: Ns,
    pub pins: Pins,
}

impl Bed {
    pub fn new() -> Self {
        let ns = Ns::new("host");
        ns.ip("link add in0 type veth peer name in1");
        ns.ip("link add out0 type veth peer name out1");
        ns.ip("link set in0 up");
        ns.ip("link set out0 up");
        ns.ip("link set out1 up");
        let bed = Bed {
            ns,
            pins: Pins::new(),
        };
        bed.tool().ok("attach in0");
        bed
    }

    pub fn tool(&self) -> Tool<'_> {
        Tool {
            ns: &self.ns,
            pins: &self.pins,
        }
    }

    pub fn add(&self, words: &str) -> fixture::Run {
        self.tool()
            .ok(&format!("rule add --mac {MAC} --dev out0 {words}"))
    }
}

pub fn servers(tool: &Tool) -> Vec<String> {
    let rows = tool.json("rule list");
    rows.as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let text = |key: &str| row[key].as_str().unwrap().to_string();
            format!(
                "{} {} {} {}",
                text("src"),
                text("proto"),
                row["port"],
                text("server")
            )
        })
        .collect()
}
