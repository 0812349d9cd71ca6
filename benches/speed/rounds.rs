//! The machine's speed drifts by more than the subjects differ. So the subjects take turns: each is
//! measured once in every round, and each round begins with another one.

use anyhow::Result;

/// The samples of each subject, in the order of the rounds.
pub fn take_turns<S>(
    rounds: u32,
    subjects: &[S],
    mut measure: impl FnMut(&S) -> Result<f64>,
) -> Result<Vec<Vec<f64>>> {
    let count = subjects.len();
    let mut samples: Vec<_> = subjects.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds as usize {
        for turn in 0..count {
            let index = (round + turn) % count;
            samples[index].push(measure(&subjects[index])?);
        }
    }
    Ok(samples)
}
