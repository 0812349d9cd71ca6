//! A chain: other people's XDP programs that are asked before ours at an interface.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// What an XDP program makes of a packet, in the kernel's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Aborted,
    Drop,
    Pass,
    Tx,
    Redirect,
}

impl Verdict {
    pub const ALL: [Verdict; 5] = [
        Verdict::Aborted,
        Verdict::Drop,
        Verdict::Pass,
        Verdict::Tx,
        Verdict::Redirect,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Verdict::Aborted => "aborted",
            Verdict::Drop => "drop",
            Verdict::Pass => "pass",
            Verdict::Tx => "tx",
            Verdict::Redirect => "redirect",
        }
    }
}

/// Some verdicts, as bits in the kernel's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdicts(u32);

impl Verdicts {
    pub fn from_bits(bits: u32) -> Self {
        Verdicts(bits)
    }

    pub fn bits(self) -> u32 {
        self.0
    }

    fn names(self) -> impl Iterator<Item = &'static str> {
        let all = Verdict::ALL.into_iter();
        all.filter(move |verdict| self.0 & 1 << *verdict as u32 != 0)
            .map(Verdict::name)
    }
}

/// What most programs mean by it: nothing against the packet.
impl Default for Verdicts {
    fn default() -> Self {
        Verdicts(1 << Verdict::Pass as u32)
    }
}

/// Names with commas between them.
impl FromStr for Verdicts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut bits = 0;
        for name in text.split(',') {
            let mut all = Verdict::ALL.into_iter();
            let verdict = all.find(|verdict| verdict.name() == name);
            let verdict = verdict.ok_or_else(|| {
                format!("{name:?} is none of aborted, drop, pass, tx and redirect")
            })?;
            bits |= 1 << verdict as u32;
        }
        Ok(Verdicts(bits))
    }
}

impl fmt::Display for Verdicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.names().collect::<Vec<_>>().join(","))
    }
}

impl Serialize for Verdicts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.names())
    }
}

/// A program of a chain.
#[derive(Clone, Debug, Serialize)]
pub struct ChainProgram {
    pub name: String,
    /// The program's number; None: only root may ask.
    pub program_id: Option<u32>,
    /// The lower, the earlier it is asked.
    pub priority: u32,
    /// After which verdicts the next program is asked.
    pub on: Verdicts,
    /// The file that it was loaded from, or where it was pinned.
    pub source: String,
    /// It was attached alone before, and is attached again once the interface is detached.
    pub taken_in: bool,
}

/// What a program of a chain made of packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VerdictCounts {
    /// Also what is no verdict of XDP.
    pub aborted: u64,
    pub drop: u64,
    pub pass: u64,
    pub tx: u64,
    pub redirect: u64,
    /// The program was not asked, because the kernel allowed no more tail calls.
    pub skipped: u64,
}

impl VerdictCounts {
    /// With their names.
    pub fn all(&self) -> [(&'static str, u64); 6] {
        [
            ("aborted", self.aborted),
            ("drop", self.drop),
            ("pass", self.pass),
            ("tx", self.tx),
            ("redirect", self.redirect),
            ("skipped", self.skipped),
        ]
    }
}

impl std::ops::Add for VerdictCounts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        VerdictCounts {
            aborted: self.aborted + other.aborted,
            drop: self.drop + other.drop,
            pass: self.pass + other.pass,
            tx: self.tx + other.tx,
            redirect: self.redirect + other.redirect,
            skipped: self.skipped + other.skipped,
        }
    }
}

/// What was counted of a program of a chain, in the chain's order.
#[derive(Clone, Debug, Serialize)]
pub struct ChainStats {
    pub name: String,
    pub priority: u32,
    #[serde(flatten)]
    pub counts: VerdictCounts,
    /// The same by CPU, but for those that have counted nothing; None: nobody asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<Vec<CpuVerdicts>>,
}

/// What one CPU has counted of that.
#[derive(Clone, Debug, Serialize)]
pub struct CpuVerdicts {
    pub cpu: u32,
    #[serde(flatten)]
    pub counts: VerdictCounts,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_read_as_they_are_shown() {
        let some: Verdicts = "drop,pass".parse().expect("two verdicts");
        assert_eq!(some.bits(), 0b110);
        assert_eq!(some.to_string(), "drop,pass");
        assert_eq!(Verdicts::default().to_string(), "pass");
        for wrong in ["", "pass,", "Pass", "pass drop", "all"] {
            assert!(wrong.parse::<Verdicts>().is_err(), "{wrong}");
        }
    }
}
