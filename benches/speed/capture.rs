//! What a capture costs the packets that it looks at. What stands in for the program comes and goes with the process
//! that captures, so the same program is measured with and without.

use std::io::{BufRead as _, BufReader};
use std::mem::MaybeUninit;
use std::process::{Child, Stdio};
use std::thread::sleep;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::arrivals::Check;
use crate::bed::Bed;
use crate::product::{Backend, Product};
use crate::report::{Goal, Line, Section};
use crate::rounds::take_turns;
use crate::spread::Spread;
use crate::traffic::{CLIENT, Traffic};
use crate::{SETTLE, Setup};

const CASE: &str = "1 flow, 1 backend";
/// Of the rate without a capture.
const SAMPLED: f64 = 0.97;

struct Subject {
    name: &'static str,
    /// None: no capture.
    options: Option<&'static [&'static str]>,
    /// The rate that it is to have beside no capture.
    goal: Option<f64>,
}

const SUBJECTS: [Subject; 5] = [
    subject("not captured", None, None),
    subject("1 in 1,000", Some(&["--sample", "1/1000"]), Some(SAMPLED)),
    subject(
        "1 in 1,000, as it arrives",
        Some(&["--sample", "1/1000", "--stage", "arrived"]),
        None,
    ),
    subject("of another port", Some(&["--port", "9"]), None),
    subject("all", Some(&[]), None),
];

const fn subject(
    name: &'static str,
    options: Option<&'static [&'static str]>,
    goal: Option<f64>,
) -> Subject {
    Subject {
        name,
        options,
        goal,
    }
}

pub fn measure(setup: &Setup) -> Result<Section> {
    let mut storage = MaybeUninit::uninit();
    let mut bed = Bed::new(&mut storage, setup.cpu)?.with_sink()?;
    let product = Product::new("capture");
    product.attach("native")?;
    product.add_rule(&["--src", &CLIENT.to_string()], &Backend::first(&bed))?;
    let ns = bed.transmitting(&Traffic::flows(1), |bed| {
        take_turns(setup.rounds, &SUBJECTS, |subject| {
            let capture = subject.options;
            let _capture = capture
                .map(|options| Capture::begin(&product, options))
                .transpose()?;
            sleep(SETTLE);
            bed.ns_per_packet(Check::Rewritten(1)).context(subject.name)
        })
    })?;
    let mut lines = Vec::new();
    for (Subject { name, goal, .. }, times) in SUBJECTS.iter().zip(&ns) {
        lines.push(Line::new(CASE, name, Spread::mpps(times), "Mpps"));
        let ratio = Spread::rate_ratio(times, &ns[0]);
        let line = Line::new(CASE, name, ratio, "× not captured");
        lines.push(match goal {
            Some(goal) => line.goal(Goal::AtLeast(*goal)),
            None => line,
        });
    }
    Ok(Section {
        name: "capture",
        about: "native mode, live, while packets are captured into a file that nobody keeps, on another core",
        lines,
    })
}

struct Capture(Child);

impl Capture {
    fn begin(product: &Product, options: &[&str]) -> Result<Self> {
        let args = [&["capture", "--write", "/dev/null"], options].concat();
        let mut child = product.command(&args).stderr(Stdio::piped()).spawn()?;
        let messages = child.stderr.take().context("a pipe")?;
        let capture = Capture(child);
        let mut said = String::new();
        BufReader::new(messages).read_line(&mut said)?;
        ensure!(said.starts_with("capturing"), "it does not capture: {said}");
        Ok(capture)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.0.id() as i32), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}
