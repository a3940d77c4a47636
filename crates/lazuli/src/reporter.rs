//! Progress: turns [`Event`]s into a spinner and a line per step for a person, plain lines for a CI
//! log, or JSON events for a program.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use lazuli_release::event::{Event, Outcome, Reporter};

use crate::printer::{BAD, CAUTION, DIM, GOOD, Printer, paint};

/// The reporter that fits the printer.
pub(crate) fn for_printer(printer: &Printer) -> Reporter {
    let printer = printer.clone();
    if printer.is_json() {
        return Reporter::new(move |event| printer.json(&event));
    }
    if printer.is_quiet() {
        return Reporter::new(move |event| {
            if let Event::Warning { message } = event {
                printer.error_line(warning(&message));
            }
        });
    }
    if printer.is_interactive() {
        let bars = Arc::new(Bars::new(printer));
        return Reporter::new(move |event| bars.show(event));
    }
    Reporter::new(move |event| {
        if let Some(line) = plain(&event) {
            printer.error_line(line);
        }
    })
}

/// What a log without a cursor shows: a line when a step ends, and others' output as it comes.
fn plain(event: &Event) -> Option<String> {
    Some(match event {
        Event::Finished { title, outcome, detail, elapsed_ms, .. } => {
            finished(title, *outcome, detail, *elapsed_ms)
        }
        Event::Failed { title, error, elapsed_ms, .. } => failed(title, error, *elapsed_ms),
        Event::Output { line, .. } => output(line),
        Event::Note { message } => format!("  {message}"),
        Event::Warning { message } => warning(message),
        _ => return None,
    })
}

fn finished(title: &str, outcome: Outcome, detail: &str, elapsed_ms: u64) -> String {
    let mark = match outcome {
        Outcome::Done => paint(GOOD, "✓"),
        Outcome::Unchanged => paint(DIM, "="),
        Outcome::Skipped => paint(DIM, "-"),
    };
    let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
    format!("{mark} {title}{detail} {}", paint(DIM, format_args!("({})", duration(elapsed_ms))))
}

fn failed(title: &str, error: &str, elapsed_ms: u64) -> String {
    let after = paint(DIM, format_args!("({})", duration(elapsed_ms)));
    format!("{} {title}: {error} {after}", paint(BAD, "✗"))
}

fn output(line: &str) -> String {
    paint(DIM, format_args!("  │ {line}"))
}

fn warning(message: &str) -> String {
    format!("{} {message}", paint(CAUTION, "warning:"))
}

/// `850 ms`, `2.4 s`, `1 min 05 s`.
pub(crate) fn duration(millis: u64) -> String {
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..60_000 => format!("{}.{} s", millis / 1_000, millis % 1_000 / 100),
        _ => format!("{} min {:02} s", millis / 60_000, millis % 60_000 / 1_000),
    }
}

/// A spinner per open step; when a step ends, its spinner gives way to a line that stays.
struct Bars {
    printer: Printer,
    multi: MultiProgress,
    open: Mutex<HashMap<String, ProgressBar>>,
}

impl Bars {
    fn new(printer: Printer) -> Self {
        let multi = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(12));
        Self { printer, multi, open: Mutex::default() }
    }

    fn show(&self, event: Event) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Started { step, title } => {
                let bar = self.multi.add(ProgressBar::new_spinner());
                bar.set_style(spinner());
                bar.set_prefix(title);
                bar.enable_steady_tick(Duration::from_millis(100));
                open.insert(step, bar);
            }
            Event::Progress { step, message } => {
                if let Some(bar) = open.get(&step) {
                    bar.set_message(message);
                }
            }
            Event::Measured { step, done, total } => {
                if let Some(bar) = open.get(&step) {
                    if bar.length() != Some(total) {
                        bar.set_length(total);
                        bar.set_style(gauge());
                    }
                    bar.set_position(done);
                }
            }
            Event::Finished { ref step, .. } | Event::Failed { ref step, .. } => {
                if let Some(bar) = open.remove(step) {
                    bar.finish_and_clear();
                    self.multi.remove(&bar);
                }
                self.line(&event);
            }
            _ => self.line(&event),
        }
    }

    /// Prints above the spinners.
    fn line(&self, event: &Event) {
        if let Some(line) = plain(event) {
            self.multi.suspend(|| self.printer.error_line(line));
        }
    }
}

fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("{spinner:.cyan} {prefix} {wide_msg:.dim} {elapsed:.dim}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
        .tick_strings(&["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏", " "])
}

fn gauge() -> ProgressStyle {
    ProgressStyle::with_template(
        "{spinner:.cyan} {prefix} [{bar:24.cyan}] {percent}% {wide_msg:.dim}",
    )
    .unwrap_or_else(|_| ProgressStyle::default_bar())
    .progress_chars("━╸─")
    .tick_strings(&["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏", " "])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(duration(0), "0 ms");
        assert_eq!(duration(999), "999 ms");
        assert_eq!(duration(2_449), "2.4 s");
        assert_eq!(duration(65_000), "1 min 05 s");
    }

    #[test]
    fn a_log_has_no_line_for_what_will_change_again() {
        let event = Event::Progress { step: "swap".into(), message: "warming up".into() };
        assert_eq!(plain(&event), None);
    }
}
