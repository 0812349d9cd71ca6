//! A window of time in which packets are counted.

use std::thread::sleep;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::WINDOW;

/// On a busy machine, the generator may not run at once.
const TRIES: u32 = 20;

/// What was counted in a window.
pub struct Counted<C> {
    pub count: C,
    pub ns_per_packet: f64,
}

/// `read` gives what was counted so far. `since` takes what was before off it, and says how many
/// packets are left. Windows without a packet do not count.
pub fn count<C>(
    read: impl Fn() -> Result<C>,
    since: impl Fn(C, &C) -> (C, u64),
) -> Result<Counted<C>> {
    for _ in 0..TRIES {
        let (before, start) = (read()?, Instant::now());
        sleep(WINDOW);
        let (after, elapsed) = (read()?, start.elapsed());
        let (count, packets) = since(after, &before);
        if packets > 0 {
            let ns_per_packet = elapsed.as_nanos() as f64 / packets as f64;
            return Ok(Counted {
                count,
                ns_per_packet,
            });
        }
    }
    bail!("no packet arrived")
}
