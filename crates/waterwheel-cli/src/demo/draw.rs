//! How a moment of a demo looks: a pure function from it to a frame, readable at 80×24.

use std::time::Duration;

use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph, Row, Sparkline, Table};
use waterwheel::HoldReason;

use super::plan::TOPIC;
use super::show::Act;
use super::watch::{Kind, PartitionRow, Told, View};
use crate::words::{grouped, minutes};

/// What is drawn.
pub(super) struct Frame<'a> {
    pub(super) view: &'a View,
    pub(super) act: Act,
    pub(super) seed: u64,
    pub(super) length: Duration,
    pub(super) place: &'a str,
    pub(super) colored: bool,
}

impl Frame<'_> {
    fn color(&self, color: Color) -> Style {
        if self.colored { Style::new().fg(color) } else { Style::new() }
    }

    fn faint(&self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    fn member(&self, name: Option<char>) -> Style {
        match name {
            Some('A') => self.color(Color::Cyan),
            Some(_) => self.color(Color::Magenta),
            None => self.faint(),
        }
    }
}

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);

/// Columns of the figures, and what their history needs beside them.
const FIGURES: u16 = 56;
const HISTORY: u16 = 10;
/// With fewer columns than this, partitions are told in fewer words.
const WIDE: u16 = 74;

/// With fewer still, the seed is not told.
const NARROW: u16 = 64;
/// With fewer rows than this, so are the figures.
const TALL: u16 = 22;
/// A lag that is worth a look.
const MUCH: u64 = 1000;

/// Draws.
pub(super) fn draw(frame: &Frame<'_>, area: &mut ratatui::Frame<'_>) {
    let rows = u16::try_from(frame.view.partitions.len()).unwrap_or(0);
    let parts = [
        Constraint::Length(2),
        Constraint::Length(if area.area().height < TALL { 4 } else { 5 }),
        Constraint::Length(rows + 2),
        Constraint::Min(3),
        Constraint::Length(1),
    ];
    let [head, figures, partitions, events, foot] = Layout::vertical(parts).areas(area.area());
    draw_head(frame, area, head);
    draw_figures(frame, area, figures);
    draw_partitions(frame, area, partitions);
    draw_events(frame, area, events);
    area.render_widget(Paragraph::new(foot_words(frame.act)).style(frame.faint()), foot);
}

fn foot_words(act: Act) -> &'static str {
    match act {
        Act::Producing => " q or Ctrl-C ends in order, then the audit; twice: at once",
        Act::Finishing | Act::Leaving => " the audit follows; q or Ctrl-C: stop at once, without it",
    }
}

fn draw_head(frame: &Frame<'_>, area: &mut ratatui::Frame<'_>, at: Rect) {
    let state = match frame.act {
        Act::Producing => "orders are written",
        Act::Finishing => "finishing what was written",
        Act::Leaving => "members leave",
    };
    let (elapsed, length) = (minutes(frame.view.elapsed), minutes(frame.length));
    let title = Line::from(vec![
        Span::styled(" waterwheel demo", BOLD),
        Span::raw(format!("  {elapsed} of {length}  ")),
        Span::styled(state, frame.color(Color::Green)),
    ]);
    let place = frame.place;
    let look = Line::from(vec![
        Span::styled(" look at it  ", frame.faint()),
        Span::raw(format!("kcat -b {place} -t {TOPIC} -C")),
    ]);
    area.render_widget(Paragraph::new(vec![title, look]), at);
    let seed = Line::styled(format!("seed {} ", frame.seed), frame.faint());
    if at.width >= NARROW {
        area.render_widget(Paragraph::new(seed).alignment(Alignment::Right), Rect { height: 1, ..at });
    }
}

fn draw_figures(frame: &Frame<'_>, area: &mut ratatui::Frame<'_>, at: Rect) {
    let view = frame.view;
    let block = Block::new().borders(Borders::TOP).title(" orders ").border_style(frame.faint());
    let inner = block.inner(at);
    area.render_widget(block, at);
    let [left, right] = Layout::horizontal([Constraint::Length(FIGURES), Constraint::Min(0)]).areas(inner);
    let pair = |name: &str, number: u64, style: Style| {
        [Span::styled(format!(" {name:<14}"), frame.faint()), Span::styled(format!("{:>8}", grouped(number)), style)]
    };
    let mut lines: Vec<Line<'_>> = Vec::new();
    let mut line = |first: [Span<'static>; 2], rate: Option<f64>, second: [Span<'static>; 2]| {
        let mut spans = Vec::from(first);
        spans.push(Span::styled(rate.map_or(" ".repeat(9), |rate| format!("{rate:>7.0}/s")), frame.faint()));
        spans.extend(second);
        lines.push(Line::from(spans));
    };
    let alarming = |number: u64, color| if number > 0 { frame.color(color).patch(BOLD) } else { BOLD };
    line(
        pair("produced", view.produced, BOLD),
        Some(view.produced_rate),
        pair("  retries", view.retries, alarming(view.retries, Color::Yellow)),
    );
    line(
        pair("finished", view.finished, BOLD),
        Some(view.finished_rate),
        pair("  dead letters", view.dead_letters, alarming(view.dead_letters, Color::Red)),
    );
    line(pair("in work", view.in_work as u64, BOLD), None, pair("  lag", view.lag.unsigned_abs(), BOLD));
    area.render_widget(Paragraph::new(lines), left);
    if right.width >= HISTORY {
        draw_history(frame, area, right);
    }
}

/// Finished a second, the latest at the right.
fn draw_history(frame: &Frame<'_>, area: &mut ratatui::Frame<'_>, at: Rect) {
    let [bars, name] = Layout::vertical([Constraint::Min(1), Constraint::Length(1)]).areas(at);
    let seen = usize::from(bars.width).min(frame.view.history.len());
    let latest = &frame.view.history[frame.view.history.len() - seen..];
    area.render_widget(Sparkline::default().data(latest).style(frame.color(Color::Green)), bars);
    area.render_widget(Paragraph::new("finished/s").style(frame.faint()), name);
}

fn draw_partitions(frame: &Frame<'_>, area: &mut ratatui::Frame<'_>, at: Rect) {
    let members: Vec<String> = ['A', 'B']
        .into_iter()
        .filter_map(|name| {
            let has = frame.view.partitions.iter().filter(|row| row.owner == Some(name)).count();
            (has > 0).then(|| format!("{name} has {has}"))
        })
        .collect();
    let title = match members.is_empty() {
        true => " partitions ".to_owned(),
        false => format!(" partitions: {} ", members.join(", ")),
    };
    let block = Block::new().borders(Borders::TOP).title(title).border_style(frame.faint());
    let columns: Vec<&Column> = COLUMNS.iter().filter(|column| column.narrow || at.width >= WIDE).collect();
    let rows = frame.view.partitions.iter().enumerate().map(|(number, row)| {
        Row::new(columns.iter().map(|column| {
            let cell = (column.cell)(frame, number, row);
            if column.right { cell.right_aligned() } else { cell }
        }))
    });
    let names = Row::new(columns.iter().map(|column| {
        let name = Line::from(column.name);
        if column.right { name.right_aligned() } else { name }
    }));
    let widths = columns.iter().map(|column| Constraint::Length(column.width));
    area.render_widget(Table::new(rows, widths).header(names.style(frame.faint())).block(block), at);
}

/// A column of the table of partitions.
struct Column {
    name: &'static str,
    width: u16,
    right: bool,
    /// Whether it is there on a narrow terminal, too.
    narrow: bool,
    cell: fn(&Frame<'_>, usize, &PartitionRow) -> Line<'static>,
}

const COLUMNS: [Column; 9] = [
    Column { name: " #", width: 3, right: false, narrow: true, cell: |_, number, _| Line::from(format!(" {number}")) },
    Column { name: "owner", width: 5, right: false, narrow: true, cell: |frame, _, row| owner(frame, row) },
    Column { name: "frontier", width: 8, right: true, narrow: true, cell: |_, _, row| place(row.frontier) },
    Column { name: "end", width: 8, right: true, narrow: false, cell: |_, _, row| place(row.end) },
    Column { name: "lag", width: 6, right: true, narrow: true, cell: |frame, _, row| lag(frame, row) },
    Column { name: "above", width: 6, right: true, narrow: false, cell: |f, _, row| figure(f, row.finished_above) },
    Column { name: "running", width: 7, right: true, narrow: true, cell: |f, _, row| figure(f, row.running as u64) },
    Column { name: "waiting", width: 7, right: true, narrow: true, cell: |f, _, row| figure(f, row.waiting as u64) },
    Column {
        name: " held because",
        width: 14,
        right: false,
        narrow: true,
        cell: |frame, _, row| Line::styled(format!(" {}", held(row)), frame.color(Color::Yellow)),
    },
];

fn owner(frame: &Frame<'_>, row: &PartitionRow) -> Line<'static> {
    let name = row.owner.map_or("-".to_owned(), String::from);
    Line::styled(format!("  {name}"), frame.member(row.owner).patch(BOLD))
}

fn place(offset: i64) -> Line<'static> {
    Line::from(grouped(offset.unsigned_abs()))
}

fn lag(frame: &Frame<'_>, row: &PartitionRow) -> Line<'static> {
    let lag = row.lag().unsigned_abs();
    let line = figure(frame, lag);
    if lag > MUCH { line.style(frame.color(Color::Yellow)) } else { line }
}

/// A number; none is no more than a dot.
fn figure(frame: &Frame<'_>, number: u64) -> Line<'static> {
    match number {
        0 => Line::styled("·", frame.faint()),
        _ => Line::from(grouped(number)),
    }
}

fn held(row: &PartitionRow) -> &'static str {
    match row.held {
        Some(HoldReason::Bytes) => "memory full",
        Some(HoldReason::DeadLetter) => "dead letters",
        Some(HoldReason::Draining) => "draining",
        Some(HoldReason::Paused) => "paused",
        Some(HoldReason::Lease) => "no coordinator",
        Some(HoldReason::MapFull) => "commit map full",
        Some(HoldReason::Delayed) => "delayed",
        Some(HoldReason::Breaker) => "breaker open",
        Some(HoldReason::RateLimit) => "rate limit",
        None if row.owner.is_none() => "moves",
        None => "",
    }
}

fn draw_events(frame: &Frame<'_>, area: &mut ratatui::Frame<'_>, at: Rect) {
    let block = Block::new().borders(Borders::TOP).title(" events ").border_style(frame.faint());
    let room = usize::from(block.inner(at).height);
    let lines: Vec<Line<'_>> = choose(&frame.view.events, room).into_iter().map(|event| told(frame, event)).collect();
    area.render_widget(Paragraph::new(lines).block(block), at);
}

/// The latest events, in order. The last few about the group stay even when retries crowd in.
fn choose(events: &[Told], room: usize) -> Vec<&Told> {
    let stays = |event: &&Told| event.kind != Kind::Retry;
    let kept = events.iter().filter(stays).count().min(room / 2);
    let first_kept = events.iter().enumerate().filter(|(_, e)| stays(e)).map(|(at, _)| at).rev().take(kept).last();
    let mut chosen: Vec<usize> = Vec::new();
    if let Some(first) = first_kept {
        chosen.extend((first..events.len()).filter(|at| events[*at].kind != Kind::Retry));
    }
    let more = (0..events.len()).rev().filter(|at| !chosen.contains(at)).take(room.saturating_sub(chosen.len()));
    let more: Vec<usize> = more.collect();
    chosen.extend(more);
    chosen.sort_unstable();
    chosen.into_iter().map(|at| &events[at]).collect()
}

fn told<'a>(frame: &Frame<'_>, event: &'a Told) -> Line<'a> {
    let style = match event.kind {
        Kind::Group => Style::new(),
        Kind::Retry => frame.faint(),
        Kind::DeadLetter => frame.color(Color::Red),
        Kind::Trouble => frame.color(Color::Red).patch(BOLD),
    };
    Line::from(vec![
        Span::styled(format!(" {:>6.1} s  ", event.at.as_secs_f64()), frame.faint()),
        Span::styled(format!("{} ", event.member), frame.member(Some(event.member)).patch(BOLD)),
        Span::styled(event.text.as_str(), style),
    ])
}
