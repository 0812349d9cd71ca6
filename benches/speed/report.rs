//! Medians and spreads beside their goals, as a table or as JSON.

use std::fmt;
use std::fs;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use comfy_table::{Cell, CellAlignment, Table, presets};
use serde::{Serialize, Serializer};

use crate::frame;

#[derive(Serialize)]
pub struct Report {
    kernel: String,
    cpu: String,
    date: String,
    frame_bytes: usize,
    rounds: u32,
    seconds: f64,
    sections: Vec<Section>,
}

#[derive(Serialize)]
pub struct Section {
    pub name: &'static str,
    pub about: &'static str,
    pub lines: Vec<Line>,
}

/// One thing measured.
#[derive(Serialize)]
pub struct Line {
    case: String,
    subject: &'static str,
    #[serde(flatten)]
    value: Spread,
    unit: &'static str,
    goal: Option<Goal>,
    met: Option<bool>,
}

#[derive(Serialize)]
pub struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

/// For the median.
#[derive(Clone, Copy)]
pub enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

impl Report {
    pub fn new(rounds: u32, window: Duration, sections: Vec<Section>) -> Result<Self> {
        Ok(Self {
            kernel: kernel()?,
            cpu: cpu()?,
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            frame_bytes: frame::LEN,
            rounds,
            seconds: window.as_secs_f64(),
            sections,
        })
    }
}

impl Line {
    pub fn new(
        case: impl Into<String>,
        subject: &'static str,
        value: Spread,
        unit: &'static str,
    ) -> Self {
        Self {
            case: case.into(),
            subject,
            value,
            unit,
            goal: None,
            met: None,
        }
    }

    pub fn goal(self, goal: Goal) -> Self {
        Self {
            met: Some(goal.met_by(self.value.median)),
            goal: Some(goal),
            ..self
        }
    }
}

impl Spread {
    pub fn new(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (low, high) = ((values.len() - 1) / 2, values.len() / 2);
        Self {
            median: (values[low] + values[high]) / 2.0,
            min: values[0],
            max: values[values.len() - 1],
        }
    }

    pub fn of<T>(samples: &[T], value: impl Fn(&T) -> f64) -> Self {
        Self::new(samples.iter().map(value))
    }

    /// Each sample over the reference's of the same round.
    pub fn ratio<T>(samples: &[T], reference: &[T], value: impl Fn(&T) -> f64) -> Self {
        let pairs = samples.iter().zip(reference);
        Self::new(pairs.map(|(sample, reference)| value(sample) / value(reference)))
    }
}

impl Goal {
    fn met_by(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, "≥ {bound}"),
            Self::AtMost(bound) => write!(f, "≤ {bound}"),
        }
    }
}

impl Serialize for Goal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, rounds, seconds) = (self.frame_bytes, self.rounds, self.seconds);
        writeln!(f, "{} | {} | {}", self.kernel, self.cpu, self.date)?;
        writeln!(
            f,
            "{bytes}-byte UDP frames on one core, unless a section says otherwise; rates over {seconds} s, \
             in {rounds} rounds; × is the ratio within a round"
        )?;
        for section in &self.sections {
            writeln!(f, "\n{}: {}", section.name, section.about)?;
            writeln!(f, "{}", section.table())?;
        }
        Ok(())
    }
}

impl Section {
    fn table(&self) -> Table {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_header(["case", "program", "median", "min", "max", "", "goal", ""]);
        let mut previous = "";
        for line in &self.lines {
            let case = if line.case == previous {
                ""
            } else {
                &line.case
            };
            previous = &line.case;
            table.add_row(line.cells(case));
        }
        for column in table.column_iter_mut().skip(2).take(3) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}

impl Line {
    fn cells(&self, case: &str) -> [Cell; 8] {
        let goal = self.goal.map_or(String::new(), |goal| goal.to_string());
        let met = match self.met {
            None => "",
            Some(true) => "met",
            Some(false) => "missed",
        };
        let [median, min, max] =
            [self.value.median, self.value.min, self.value.max].map(three_digits);
        let texts = [
            case,
            self.subject,
            &median,
            &min,
            &max,
            self.unit,
            &goal,
            met,
        ];
        texts.map(Cell::new)
    }
}

/// At least three digits of it.
fn three_digits(value: f64) -> String {
    let decimals = match value.abs() {
        size if size < 10.0 => 2,
        size if size < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

fn kernel() -> Result<String> {
    let uname = nix::sys::utsname::uname()?;
    let words = [uname.sysname(), uname.release(), uname.machine()];
    Ok(words.map(|word| word.to_string_lossy()).join(" "))
}

fn cpu() -> Result<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .and_then(|line| line.split_once(':'));
    Ok(model
        .map_or("unknown CPU", |(_, name)| name.trim())
        .to_string())
}
