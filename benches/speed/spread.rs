//! What the rounds of a case make together: the middle, the bounds, and what is least disturbed.

use serde::Serialize;

#[derive(Serialize)]
pub struct Spread {
    /// From the lower quartile of each program's times. What else the machine does only ever adds to a
    /// time, so this is what a quiet machine would show. Goals are for it.
    pub lower_quartile: f64,
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// Of times, or of what is better the lower it is.
    pub fn of(times: &[f64]) -> Self {
        Self::derived([times], |[time]| time)
    }

    /// Of what takes these nanoseconds.
    pub fn mpps(ns: &[f64]) -> Self {
        Self::derived([ns], |[ns]| 1e3 / ns)
    }

    /// How much longer than the reference.
    pub fn above(times: &[f64], reference: &[f64]) -> Self {
        Self::derived([times, reference], |[time, reference]| time - reference)
    }

    /// The rate beside that of the reference.
    pub fn rate_ratio(times: &[f64], reference: &[f64]) -> Self {
        Self::derived([times, reference], |[time, reference]| reference / time)
    }

    /// The value that `value` makes of the times of one round, for all rounds.
    pub fn derived<const N: usize>(times: [&[f64]; N], value: impl Fn([f64; N]) -> f64) -> Self {
        let rounds = times[0].len();
        let in_round = |round: usize| value(times.map(|times| times[round]));
        let values = sorted((0..rounds).map(in_round));
        Self {
            lower_quartile: value(
                times.map(|times| quantile(&sorted(times.iter().copied()), 0.25)),
            ),
            median: quantile(&values, 0.5),
            min: values[0],
            max: values[rounds - 1],
        }
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Between the two values that are nearest to the place.
fn quantile(sorted: &[f64], place: f64) -> f64 {
    let place = place * (sorted.len() - 1) as f64;
    let (low, high) = (
        sorted[place.floor() as usize],
        sorted[place.ceil() as usize],
    );
    low + (high - low) * place.fract()
}
