//! The rules of the cases of `redirect` and `hot`, and the programs that follow them.

use anyhow::{Context as _, Result};

use crate::bed::{Bed, SERVERS, server, server_v6};
use crate::product::{Backend, Ledger, Product};
use crate::subject::Programs;
use crate::traffic::{CLIENT, CLIENT_V6, PORT};

pub const VLAN: u16 = 100;
pub const TAGGED_PORT: u16 = 8001;
pub const REWRITTEN_PORT: u16 = 8000;

#[derive(Clone, Copy, PartialEq)]
pub enum Rules {
    /// One rule with one backend.
    One,
    Sixteen,
    /// With a device for each backend.
    SixteenDevices,
    AnySource,
    /// Five rules with one backend each: as One, IPv6, TCP, in a VLAN, with another port behind it. Each is
    /// the only one for its IP version, protocol and port.
    Kinds,
}

pub struct RuleSet {
    pub rules: Rules,
    pub with_ledger: Programs,
    pub without: Programs,
}

const ALL: [Rules; 5] = [
    Rules::One,
    Rules::Sixteen,
    Rules::SixteenDevices,
    Rules::AnySource,
    Rules::Kinds,
];

impl Rules {
    pub fn servers(self) -> usize {
        match self {
            Self::Sixteen | Self::SixteenDevices => SERVERS,
            _ => 1,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Sixteen => "sixteen",
            Self::SixteenDevices => "devices",
            Self::AnySource => "any",
            Self::Kinds => "kinds",
        }
    }

    fn add(self, product: &Product, bed: &Bed, devices: &[u32]) -> Result<()> {
        let client = CLIENT.to_string();
        let port = PORT.to_string();
        let first = Backend::first(bed);
        let plain = ["--src", &client, "--port", &port];
        let with = |options: &[&str]| product.add_rule(&[&plain, options].concat(), &first);
        match self {
            Self::One => with(&[]),
            Self::AnySource => product.add_rule(&["--port", &port], &first),
            Self::Sixteen | Self::SixteenDevices => (0..SERVERS).try_for_each(|index| {
                let backend = Backend {
                    server: server(index).into(),
                    egress: match self {
                        Self::SixteenDevices => devices[index],
                        _ => bed.dut1,
                    },
                };
                product.add_rule(&plain, &backend)
            }),
            Self::Kinds => {
                let client_v6 = CLIENT_V6.to_string();
                let v6 = Backend {
                    server: server_v6(0).into(),
                    ..first
                };
                let to_port = REWRITTEN_PORT.to_string();
                let rewritten = ["--src", &client, "--port", &to_port, "--to-port", &port];
                let [vlan, tagged_port] = [VLAN, TAGGED_PORT].map(|number| number.to_string());
                let tagged = ["--src", &client, "--port", &tagged_port, "--vlan", &vlan];
                with(&[])?;
                product.add_rule(&["--src", &client_v6, "--port", &port], &v6)?;
                with(&["--proto", "tcp"])?;
                product.add_rule(&tagged, &first)?;
                product.add_rule(&rewritten, &first)
            }
        }
    }
}

impl RuleSet {
    /// All of them. `section` tells their pins from those of other sections.
    pub fn load(bed: &Bed, section: &str) -> Result<Vec<Self>> {
        let devices = bed.add_devices()?;
        let load = |rules: Rules| -> Result<Self> {
            let product = Product::new(&format!("{section}-{}", rules.name()));
            product.prepare(|product| rules.add(product, bed, &devices))?;
            Ok(Self {
                rules,
                with_ledger: product.programs("native", Ledger::On)?,
                without: product.programs("native", Ledger::Off)?,
            })
        };
        ALL.into_iter()
            .map(|rules| load(rules).context(rules.name()))
            .collect()
    }
}
