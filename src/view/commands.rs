//! Commands in messages: they stand between backquotes.

pub fn map(text: &str, each: impl Fn(&str) -> String) -> String {
    let parts = text.split('`').enumerate();
    let parts = parts.map(|(number, part)| match number % 2 {
        0 => part.to_string(),
        _ => each(part),
    });
    parts.collect::<Vec<_>>().join("`")
}
