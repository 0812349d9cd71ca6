//! Why the kernel did not load a program or make a map: privileges, what it lacks, or memory.

use std::path::Path;

use anyhow::{Error, Result};
use libbpf_rs::{ErrorKind, ProgramType, libbpf_sys};

use super::log::{self, Said};
use crate::error::{Exit, failure};
use crate::host::capability;
use crate::host::kernel::{BOOT_NEWER, BOOT_TESTED, BTF, release};
use crate::model::Refusal;

const FREE: &str = "free some, or raise the limit of this control group";

/// Loads an object, and says why the kernel refused it.
pub fn explain<T>(load: impl FnOnce() -> libbpf_rs::Result<T>) -> Result<T> {
    explain_with(load, of_program, |error| match Path::new(BTF).exists() {
        true => Error::from(error).context("the programs cannot be loaded"),
        false => no_btf(),
    })
}

/// Loads somebody else's program, and says why the kernel refused it.
pub fn explain_foreign<T>(load: impl FnOnce() -> libbpf_rs::Result<T>) -> Result<T> {
    let otherwise = |error| Error::from(error).context("the program cannot be loaded");
    explain_with(load, of_foreign, otherwise)
}

/// `of_program` says why a program was refused: it is given its name, the error, and the verifier's log.
fn explain_with<T>(
    load: impl FnOnce() -> libbpf_rs::Result<T>,
    of_program: impl FnOnce(&str, &str, Option<&str>, libbpf_rs::Error) -> Error,
    otherwise: impl FnOnce(libbpf_rs::Error) -> Error,
) -> Result<T> {
    log::take_said();
    load().map_err(|error| match log::take_said() {
        Said { map: Some(map), .. } => of_map(&map, error),
        Said {
            program: Some((program, errno)),
            verifier,
            ..
        } => of_program(&program, &errno, verifier.as_deref(), error),
        _ => otherwise(error),
    })
}

fn of_foreign(
    program: &str,
    errno: &str,
    verifier: Option<&str>,
    error: libbpf_rs::Error,
) -> Error {
    match verifier.and_then(last_words) {
        Some(why) if errno != "-EPERM" => {
            let why = format!(
                "the kernel's verifier refused the program {program}: {why} (-v shows its log)"
            );
            failure(Exit::Unsupported, why)
        }
        _ => of_program(program, errno, None, error),
    }
}

pub fn no_btf() -> Error {
    let why = format!("this kernel ({}) has no BTF ({BTF})", release());
    failure(
        Exit::Unsupported,
        (why, "boot one built with CONFIG_DEBUG_INFO_BTF"),
    )
}

/// Of a map that could not be made.
pub fn of_map(map: &str, error: libbpf_rs::Error) -> Error {
    let cannot = format!("cannot make the map {map}");
    match error.kind() {
        ErrorKind::PermissionDenied => refused(cannot, &error),
        ErrorKind::TooBig | ErrorKind::OutOfMemory => {
            failure(Exit::Failed, (format!("{cannot}: not enough memory"), FREE))
        }
        _ => {
            let kernel = release();
            let why =
                format!("{cannot}: this kernel ({kernel}) does not have this kind of map: {error}");
            failure(Exit::Unsupported, (why, BOOT_NEWER))
        }
    }
}

/// EPERM is a lack of privileges. Any other error comes from the verifier, EACCES too; but it also asks
/// for privileges, for what a program does.
fn of_program(program: &str, errno: &str, log: Option<&str>, error: libbpf_rs::Error) -> Error {
    let cannot = format!("the kernel refused the program {program}");
    if errno == "-EPERM" || !capability::missing(capability::ATTACH).is_empty() {
        return refused(cannot, &error);
    }
    if error.kind() == ErrorKind::OutOfMemory {
        return failure(Exit::Failed, (format!("{cannot}: not enough memory"), FREE));
    }
    let kernel = release();
    let missing = missing_helpers();
    let (why, remedy) = match log.and_then(last_words) {
        _ if !missing.is_empty() => {
            let missing = missing.join(", ");
            let why = format!("this kernel ({kernel}) has no {missing}, which the programs call");
            (why, BOOT_NEWER)
        }
        Some(why) => (
            format!(
                "this kernel's verifier ({kernel}) refused the program {program}: {why} (-v shows its log)"
            ),
            BOOT_TESTED,
        ),
        None => (
            format!("this kernel ({kernel}) refused the program {program}: {error}"),
            BOOT_TESTED,
        ),
    };
    failure(Exit::Unsupported, (why, remedy))
}

/// The youngest functions that the programs call and this kernel has not.
fn missing_helpers() -> Vec<&'static str> {
    let helpers = [
        (libbpf_sys::BPF_FUNC_check_mtu, "bpf_check_mtu"),
        (libbpf_sys::BPF_FUNC_loop, "bpf_loop"),
        (
            libbpf_sys::BPF_FUNC_xdp_get_buff_len,
            "bpf_xdp_get_buff_len",
        ),
        (libbpf_sys::BPF_FUNC_xdp_load_bytes, "bpf_xdp_load_bytes"),
    ];
    let is_missing = |helper| matches!(ProgramType::Xdp.is_helper_supported(helper), Ok(false));
    let missing = helpers.iter().filter(|(helper, _)| is_missing(*helper));
    missing.map(|(_, name)| *name).collect()
}

fn refused(cannot: String, error: &libbpf_rs::Error) -> Error {
    let forbidden =
        || format!("{error}, by lockdown or a security module: no capability is missing");
    let Refusal { why, remedy } =
        capability::refused_to_attach().unwrap_or_else(|| forbidden().into());
    failure(Exit::Permission, (format!("{cannot}: {why}"), remedy))
}

/// The last line of a verifier's log that says something of its own.
fn last_words(log: &str) -> Option<String> {
    let mut lines = log.lines().map(str::trim).rev();
    lines.find(|line| says_something(line)).map(String::from)
}

/// How lines begin that show the program, the state of registers, what the verifier does, or figures.
const STEPS: [&str; 25] = [
    ";",
    "--",
    "libbpf:",
    "processed ",
    "verification time",
    "stack depth",
    "from ",
    "frame",
    "caller:",
    "callee:",
    "returning from callee",
    "to caller at",
    "cur state",
    "old state",
    "mark_precise",
    "last_idx",
    "regs=",
    "parent ",
    "propagating ",
    "func#",
    "Func#",
    "Validating ",
    "safe",
    "max_states",
    "(",
];

fn says_something(line: &str) -> bool {
    let is_step = STEPS.iter().any(|step| line.starts_with(step));
    !line.is_empty() && !is_step && !is_instruction(line) && !is_state(line)
}

/// "12: (bf) r7 = r6", "12: R0=…".
fn is_instruction(line: &str) -> bool {
    let number = line.split_once(':').map(|(number, _)| number);
    number.is_some_and(|number| number.parse::<u32>().is_ok())
}

/// "R1=ctx() R10=fp0", "R0_w=…", "fp-8=…".
fn is_state(line: &str) -> bool {
    let word = line.split_whitespace().next().unwrap_or_default();
    let register = word.starts_with('R') || word.starts_with("fp-");
    register && word.contains('=')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifiers_last_words_are_found_in_its_log() {
        let pointer = "\n0: R1=ctx() R10=fp0\n; void *end = data; @ xdpredir.bpf.c:67\n\
                       0: (61) r6 = *(u32 *)(r1 +4)          ; R1=ctx() R6=pkt_end()\n\
                       13: (1f) r7 -= r4\nR7 pointer -= pointer prohibited\n\
                       processed 8 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0\n\
                       -- END PROG LOAD LOG --\n";
        assert_eq!(
            last_words(pointer).unwrap(),
            "R7 pointer -= pointer prohibited"
        );
        let edge = "func#0 @0\nfunc#1 @1507\nback-edge from insn 1498 to 1499\n\
                    processed 0 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0\n";
        assert_eq!(
            last_words(edge).unwrap(),
            "back-edge from insn 1498 to 1499"
        );
        let read = "from 12 to 14: R0=scalar() R10=fp0\n R1=ctx(off=0,imm=0) fp-8=mmmm????\n\
                    mark_precise: frame0: last_idx 9 first_idx 0\nregs=8 stack=0 before 8: (b7) r3 = 0\n\
                    parent didn't have regs=4 stack=0 marks\n\
                    14: (85) call bpf_xdp_load_bytes#189\nR4 invalid zero-sized read: u64=[0,127]\n\
                    verification time 4711 usec\nstack depth 512+64\n\
                    processed 628889 insns (limit 1000000) max_states_per_insn 9 total_states 1 peak_states 1 mark_read 1\n";
        assert_eq!(
            last_words(read).unwrap(),
            "R4 invalid zero-sized read: u64=[0,127]"
        );
    }

    #[test]
    fn a_log_without_words_has_none() {
        for log in [
            "",
            "\n-- END PROG LOAD LOG --\n",
            "processed 0 insns\n",
            "R0=0 R10=fp0\n",
        ] {
            assert_eq!(last_words(log), None, "{log}");
        }
    }
}
