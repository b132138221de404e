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
use super::words::{grouped, minutes};

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

/// Draws.
pub(super) fn draw(frame: &Frame<'_>, area: &mut ratatui::Frame<'_>) {
    let rows = u16::try_from(frame.view.partitions.len()).unwrap_or(0);
    let parts = [
        Constraint::Length(2),
        Constraint::Length(5),
        Constraint::Length(rows + 3),
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
        Act::Producing => " q or Ctrl-C: end in order, with the audit; again: stop at once",
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
    area.render_widget(Paragraph::new(seed).alignment(Alignment::Right), Rect { height: 1, ..at });
}

fn draw_figures(frame: &Frame<'_>, area: &mut ratatui::Frame<'_>, at: Rect) {
    let view = frame.view;
    let block = Block::new().borders(Borders::TOP).title(" orders ").border_style(frame.faint());
    let inner = block.inner(at);
    area.render_widget(block, at);
    let [left, right] = Layout::horizontal([Constraint::Length(56), Constraint::Min(0)]).areas(inner);
    let pair = |name: &str, number: u64, style: Style| {
        [Span::styled(format!(" {name:<12}"), frame.faint()), Span::styled(format!("{:>8}", grouped(number)), style)]
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
    draw_history(frame, area, right);
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
    let rows = frame.view.partitions.iter().enumerate().map(|(number, row)| partition(frame, number, row));
    let names = Row::new(vec![
        Line::from(" #"),
        Line::from("owner"),
        Line::from("frontier").right_aligned(),
        Line::from("end").right_aligned(),
        Line::from("lag").right_aligned(),
        Line::from("above").right_aligned(),
        Line::from("running").right_aligned(),
        Line::from("waiting").right_aligned(),
        Line::from(" held because"),
    ]);
    let widths = [3, 5, 8, 8, 6, 6, 7, 7, 14].map(Constraint::Length);
    let table = Table::new(rows, widths).header(names.style(frame.faint())).block(block);
    area.render_widget(table, at);
}

fn partition<'a>(frame: &Frame<'_>, number: usize, row: &PartitionRow) -> Row<'a> {
    let figure = |number: u64, style: Style| {
        let text = if number == 0 { "·".to_owned() } else { grouped(number) };
        Line::styled(text, if number == 0 { frame.faint() } else { style }).right_aligned()
    };
    let owner = row.owner.map_or("-".to_owned(), String::from);
    let lag = row.lag().unsigned_abs();
    Row::new(vec![
        Line::from(format!(" {number}")),
        Line::styled(format!("  {owner}"), frame.member(row.owner).patch(BOLD)),
        Line::from(grouped(row.frontier.unsigned_abs())).right_aligned(),
        Line::from(grouped(row.end.unsigned_abs())).right_aligned(),
        figure(lag, if lag > 1000 { frame.color(Color::Yellow) } else { Style::new() }),
        figure(row.finished_above, Style::new()),
        figure(row.running as u64, Style::new()),
        figure(row.waiting as u64, Style::new()),
        Line::styled(format!(" {}", held(row)), frame.color(Color::Yellow)),
    ])
}

fn held(row: &PartitionRow) -> &'static str {
    match row.held {
        Some(HoldReason::Bytes) => "memory full",
        Some(HoldReason::DeadLetter) => "dead letters",
        Some(HoldReason::Draining) => "draining",
        Some(HoldReason::Paused) => "paused",
        Some(HoldReason::Lease) => "no coordinator",
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
