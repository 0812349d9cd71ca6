//! A window of time in which packets are counted.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::WINDOW;

/// The generator does not run at once: before it starts, the kernel waits for all CPUs, which takes long
/// on a busy machine.
const PATIENCE: Duration = Duration::from_secs(15);

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
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
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
