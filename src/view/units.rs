//! Numbers for people; JSON has the exact ones.

/// So many of something that takes an s.
pub fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// Three significant digits and a decimal prefix: 950, 1.23k, 56.8M.
pub fn number(value: f64) -> String {
    let mut value = value;
    let mut prefix = "";
    for next in ["k", "M", "G", "T", "P", "E"] {
        if value < 999.95 {
            break;
        }
        value /= 1000.0;
        prefix = next;
    }
    if prefix.is_empty() {
        return format!("{value:.0}");
    }
    let decimals = if value < 9.9995 {
        2
    } else {
        usize::from(value < 99.995)
    };
    format!("{value:.decimals$}{prefix}")
}

/// A number per second: a tenth counts where there are few.
pub fn rate(value: f64) -> String {
    if value > 0.0 && value < 9.95 {
        return format!("{value:.1}");
    }
    number(value)
}

/// A time in its two largest units: 45s, 3m05s, 2h04m, 3d04h.
pub fn seconds(seconds: u64) -> String {
    let [minutes, hours, days] = [60, 60 * 60, 24 * 60 * 60].map(|unit| seconds / unit);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{:02}s", seconds % 60),
        (0, ..) => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

pub fn bytes(value: f64) -> String {
    format!("{}B", number(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_rate_is_not_nothing() {
        assert_eq!([0.0, 0.25, 3.0, 12.0].map(rate), ["0", "0.2", "3.0", "12"]);
    }

    #[test]
    fn a_time_has_two_units_at_most() {
        let times = [0, 59, 60, 7440, 86_400 * 3 + 4 * 3600].map(seconds);
        assert_eq!(times, ["0s", "59s", "1m00s", "2h04m", "3d04h"]);
    }

    #[test]
    fn numbers_fit_five_characters() {
        let cases = [
            (0.0, "0"),
            (999.0, "999"),
            (1000.0, "1.00k"),
            (1234.0, "1.23k"),
            (12345.0, "12.3k"),
            (123_456.0, "123k"),
            (999_999.0, "1.00M"),
            (4_900_000.0, "4.90M"),
            (1.5e18, "1.50E"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }
}
