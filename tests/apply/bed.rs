//! A host that is attached to in0, with a device for backends, and files.

use std::path::PathBuf;

use serde_json::Value;

use crate::fixture::{Ns, Pins, Run, Tool};

pub const MAC: &str = "02:00:00:00:00:01";

pub struct Bed {
    pub ns: Ns,
    pub pins: Pins,
    pub directory: tempfile::TempDir,
}

impl Bed {
    pub fn new() -> Self {
        let bed = Bed::detached();
        bed.tool().ok("attach in0");
        bed
    }

    pub fn detached() -> Self {
        let ns = Ns::dual_stack("host");
        for pair in ["in", "out", "other"] {
            ns.ip(&format!("link add {pair}0 type veth peer name {pair}1"));
            ns.ip(&format!("link set {pair}0 up"));
            ns.ip(&format!("link set {pair}1 up"));
        }
        Bed {
            ns,
            pins: Pins::new(),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    pub fn tool(&self) -> Tool<'_> {
        Tool {
            ns: &self.ns,
            pins: &self.pins,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A file's path, for a command line.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    pub fn apply(&self, text: &str) -> Run {
        self.tool()
            .run(&format!("apply {}", self.file("rules.toml", text)))
    }

    /// What there is, as `export` prints it.
    pub fn export(&self) -> String {
        self.tool().ok("export").out
    }

    pub fn rows(&self) -> Vec<Value> {
        let rows = self.tool().json("rule list");
        rows.as_array().unwrap().clone()
    }
}

/// A rule that redirects what comes from a source to a server behind out0.
pub fn rule(src: &str, server: &str) -> String {
    format!(
        "[[rule]]\nsrc = \"{src}\"\nreply = \"none\"\n  [[rule.backend]]\n  server = \"{server}\"\n  \
         mac = \"{MAC}\"\n  device = \"out0\"\n"
    )
}
