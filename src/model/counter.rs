//! Packets and bytes, and by how much they grow.

use std::iter::Sum;
use std::ops::AddAssign;
use std::time::Duration;

use serde::Serialize;

/// Packets, and the bytes of their Ethernet frames as XDP sees them on arrival.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counter {
    pub packets: u64,
    /// The sum of their lengths.
    pub bytes: u64,
}

/// How much a counter grows in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    pub packets: f64,
    pub bytes: f64,
}

impl AddAssign for Counter {
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

impl Sum for Counter {
    fn sum<I: Iterator<Item = Self>>(counters: I) -> Self {
        counters.fold(Counter::default(), |mut sum, counter| {
            sum += counter;
            sum
        })
    }
}

/// What one CPU has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CpuCounter {
    pub cpu: u32,
    #[serde(flatten)]
    pub counter: Counter,
}

impl Counter {
    /// The growth since an earlier reading. It is zero where the counter was reset in between.
    pub fn rate_since(self, earlier: Self, elapsed: Duration) -> Rate {
        let seconds = elapsed.as_secs_f64();
        if seconds <= 0.0 {
            return Rate::default();
        }
        Rate {
            packets: self.packets.saturating_sub(earlier.packets) as f64 / seconds,
            bytes: self.bytes.saturating_sub(earlier.bytes) as f64 / seconds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_the_growth_per_second() {
        let counter = |packets, bytes| Counter { packets, bytes };
        let (earlier, now) = (counter(10, 1000), counter(20, 3000));
        let rate = now.rate_since(earlier, Duration::from_millis(500));
        assert_eq!((rate.packets, rate.bytes), (20.0, 4000.0));
        let reset = earlier.rate_since(now, Duration::from_secs(1));
        assert_eq!(reset, Rate::default());
        assert_eq!(now.rate_since(earlier, Duration::ZERO), Rate::default());
    }
}
