//! What clap refuses, as one line.

use std::error::Error as _;
use std::num::{IntErrorKind, ParseIntError};
use std::process::ExitCode;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, Error, ErrorFormatter, ErrorKind};
use xdpredir::error::Exit;
use xdpredir::view;

/// Help and version as clap prints them; a usage error as one line, without clap's usage block.
pub fn report(error: clap::Error) -> ExitCode {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return ExitCode::from(error.exit_code() as u8);
    }
    view::complaint(error.apply::<OneLine>().render());
    ExitCode::from(Exit::Usage as u8)
}

struct OneLine;

impl ErrorFormatter for OneLine {
    fn format_error(error: &Error<Self>) -> StyledStr {
        let what = sentence(error).unwrap_or_else(|| error.kind().to_string());
        let like = like(error).map_or_else(String::new, |like| format!("; did you mean {like}?"));
        format!("xdpredir: {what}{like}; see --help").into()
    }
}

/// None where clap says no more than the kind of the error.
fn sentence(error: &Error<OneLine>) -> Option<String> {
    use ContextKind::{InvalidArg, InvalidSubcommand, InvalidValue, PriorArg, ValidSubcommand};
    let get = |kind| error.get(kind).map(ContextValue::to_string);
    let value = || get(InvalidValue).filter(|value| !value.is_empty());
    let arg = get(InvalidArg).or_else(|| get(InvalidSubcommand))?;
    Some(match error.kind() {
        ErrorKind::InvalidValue => {
            let valid = get(ContextKind::ValidValue).filter(|valid| !valid.is_empty());
            let valid =
                valid.map_or_else(String::new, |valid| format!(", which is one of {valid}"));
            match value() {
                Some(value) => format!("invalid value '{value}' for '{arg}'{valid}"),
                None => format!("'{arg}' needs a value{valid}"),
            }
        }
        ErrorKind::ValueValidation => {
            let why = refused(error.source()?);
            format!("invalid value '{}' for '{arg}': {why}", get(InvalidValue)?)
        }
        ErrorKind::TooManyValues => format!("unexpected value '{}' for '{arg}'", value()?),
        ErrorKind::UnknownArgument => format!("there is no argument '{arg}' here"),
        ErrorKind::InvalidSubcommand => format!("there is no command '{arg}'"),
        ErrorKind::MissingSubcommand => {
            format!("'{arg}' needs a command: {}", get(ValidSubcommand)?)
        }
        ErrorKind::MissingRequiredArgument => format!("missing: {arg}"),
        ErrorKind::ArgumentConflict => match error.get(PriorArg) {
            Some(ContextValue::String(other)) if *other == arg => {
                format!("'{arg}' can be given only once")
            }
            // Clap has all that the argument excludes of a group, not only what was given.
            Some(ContextValue::Strings(others)) => {
                let others: Vec<_> = others.iter().map(|other| format!("'{other}'")).collect();
                format!("'{arg}' cannot be given with {}", others.join(" or "))
            }
            Some(other) => format!("'{arg}' cannot be given with '{other}'"),
            None => format!("'{arg}' cannot be given with other arguments"),
        },
        _ => return None,
    })
}

/// Why a value is none. What Rust says of numbers speaks of digits and types.
fn refused(why: &(dyn std::error::Error + 'static)) -> String {
    let of_numbers = why.downcast_ref::<ParseIntError>();
    match of_numbers.map(ParseIntError::kind) {
        None => why.to_string(),
        Some(IntErrorKind::PosOverflow) => "the number is too large".into(),
        Some(_) => "a number is needed".into(),
    }
}

/// The words that clap takes for the mistyped one, the most likely first.
fn like(error: &Error<OneLine>) -> Option<String> {
    use ContextKind::{SuggestedArg, SuggestedSubcommand, SuggestedValue};
    let suggested = [SuggestedSubcommand, SuggestedArg, SuggestedValue];
    let found = suggested.into_iter().find_map(|kind| error.get(kind))?;
    let words = match found {
        ContextValue::String(word) => std::slice::from_ref(word),
        ContextValue::Strings(words) => words,
        _ => return None,
    };
    let quoted: Vec<_> = words.iter().rev().map(|word| format!("'{word}'")).collect();
    Some(quoted.join(" or ")).filter(|words| !words.is_empty())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::grammar::Cli;

    #[test]
    fn an_empty_value_is_named_with_its_option() {
        assert_eq!(
            said("rule add --server="),
            "xdpredir: invalid value '' for '--server <ADDR>': invalid IP address syntax; see --help"
        );
    }

    #[test]
    fn what_is_no_number_or_no_time_is_said_so() {
        let refused = |arguments: &str, why: &str| {
            let said = said(arguments);
            assert!(said.ends_with(&format!("': {why}; see --help")), "{said}");
        };
        refused("rollback x", "a number is needed");
        refused("rollback 99999999999999999999", "the number is too large");
        refused("dump eth0 --count x", "a number is needed");
        refused("stats --watch 1x", "a time such as 1s or 500ms is needed");
        refused(
            "rule drain --server 10.0.0.1 --timeout x",
            "a time such as 5m or 30s is needed",
        );
        refused(
            "apply --confirm x a.toml",
            "a time such as 60s or 5m is needed",
        );
    }

    #[test]
    fn each_argument_that_excludes_another_is_quoted() {
        let said = said("rule add --server 10.0.0.1 --drop");
        let all = "'--drop' or '--forward <DEV>' or '--pass' or '--socket'";
        let expected =
            format!("xdpredir: '--server <ADDR>' cannot be given with {all}; see --help");
        assert_eq!(said, expected);
    }

    fn said(arguments: &str) -> String {
        let words = std::iter::once("xdpredir").chain(arguments.split(' '));
        let error = Cli::try_parse_from(words).err().expect("a usage error");
        error.apply::<OneLine>().render().to_string()
    }
}
