//! What the generator sends: a frame, and how one differs from the next.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::bed::server;
use crate::frame::{Addresses, Frame, SHORTEST, Transport};

pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
pub const PORT: u16 = 7999;
pub const FIRST_PORT: u16 = 10_000; // of the client
pub const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 1);

const SERVICE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

/// As in ../frames.h.
pub const MAX_ORDER: usize = 65_536;

#[derive(Clone, Copy)]
pub struct Traffic {
    pub frame: Frame,
    order: Order,
    /// The flows' destination ports, in turn.
    ports: &'static [u16],
    /// From the first server to the client, in place of the other way.
    answers: bool,
    /// Prefixes to draw source addresses from; 0: none.
    pub prefixes: u32,
    /// The number of addresses that repeat, a power of two; 0: each address is new.
    pub addresses: u32,
    /// Addresses are those of clients, in place of prefixes: see draw_client in ../prefixes.h.
    pub clients: bool,
}

/// The order of so many flows.
#[derive(Clone, Copy)]
enum Order {
    InTurn(u32),
    /// At random, the n-th flow with a probability of 1/n that of the first.
    Zipf(u32),
}

const PLAIN: Frame = Frame {
    addresses: Addresses::V4(CLIENT, SERVICE),
    transport: Transport::Udp,
    vlan: None,
    length: SHORTEST,
    partial: false,
};

impl Traffic {
    /// The shortest frames of IPv4 and UDP, of so many flows in turn.
    pub const fn flows(flows: u32) -> Self {
        Self {
            frame: PLAIN,
            order: Order::InTurn(flows),
            ports: &[PORT],
            answers: false,
            prefixes: 0,
            addresses: 0,
            clients: false,
        }
    }

    pub const fn zipf(flows: u32) -> Self {
        Self {
            order: Order::Zipf(flows),
            ..Self::flows(flows)
        }
    }

    /// From random sources.
    pub const fn drawn(prefixes: u32, addresses: u32) -> Self {
        Self {
            prefixes,
            addresses,
            ..Self::flows(1)
        }
    }

    /// From so many clients in turn, a power of two; 0: each is new.
    pub const fn clients(addresses: u32) -> Self {
        Self {
            addresses,
            clients: true,
            ..Self::flows(1)
        }
    }

    /// What the first server answers to so many flows.
    pub const fn answers(flows: u32) -> Self {
        let frame = Frame {
            addresses: Addresses::V4(server(0), CLIENT),
            ..PLAIN
        };
        Self {
            frame,
            answers: true,
            ..Self::flows(flows)
        }
    }

    /// To each port in turn.
    pub const fn to(self, ports: &'static [u16]) -> Self {
        Self {
            order: Order::InTurn(ports.len() as u32),
            ports,
            ..self
        }
    }

    pub const fn length(self, length: usize) -> Self {
        let frame = Frame {
            length,
            ..self.frame
        };
        Self { frame, ..self }
    }

    pub const fn partial(self) -> Self {
        let frame = Frame {
            partial: true,
            ..self.frame
        };
        Self { frame, ..self }
    }

    pub const fn v6(self) -> Self {
        let frame = Frame {
            addresses: Addresses::V6(CLIENT_V6, SERVICE_V6),
            ..self.frame
        };
        Self { frame, ..self }
    }

    pub const fn tcp(self) -> Self {
        let frame = Frame {
            transport: Transport::Tcp,
            ..self.frame
        };
        Self { frame, ..self }
    }

    pub const fn vlan(self, vlan: u16) -> Self {
        let frame = Frame {
            vlan: Some(vlan),
            ..self.frame
        };
        Self { frame, ..self }
    }

    /// The shortest frame, in words as they lie in memory.
    pub fn first_frame(&self) -> [u64; SHORTEST / 8] {
        let bytes = self.frame.layout().with_ports(self.order()[0]);
        let (words, _) = bytes.as_chunks();
        std::array::from_fn(|i| u64::from_ne_bytes(words[i]))
    }

    /// The ports of the frames, one after the other, as they lie in the frame.
    pub fn order(&self) -> Vec<u32> {
        let flow = |flow: u32| {
            let port = self.ports[flow as usize % self.ports.len()];
            let mut ends = [FIRST_PORT + flow as u16, port].map(u16::to_be_bytes);
            if self.answers {
                ends.reverse();
            }
            u32::from_ne_bytes(ends.concat().try_into().expect("two ports"))
        };
        match self.order {
            Order::InTurn(flows) => (0..flows).map(flow).collect(),
            Order::Zipf(flows) => zipf(flows).map(flow).collect(),
        }
    }
}

/// The same in each run.
fn zipf(flows: u32) -> impl Iterator<Item = u32> {
    let mut sum = 0.0;
    let bounds: Vec<f64> = (1..=flows)
        .map(|n| {
            sum += 1.0 / f64::from(n);
            sum
        })
        .collect();
    let mut random = fastrand::Rng::with_seed(1);
    (0..MAX_ORDER).map(move |_| {
        let drawn = random.f64() * sum;
        bounds.partition_point(|&bound| bound <= drawn) as u32
    })
}
