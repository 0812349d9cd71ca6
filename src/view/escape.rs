//! Names that somebody else chose, made harmless for a terminal.

/// The text without anything that a terminal obeys: control characters, and those that change the
/// direction of what is read, appear as their numbers.
pub fn escape(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match u32::from(c) {
            code @ 0..0x100 if c.is_control() => shown += &format!("\\x{code:02x}"),
            code if is_hidden(c) => shown += &format!("\\u{{{code:x}}}"),
            _ => shown.push(c),
        }
    }
    shown
}

/// Unicode's zero-width and direction characters, and the separators of lines and paragraphs.
fn is_hidden(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Whether the text appears as it is.
pub fn is_plain(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() || is_hidden(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_becomes_a_number() {
        assert_eq!(escape("e\x1b[31mred"), "e\\x1b[31mred");
        assert_eq!(escape("a\nb\u{7f}\u{9b}"), "a\\x0ab\\x7f\\x9b");
        assert_eq!(escape("a\u{202e}b"), "a\\u{202e}b");
        assert_eq!(escape("eth0 ü `$(id)`"), "eth0 ü `$(id)`");
    }
}
