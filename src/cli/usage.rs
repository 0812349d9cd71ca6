//! What clap refuses, as one line.

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use xdpredir::error::{self, Exit};
use xdpredir::view;

/// Help and version as clap prints them; a usage error as one line, without clap's usage block.
pub fn report(error: &clap::Error) -> ExitCode {
    if !error.use_stderr()
        || error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    {
        let _ = error.print();
        return ExitCode::from(error.exit_code() as u8);
    }
    let text = error.render().to_string();
    let said = text.split("\n\nUsage:").next().unwrap_or(&text);
    let said = said
        .split("\n\nFor more information")
        .next()
        .unwrap_or(said);
    let said = said.split("\n\n  tip:").next().unwrap_or(said);
    let said = said.strip_prefix("error: ").unwrap_or(said);
    let like = like(error).map_or_else(String::new, |like| format!("; did you mean {like}?"));
    let said = error::join_lines(said);
    view::complaint(format_args!("xdpredir: {said}{like}; see --help"));
    ExitCode::from(Exit::Usage as u8)
}

/// The words that clap takes for the mistyped one, the most likely first.
fn like(error: &clap::Error) -> Option<String> {
    use ContextKind::{SuggestedArg, SuggestedSubcommand, SuggestedValue};
    let suggested = [SuggestedSubcommand, SuggestedArg, SuggestedValue];
    let found = suggested.into_iter().find_map(|kind| error.get(kind))?;
    let mut words = match found {
        ContextValue::String(word) => vec![word.clone()],
        ContextValue::Strings(words) => words.iter().rev().cloned().collect(),
        _ => return None,
    };
    words
        .iter_mut()
        .for_each(|word| *word = format!("'{word}'"));
    Some(words.join(" or ")).filter(|words| !words.is_empty())
}
