//! Compiles the BPF programs into Rust skeletons and the ABI headers' limits into Rust constants.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use libbpf_cargo::SkeletonBuilder;

const ABI: &str = "bpf/abi";

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let mut sources = vec![
        "bpf/xdpredir",
        "bpf/xdpredir_tc",
        "bpf/xdpredir_capture",
        "bpf/xdpredir_capture_tc",
        "bpf/ledger",
        "bpf/ledger_tc",
        "bpf/lost",
        "bpf/lost_tc",
        "bpf/pass",
        "bpf/dump",
        "bpf/xdpredir_dump",
        "bpf/chain",
        "bpf/join",
    ];
    if env::var_os("CARGO_FEATURE_BENCH").is_some() {
        sources.extend(["benches/bench", "benches/tc"]);
        println!("cargo::rerun-if-changed=benches");
    }
    println!("cargo::rerun-if-changed=bpf");
    println!("cargo::rerun-if-changed=vmlinux");
    println!("cargo::rerun-if-env-changed=CLANG");
    println!("cargo::rerun-if-env-changed=PATH");

    let Some(clang) = find_clang() else {
        println!(
            "cargo::error=no clang found: install it (Debian, Ubuntu, Fedora: package `clang`) or name one with CLANG"
        );
        return;
    };
    let mut build = DefaultHasher::new();
    for source in sources {
        let source = Path::new(source);
        let name = source.file_name().expect("a file").to_string_lossy();
        let object = out.join(format!("{name}.bpf.o"));
        skeleton(&clang, &source.with_extension("bpf.c"), &object);
        fs::read(&object).unwrap_or_default().hash(&mut build);
    }
    // What tells programs apart that one version of the command has had.
    let build = build.finish() as u32;
    println!("cargo::rustc-env=XDPREDIR_BUILD={build:08x}");

    fs::write(out.join("limits.rs"), limits(&abi_headers())).expect("OUT_DIR is writable");
}

fn skeleton(clang: &Path, source: &Path, object: &Path) {
    let built = SkeletonBuilder::new()
        .source(source)
        .obj(object)
        .reference_obj(true) // as text, it would take the compiler long to read
        .clang(clang)
        .clang_args([
            "-Wall",
            "-Wextra",
            "-Wno-unused-parameter",
            "-Werror",
            "-mcpu=v3",
            "-Ivmlinux",
            "-Ibpf",
        ])
        .build_and_generate(object.with_extension("").with_extension("skel.rs"));
    if let Err(error) = built {
        for line in format!("{error:#}").lines() {
            println!("cargo::error={line}");
        }
    }
}

/// `CLANG`, or the newest of `clang` and `clang-N` on the PATH.
fn find_clang() -> Option<PathBuf> {
    if let Some(named) = env::var_os("CLANG").filter(|name| !name.is_empty()) {
        return Some(named.into());
    }
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .filter_map(|dir| fs::read_dir(dir).ok())
        .flat_map(|entries| entries.flatten())
        .filter(|entry| is_clang(&entry.file_name().to_string_lossy()))
        .filter_map(|entry| Some((major_version(&entry.path())?, entry.path())))
        .max()
        .map(|(_, clang)| clang)
}

fn is_clang(name: &str) -> bool {
    let version = name.strip_prefix("clang-").unwrap_or(name);
    name == "clang" || version.parse::<u32>().is_ok()
}

fn major_version(clang: &Path) -> Option<u32> {
    let output = std::process::Command::new(clang)
        .arg("-dumpversion")
        .output()
        .ok()?;
    String::from_utf8_lossy(&output.stdout)
        .split('.')
        .next()?
        .trim()
        .parse()
        .ok()
}

/// The text of all headers that are shared with Rust.
fn abi_headers() -> String {
    fs::read_dir(ABI)
        .and_then(|entries| {
            entries
                .map(|entry| fs::read_to_string(entry?.path()))
                .collect()
        })
        .expect("the ABI headers are readable")
}

/// Every `#define NAME NUMBER` of the headers as a Rust constant.
fn limits(headers: &str) -> String {
    let mut rust = String::new();
    for line in headers.lines() {
        let mut words = line.split_whitespace();
        if let (Some("#define"), Some(name), Some(Ok(value))) = (
            words.next(),
            words.next(),
            words.next().map(str::parse::<u32>),
        ) {
            let _ = writeln!(rust, "pub const {name}: u32 = {value};");
        }
    }
    rust
}
