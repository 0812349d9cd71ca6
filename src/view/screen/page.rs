//! The lines of a screen. What does not fit is chosen, and counted in the last line.

use std::cmp::Reverse;

use super::figures::Figures;
use super::state::{Order, State};
use crate::view::failures::{self, Advice};
use crate::view::stats::backends;
use crate::view::stats::interfaces::{self, Line};
use crate::view::units::count;
use crate::view::{escape, flows};

/// The part of a screen that one table takes.
struct Part {
    lines: Vec<String>,
    /// How many rows of the table are in it, and how many are not.
    rows: usize,
    hidden: usize,
}

/// As many lines as the screen has rows, at most.
pub fn lines(
    figures: &Figures,
    state: &mut State,
    advice: &Advice,
    rows: usize,
    has_keys: bool,
) -> Vec<String> {
    let mut room = rows.saturating_sub(2);
    let earlier = figures.earlier.as_ref();
    let mut below = Vec::new();
    let losses = failures::lines(&figures.now, advice);
    below.extend(losses.lines().take(room / 4).map(String::from));
    if let Some(connections) = &figures.now.connections {
        let table = flows::stats(connections, earlier);
        let table: Vec<String> = under_a_blank(&table).collect();
        if table.len() <= room / 3 {
            below.splice(0..0, table);
        }
    }
    room -= below.len();
    let wanted = figures.order.len();
    let for_backends = if wanted == 0 { 0 } else { wanted + 2 };
    let most = (room / 2).max(room.saturating_sub(for_backends));
    let outcomes = of_interfaces(figures, state, most);
    let backends = of_backends(figures, state, room - outcomes.lines.len());
    state.page = backends.rows.max(outcomes.rows.min(1));
    let hidden = outcomes.hidden + backends.hidden;
    let mut lines = vec![title(figures, state)];
    lines.extend(outcomes.lines);
    lines.extend(backends.lines);
    lines.extend(below);
    lines.truncate(rows.saturating_sub(1));
    lines.push(help(state, hidden, has_keys));
    lines
}

fn of_interfaces(figures: &Figures, state: &State, room: usize) -> Part {
    let all = figures.lines(state);
    let mut order: Vec<usize> = (0..all.len()).collect();
    if state.order == Order::Busiest {
        order.sort_by_key(|&place| Reverse(all[place].speed().weight()));
    }
    fitting(all.len(), room, |fit| {
        let above = state.above(all.len(), fit);
        let mut shown: Vec<usize> = order[above..][..fit].to_vec();
        // Which lines are shown is chosen; an interface's lines stay together.
        shown.sort_unstable();
        let shown: Vec<&Line> = shown.into_iter().map(|place| &all[place]).collect();
        interfaces::table(&shown, true, Some(&figures.trends))
    })
}

fn of_backends(figures: &Figures, state: &State, room: usize) -> Part {
    let earlier = figures.earlier.as_ref();
    let all = &figures.order;
    fitting(all.len(), room, |fit| {
        let above = state.above(all.len(), fit);
        let shown = all[above..][..fit].iter().copied();
        let rows = backends::rows(&figures.now, shown, earlier);
        backends::table(&rows, true, Some(&figures.trends))
    })
}

/// A table of as many of so many rows as fit.
fn fitting(all: usize, room: usize, table: impl Fn(usize) -> String) -> Part {
    // A blank line and the headings.
    let mut rows = all.min(room.saturating_sub(2));
    let mut lines = Vec::new();
    while rows > 0 {
        lines = under_a_blank(&table(rows)).collect();
        let excess = lines.len().saturating_sub(room);
        if excess == 0 {
            break;
        }
        // A row can take several lines.
        rows -= excess.div_ceil(lines.len().div_ceil(rows)).min(rows);
        lines.clear();
    }
    Part {
        lines,
        rows,
        hidden: all - rows,
    }
}

fn under_a_blank(table: &str) -> impl Iterator<Item = String> {
    std::iter::once("").chain(table.lines()).map(String::from)
}

fn title(figures: &Figures, state: &State) -> String {
    let order = match state.order {
        Order::Busiest => "losing first, then busiest",
        Order::Rules => "in the order of rules",
    };
    let mut title = format!("{}  {order}", figures.now.timestamp);
    if !state.filter.is_empty() {
        let (some, all) = (figures.order.len(), figures.now.rules.len());
        let filter = escape(&state.filter);
        title += &format!("  filter {filter}: {some} of {}", count(all, "backend"));
    }
    title
}

/// A narrow terminal cuts off the end of the line, so what ends the run comes first.
fn help(state: &State, hidden: usize, has_keys: bool) -> String {
    if state.typing {
        return format!("/{}_  Enter keeps it, Esc clears it", escape(&state.filter));
    }
    let hidden = match hidden {
        0 => String::new(),
        rows => format!("; {} not shown", count(rows, "row")),
    };
    match has_keys {
        true => format!("q ends{hidden}; / filters, s sorts, arrows and PgUp PgDn scroll"),
        false => format!("Ctrl-C ends{hidden}"),
    }
}
