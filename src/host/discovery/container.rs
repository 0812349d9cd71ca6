//! Containers, as the command line of their engine knows them.

use std::io::{self, ErrorKind};
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::Error;
use crate::error::{Exit, Failure, failure, join_lines, one_line};

const ENGINES: [&str; 2] = ["docker", "podman"];

/// An engine whose daemon hangs never answers.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The first process of a running container, by the first engine that knows it.
pub fn pid(name: &str) -> Result<u32> {
    let mut refusals = Vec::new();
    for engine in ENGINES {
        match inspect(engine, name) {
            Ok(None) => {}
            Ok(Some(output)) if output.status.success() => {
                return running(engine, name, &output.stdout);
            }
            Ok(Some(output)) => {
                let words = join_lines(&String::from_utf8_lossy(&output.stderr));
                refusals.push(format!("{engine} says: {words}"));
            }
            Err(error) => refusals.push(one_line(&error)),
        }
    }
    if refusals.is_empty() {
        let container = name.to_string();
        return Err(Failure::new(Error::NoEngine { container }));
    }
    let why = refusals.join("; ");
    Err(failure(Exit::NotFound, format!("container {name}: {why}")))
}

/// None where the engine is not installed.
fn inspect(engine: &str, name: &str) -> Result<Option<Output>> {
    let format = ["--type", "container", "--format", "{{.State.Pid}}", "--"];
    let mut command = Command::new(engine);
    command.arg("inspect").args(format).arg(name);
    match output(&mut command) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        output => output
            .map(Some)
            .with_context(|| format!("cannot run {engine}")),
    }
}

/// What an engine prints is a few words, which fit the pipes: they need not be read while it runs.
fn output(command: &mut Command) -> io::Result<Output> {
    let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.stdin(Stdio::null()).spawn()?;
    let deadline = Instant::now() + ANSWER_WITHIN;
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            let message = format!("no answer within {} s", ANSWER_WITHIN.as_secs());
            return Err(io::Error::new(ErrorKind::TimedOut, message));
        }
        sleep(Duration::from_millis(10));
    }
    child.wait_with_output()
}

fn running(engine: &str, name: &str, answer: &[u8]) -> Result<u32> {
    let answer = String::from_utf8_lossy(answer);
    let pid = answer.trim().parse().with_context(|| {
        format!("container {name}: {engine} answers {answer:?} for its process")
    })?;
    if pid == 0 {
        let message = format!("container {name}: {engine} knows it, but it is not running");
        return Err(failure(Exit::NotFound, message));
    }
    Ok(pid)
}
