//! `xdpredir rule load`

use std::fs;
use std::io::{Read, stderr, stdin};
use std::path::Path;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::grammar::Global;
use super::warnings;
use xdpredir::control::ruleset_file::Rules;
use xdpredir::control::{self, Pins};
use xdpredir::error::{Exit, failure, of_file};
use xdpredir::model::{ForAnswers, Remedy, Verb};
use xdpredir::view::{self, doctor::Row};

/// The columns of a bar beside two numbers of up to a million.
const WIDE_ENOUGH: u16 = 72;

#[derive(Serialize)]
struct Loaded {
    loaded: usize,
    #[serde(flatten)]
    for_answers: ForAnswers,
    warnings: Option<Vec<Row>>,
}

pub fn run(global: &Global, pins: &Pins, file: &Path) -> Result<()> {
    let rules = parse(file)?;
    let loaded = rules.rules.len();
    let progress = progress(loaded)?;
    let report = control::load(pins, rules, |done| progress.set_position(done as u64));
    let report = report.with_context(|| match progress.position() {
        0 => file.display().to_string(),
        done => format!("{}: after {done} of {loaded} rules", file.display()),
    })?;
    progress.finish_and_clear();
    warnings::untranslated(global, &report.untranslated);
    let warnings = warnings::say(global, &report.warnings);
    if report.unchecked > 0 {
        let rules = view::count(report.unchecked, "rule");
        let why = format!("the backends of {rules} were not checked, because there are so many");
        let remedy = Remedy::from(Verb::Plain("doctor")) + " checks all";
        warnings::warn(global, &(why, remedy).into());
    }
    if global.json {
        return view::json::print(&Loaded {
            loaded,
            for_answers: report.for_answers,
            warnings,
        });
    }
    view::line(format_args!("loaded {}", view::count(loaded, "rule")))?;
    view::answers::say(&report.for_answers)
}

fn parse(file: &Path) -> Result<Rules> {
    let name = || file.display().to_string();
    let text = String::from_utf8(read(file)?).map_err(|_| failure(Exit::Usage, "not UTF-8"));
    control::parse(&text.with_context(name)?).with_context(name)
}

pub(super) fn read(file: &Path) -> Result<Vec<u8>> {
    if file == Path::new("-") {
        let mut bytes = Vec::new();
        let read = stdin().read_to_end(&mut bytes);
        return read.map(|_| bytes).context("cannot read standard input");
    }
    fs::read(file).map_err(|error| of_file("cannot read", file, &error))
}

/// Draws on standard error, and only on a terminal that can draw it.
pub fn progress(total: usize) -> Result<ProgressBar> {
    // A bar on two lines could not be drawn over.
    let template = match view::terminal::width(&stderr()) {
        Some(..WIDE_ENOUGH) => "{human_pos} of {human_len} rules",
        _ => "{bar:40} {human_pos} of {human_len} rules",
    };
    let style = ProgressStyle::with_template(template)?;
    Ok(ProgressBar::new(total as u64).with_style(style))
}

/// Shows how many rules were read, of how many that are known of.
pub fn show(bar: &ProgressBar, read: usize, of: usize) {
    bar.set_length(of as u64);
    bar.set_position(read as u64);
}
