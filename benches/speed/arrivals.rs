//! What reaches the sink, and in which time.

use anyhow::{Context as _, Result, ensure};
use libbpf_rs::{MapCore as _, MapFlags};

use crate::bed::{Bed, SERVERS, server};
use crate::window;

/// Packets that reached the sink.
#[derive(Default)]
pub struct Arrivals {
    by_server: [u64; SERVERS],
    others: u64,
    off_core: u64,
}

/// What must have become of the packets.
#[derive(Clone, Copy)]
pub enum Check {
    Untouched,
    /// They have the addresses of the first servers, so many.
    Rewritten(usize),
}

impl Bed<'_> {
    /// Nanoseconds from one packet at the sink to the next, on average over a window.
    pub fn ns_per_packet(&self, check: Check) -> Result<f64> {
        let counted = window::count(
            || self.arrivals(),
            |after, before| {
                let arrivals = after.since(before);
                let total = arrivals.total();
                (arrivals, total)
            },
        )?;
        counted.count.check_core()?;
        counted.count.check(check)?;
        Ok(counted.ns_per_packet)
    }

    fn arrivals(&self) -> Result<Arrivals> {
        let map = &self.skel.maps.arrived;
        let values = map.lookup_percpu(&0u32.to_ne_bytes(), MapFlags::ANY)?;
        let values = values.context("the sink has no counters")?;
        let mut arrivals = Arrivals::default();
        for (cpu, value) in values.iter().enumerate() {
            arrivals.add(value, cpu == self.cpu);
        }
        Ok(arrivals)
    }
}

impl Arrivals {
    fn add(&mut self, value: &[u8], on_core: bool) {
        let (words, _) = value.as_chunks();
        let packets = words.iter().map(|&word| u64::from_ne_bytes(word));
        let slots = self.by_server.iter_mut().chain([&mut self.others]);
        for (slot, packets) in slots.zip(packets) {
            *slot += packets;
            self.off_core += if on_core { 0 } else { packets };
        }
    }

    fn total(&self) -> u64 {
        self.by_server.iter().sum::<u64>() + self.others
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            by_server: std::array::from_fn(|i| self.by_server[i] - before.by_server[i]),
            others: self.others - before.others,
            off_core: self.off_core - before.off_core,
        }
    }

    fn check_core(&self) -> Result<()> {
        let total = self.total();
        ensure!(
            self.off_core <= total / 100,
            "{} of {total} packets arrived on another core than the generator's",
            self.off_core
        );
        Ok(())
    }

    fn check(&self, check: Check) -> Result<()> {
        let total = self.total();
        match check {
            Check::Untouched => {
                let rewritten = total - self.others;
                ensure!(rewritten == 0, "{rewritten} packets were rewritten");
            }
            Check::Rewritten(servers) => {
                let others = self.others;
                ensure!(
                    others == 0,
                    "{others} of {total} packets reached the sink with another address than a server's",
                );
                for (index, &packets) in self.by_server.iter().enumerate() {
                    ensure!(
                        (packets > 0) == (index < servers),
                        "{packets} packets reached the sink for {}",
                        server(index)
                    );
                }
            }
        }
        Ok(())
    }
}
