//! Errors and warnings on standard error. What `attach`, `rule add` and `rule load` warn of once they have
//! done their work is not their failure.

use anyhow::Result;

use super::grammar::Global;
use super::{failed, suggest};
use xdpredir::model::{Finding, Refusal};
use xdpredir::view::{self, doctor::Row};

/// Prints warnings, and returns them as scripts read them; None where that could not be checked.
pub fn say(global: &Global, found: &Result<Vec<Finding>>) -> Option<Vec<Row>> {
    let shell = suggest::shell(global);
    match found {
        Ok(found) => {
            let sentences = found
                .iter()
                .map(|found| view::doctor::sentence(found, &shell));
            sentences.for_each(view::warning);
            Some(found.iter().map(|found| Row::new(found, &shell)).collect())
        }
        Err(error) => {
            let refusal = failed::explained(error);
            let why = format!("cannot check whether packets will arrive: {}", refusal.why);
            warn(global, &(why, refusal.remedy).into());
            None
        }
    }
}

/// Says why answers are not translated, though nobody said that they are not to be.
pub fn untranslated<'a>(global: &Global, why: impl IntoIterator<Item = &'a anyhow::Error>) {
    for error in why {
        let Refusal { why, remedy } = failed::explained(error);
        let why = format!("answers leave with the server's own address: {why}");
        warn(global, &(why, remedy).into());
    }
}

/// Prints a warning.
pub fn warn(global: &Global, refusal: &Refusal) {
    view::warning(line(global, refusal));
}

/// Prints an error.
pub fn complain(global: &Global, refusal: &Refusal) {
    view::complaint(format_args!("xdpredir: {}", line(global, refusal)));
}

/// What was refused, and what helps.
pub fn line(global: &Global, refusal: &Refusal) -> String {
    let Refusal { why, remedy } = refusal;
    match remedy.is_empty() {
        true => why.clone(),
        false => format!("{why}: {}", suggest::shell(global).text(remedy)),
    }
}
