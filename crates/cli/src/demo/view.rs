//! The live view: rates, lag and fill in the terminal, or plain lines where there is none.

use std::io::{IsTerminal, Stdout, stdout};
use std::time::{Duration, Instant};

use ratatui::backend::CrosstermBackend;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Gauge, Paragraph, Row, Table};
use ratatui::{Frame, Terminal, TerminalOptions, Viewport};

use crate::exit::say;

/// Height of the live view in lines.
const HEIGHT: u16 = 13;
/// Events in the channel at which the fill bar is full: what a second or two of input is.
const FULL: f64 = 50_000.0;

/// What is seen at one moment. `None`: the process is away.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    pub(super) elapsed: Duration,
    pub(super) posted: u64,
    pub(super) refused: u64,
    pub(super) tailed: Option<u64>,
    pub(super) shipped: Option<u64>,
    pub(super) waiting: Option<u64>,
    pub(super) written: Option<u64>,
    pub(super) counted: u64,
    pub(super) in_topic: u64,
}

/// Shows the demo as it goes.
pub(super) struct View {
    terminal: Option<Terminal<CrosstermBackend<Stdout>>>,
    step: String,
    length: Duration,
    last: Figures,
    rates: Figures,
    measured: Instant,
    said: Instant,
}

impl View {
    /// A live view on a terminal, unless `plain`.
    pub(super) fn new(plain: bool, length: Duration) -> anyhow::Result<Self> {
        let terminal = if plain || !stdout().is_terminal() {
            None
        } else {
            let options = TerminalOptions {
                viewport: Viewport::Inline(HEIGHT),
            };
            Terminal::with_options(CrosstermBackend::new(stdout()), options).ok()
        };
        let now = Instant::now();
        Ok(Self {
            terminal,
            step: String::new(),
            length,
            last: Figures::default(),
            rates: Figures::default(),
            measured: now,
            said: now,
        })
    }

    /// Says what happens now.
    pub(super) fn step(&mut self, text: &str) -> anyhow::Result<()> {
        self.step = text.to_owned();
        if self.terminal.is_none() {
            say(&format!("- {text}"))?;
        }
        Ok(())
    }

    /// Shows the figures of this moment.
    pub(super) fn show(&mut self, figures: &Figures) -> anyhow::Result<()> {
        let seconds = self.measured.elapsed().as_secs_f64();
        if seconds >= 1.0 {
            let rate = |now: u64, before: u64| (now.saturating_sub(before) as f64 / seconds) as u64;
            let optional =
                |now: Option<u64>, before: Option<u64>| Some(rate(now?, before.unwrap_or(0)));
            self.rates = Figures {
                posted: rate(figures.posted, self.last.posted),
                tailed: optional(figures.tailed, self.last.tailed),
                shipped: optional(figures.shipped, self.last.shipped),
                written: optional(figures.written, self.last.written),
                counted: rate(figures.counted, self.last.counted),
                in_topic: rate(figures.in_topic, self.last.in_topic),
                ..Figures::default()
            };
            self.last = figures.clone();
            self.measured = Instant::now();
        }
        let (step, length, rates) = (self.step.clone(), self.length, self.rates.clone());
        match &mut self.terminal {
            Some(terminal) => {
                terminal.draw(|frame| draw(frame, &step, length, figures, &rates))?;
            }
            None if self.said.elapsed() > Duration::from_secs(2) => {
                self.said = Instant::now();
                say(&plain(figures))?;
            }
            None => {}
        }
        Ok(())
    }

    /// Leaves the last picture on the screen and the cursor below it.
    pub(super) fn close(&mut self) {
        if let Some(mut terminal) = self.terminal.take() {
            let below = terminal.get_frame().area().bottom().saturating_sub(1);
            drop(terminal.set_cursor_position((0, below)));
            drop(terminal.show_cursor());
        }
        drop(say(""));
    }
}

fn number(value: Option<u64>) -> String {
    value.map_or("away".to_owned(), |value| value.to_string())
}

fn plain(figures: &Figures) -> String {
    format!(
        "  {:>3} s  posted {}  tailed {}  in channel {}  in topic {}  files {}  counter {} (lag {})",
        figures.elapsed.as_secs(),
        figures.posted,
        number(figures.tailed),
        number(figures.waiting),
        figures.in_topic,
        number(figures.written),
        figures.counted,
        figures.in_topic.saturating_sub(figures.counted)
    )
}

fn draw(frame: &mut Frame<'_>, step: &str, length: Duration, figures: &Figures, rates: &Figures) {
    let block = Block::bordered().title(" Flafka demo ");
    let inner = block.inner(frame.area());
    frame.render_widget(block, frame.area());
    let [head, table, fill, time] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(8),
        Constraint::Length(1),
        Constraint::Length(1),
    ])
    .areas(inner);
    let bold = Style::default().add_modifier(Modifier::BOLD);
    frame.render_widget(Paragraph::new(Line::styled(step.to_owned(), bold)), head);
    let lag = |read: Option<u64>| {
        read.map_or("-".to_owned(), |read| {
            figures.in_topic.saturating_sub(read).to_string()
        })
    };
    let row = |name: &str, total: String, rate: Option<u64>, lag: String| {
        let rate = rate.map_or("-".to_owned(), |rate| format!("{rate}/s"));
        Row::new([name.to_owned(), total, rate, lag])
    };
    let rows = [
        row(
            "log lines shipped by taildir",
            number(figures.tailed),
            rates.tailed,
            "-".to_owned(),
        ),
        row(
            "HTTP events acknowledged",
            figures.posted.to_string(),
            Some(rates.posted),
            "-".to_owned(),
        ),
        row(
            "posts sent again",
            figures.refused.to_string(),
            None,
            "-".to_owned(),
        ),
        row(
            "kafka sink, this process",
            number(figures.shipped),
            rates.shipped,
            "-".to_owned(),
        ),
        row(
            "records in the topic",
            figures.in_topic.to_string(),
            Some(rates.in_topic),
            "-".to_owned(),
        ),
        row(
            "group files",
            number(figures.written),
            rates.written,
            lag(figures.written),
        ),
        row(
            "group counter",
            figures.counted.to_string(),
            Some(rates.counted),
            lag(Some(figures.counted)),
        ),
    ];
    let widths = [
        Constraint::Length(32),
        Constraint::Length(12),
        Constraint::Length(12),
        Constraint::Length(12),
    ];
    let header =
        Row::new(["", "events", "rate", "lag"]).style(Style::default().add_modifier(Modifier::DIM));
    frame.render_widget(Table::new(rows, widths).header(header), table);
    let waiting = figures.waiting.unwrap_or(0);
    let gauge = Gauge::default()
        .ratio((waiting as f64 / FULL).min(1.0))
        .label(format!(
            "file channel: {} events waiting",
            number(figures.waiting)
        ));
    frame.render_widget(gauge, fill);
    let done = (figures.elapsed.as_secs_f64() / length.as_secs_f64().max(1.0)).min(1.0);
    let gauge = Gauge::default()
        .ratio(done)
        .label(format!("{} s", figures.elapsed.as_secs()));
    frame.render_widget(gauge, time);
}
