//! Containers, as their engine's command line knows them.

use std::io::ErrorKind;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result};

use crate::error::{Exit, failure, join_lines};

const ENGINES: [&str; 2] = ["docker", "podman"];

/// The first process of a running container, by the first engine that knows it.
pub fn pid(name: &str) -> Result<u32> {
    let mut refusals = Vec::new();
    for engine in ENGINES {
        let Some(output) = inspect(engine, name)? else {
            continue;
        };
        if output.status.success() {
            return running(engine, name, &output.stdout);
        }
        let said = join_lines(&String::from_utf8_lossy(&output.stderr));
        refusals.push(format!("{engine} says: {said}"));
    }
    let why = if refusals.is_empty() {
        format!(
            "neither {} is installed: give --pid or --server-netns",
            ENGINES.join(" nor ")
        )
    } else {
        refusals.join("; ")
    };
    Err(failure(Exit::NotFound, format!("container {name}: {why}")))
}

/// None where the engine is not installed.
fn inspect(engine: &str, name: &str) -> Result<Option<Output>> {
    let format = ["--type", "container", "--format", "{{.State.Pid}}", "--"];
    let mut command = Command::new(engine);
    command.arg("inspect").args(format).arg(name);
    match command.stdin(Stdio::null()).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        output => output
            .map(Some)
            .with_context(|| format!("cannot run {engine}")),
    }
}

fn running(engine: &str, name: &str, said: &[u8]) -> Result<u32> {
    let said = String::from_utf8_lossy(said);
    let pid = said
        .trim()
        .parse()
        .with_context(|| format!("container {name}: {engine} answers {said:?} for its process"))?;
    if pid == 0 {
        let message = format!("container {name}: {engine} knows it, but it is not running");
        return Err(failure(Exit::NotFound, message));
    }
    Ok(pid)
}
