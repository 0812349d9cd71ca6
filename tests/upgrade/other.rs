//! Other versions of the command.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use xdpredir::datapath::VERSION;

use crate::fixture::{self, BINARY, Ns, Pins, Run};

/// A version of the command, by its binary.
pub struct Version {
    binary: PathBuf,
}

impl Version {
    /// This one.
    pub fn this() -> Self {
        Version {
            binary: BINARY.into(),
        }
    }

    /// This one under the name of another build.
    pub fn renamed() -> Self {
        static BUILT: OnceLock<PathBuf> = OnceLock::new();
        let binary = BUILT.get_or_init(rename).clone();
        Version { binary }
    }

    /// The releases that `make upgrades` has built.
    pub fn released() -> Vec<Self> {
        let Some(directory) = std::env::var_os("XDPREDIR_RELEASES") else {
            return Vec::new();
        };
        let built = fs::read_dir(directory).expect("make upgrades makes it");
        let binary = |entry: std::io::Result<fs::DirEntry>| entry.expect("a binary").path();
        let all: Vec<_> = built
            .map(|entry| Version {
                binary: binary(entry),
            })
            .collect();
        assert!(!all.is_empty(), "no release was built");
        all
    }

    /// Whether it takes over what others have attached.
    pub fn takes_over(&self) -> bool {
        let mut help = Command::new(&self.binary);
        let help = help.args(["upgrade", "--help"]).output();
        help.expect("it runs").status.success()
    }

    pub fn command(&self, ns: &Ns, pins: &Pins, words: &str) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .arg("--netns")
            .arg(&ns.name)
            .arg("--pin-dir")
            .arg(pins.dir())
            .args(words.split_whitespace())
            .stdin(Stdio::null());
        fixture::other_kernel::play(&mut command);
        command
    }

    pub fn run(&self, ns: &Ns, pins: &Pins, words: &str) -> Run {
        let output = self.command(ns, pins, words).output();
        output.expect("it runs").into()
    }
}

/// The name of that build, which is as long.
pub fn other_name() -> String {
    let (version, build) = VERSION.split_once('+').expect("a version and a build");
    format!("{version}+{}", "f".repeat(build.len()))
}

fn rename() -> PathBuf {
    let mut bytes = fs::read(BINARY).expect("the binary is there");
    let (name, other) = (VERSION.as_bytes(), other_name());
    let mut at = 0;
    let mut renamed = 0;
    while let Some(found) = bytes[at..]
        .windows(name.len())
        .position(|window| window == name)
    {
        at += found;
        bytes[at..at + name.len()].copy_from_slice(other.as_bytes());
        renamed += 1;
    }
    assert!(renamed > 0, "the binary has its name in it");
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    // Other tests run it meanwhile.
    let [written, new] = ["written", "new"]
        .map(|name| directory.join(format!("other-version-{name}-{}", std::process::id())));
    fs::write(&written, bytes).expect("it is written");
    // Another process writes what is run: see fixture::install.
    let paths = [&written, &new].map(|path| path.to_str().expect("a plain path"));
    fixture::command("install", &["-m", "755", paths[0], paths[1]]);
    fs::remove_file(&written).expect("it is there");
    let binary = directory.join("other-version");
    fs::rename(&new, &binary).expect("it is there");
    binary
}
