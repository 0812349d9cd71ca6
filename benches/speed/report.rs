//! What was measured beside its goals, as a table or as JSON.

use std::fmt;
use std::fs;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use comfy_table::{Cell, CellAlignment, Table, presets};
use serde::{Serialize, Serializer};

use crate::frame;
use crate::spread::Spread;

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

/// For what the lower quartiles of the times give.
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
            frame_bytes: frame::SHORTEST,
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
            met: Some(goal.met_by(self.value.lower_quartile)),
            goal: Some(goal),
            ..self
        }
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
            "{bytes}-byte UDP frames on one core, unless a case says otherwise; {rounds} windows of {seconds} s, \
             in turns; quartile is what the lower quartiles of the times give, and what goals are for; \
             median, min and max are over the rounds"
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
        table.load_style(presets::NOTHING).set_header([
            "case", "program", "quartile", "median", "min", "max", "", "goal", "",
        ]);
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
        for column in table.column_iter_mut().skip(2).take(4) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}

impl Line {
    fn cells(&self, case: &str) -> [Cell; 9] {
        let goal = self.goal.map_or(String::new(), |goal| goal.to_string());
        let met = match self.met {
            None => "",
            Some(true) => "met",
            Some(false) => "missed",
        };
        let value = &self.value;
        let [quartile, median, min, max] =
            [value.lower_quartile, value.median, value.min, value.max].map(three_digits);
        let texts = [
            case,
            self.subject,
            &quartile,
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

/// With three digits or more.
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
