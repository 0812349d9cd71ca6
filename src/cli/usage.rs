//! What clap refuses, as one line.

use std::error::Error as _;
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
            format!(
                "invalid value '{}' for '{arg}': {}",
                get(InvalidValue)?,
                error.source()?
            )
        }
        ErrorKind::TooManyValues => format!("unexpected value '{}' for '{arg}'", value()?),
        ErrorKind::UnknownArgument => format!("there is no argument '{arg}' here"),
        ErrorKind::InvalidSubcommand => format!("there is no command '{arg}'"),
        ErrorKind::MissingSubcommand => {
            format!("'{arg}' needs a command: {}", get(ValidSubcommand)?)
        }
        ErrorKind::MissingRequiredArgument => format!("missing: {arg}"),
        ErrorKind::ArgumentConflict => match get(PriorArg) {
            Some(other) if other == arg => format!("'{arg}' can be given only once"),
            Some(other) => format!("'{arg}' cannot be given with '{other}'"),
            None => format!("'{arg}' cannot be given with other arguments"),
        },
        _ => return None,
    })
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
        let words = ["xdpredir", "rule", "add", "--server", ""];
        let error = Cli::try_parse_from(words).err().expect("a usage error");
        assert_eq!(
            error.apply::<OneLine>().render().to_string(),
            "xdpredir: invalid value '' for '--server <ADDR>': invalid IP address syntax; see --help"
        );
    }
}
