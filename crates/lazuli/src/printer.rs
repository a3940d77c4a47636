//! The only place that writes to the terminal (progress bars apart, which `reporter` draws).
//!
//! Results go to standard output, everything about how they came to be goes to standard error, so
//! that `lazuli … | other` sees results alone. Colour only where somebody can see it.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};

use anstream::{AutoStream, ColorChoice};
use clap::builder::styling::{AnsiColor, Style};
use serde::Serialize;

use crate::cli::{Color, Format};
use crate::diagnostics::Failure;

/// Green: done.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default().bold();
/// Red: failed.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// Yellow: look at this.
pub(crate) const CAUTION: Style = AnsiColor::Yellow.on_default().bold();
/// Cyan: a name, an address, a command to type.
pub(crate) const NAME: Style = AnsiColor::Cyan.on_default();
/// For headings.
pub(crate) const BOLD: Style = Style::new().bold();
/// For what may be skipped.
pub(crate) const DIM: Style = Style::new().dimmed();

/// `text` in `style`; the stream strips it where colour is off.
pub(crate) fn paint(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Writes results and errors in the chosen format.
#[derive(Clone, Debug)]
pub(crate) struct Printer {
    format: Format,
    choice: ColorChoice,
    quiet: bool,
}

impl Printer {
    pub(crate) fn new(format: Format, color: Color, quiet: bool) -> Self {
        let choice = match color {
            Color::Auto => ColorChoice::Auto,
            Color::Always => ColorChoice::Always,
            Color::Never => ColorChoice::Never,
        };
        // clap's and indicatif's own output follow the same choice.
        choice.write_global();
        Self { format, choice, quiet }
    }

    /// Logging of our own code, on standard error. `RUST_LOG` refines it.
    pub(crate) fn init_logging(&self, verbose: u8) {
        let level = match verbose {
            0 => "error",
            1 => "info,hyper=warn,reqwest=warn",
            _ => "debug,hyper=info,h2=info",
        };
        let filter = tracing_subscriber::EnvFilter::try_from_default_env()
            .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
        let ansi = self.stderr_has_color();
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(ansi)
            .init();
    }

    /// Whether what goes to standard error may have colour.
    pub(crate) fn stderr_has_color(&self) -> bool {
        match self.choice {
            ColorChoice::Always | ColorChoice::AlwaysAnsi => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => AutoStream::choice(&std::io::stderr()) != ColorChoice::Never,
        }
    }

    /// Whether results are JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Whether progress is unwanted.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether a person watches standard error, so that bars and spinners make sense.
    pub(crate) fn is_interactive(&self) -> bool {
        !self.is_json()
            && !self.quiet
            && std::io::stderr().is_terminal()
            && std::env::var_os("CI").is_none()
    }

    /// How many columns the terminal has that results go to, if they go to one.
    pub(crate) fn width(&self) -> Option<usize> {
        terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| usize::from(width.0))
    }

    /// A line of the result, for people. A reader that has gone away (`| head`) is no error.
    pub(crate) fn line(&self, text: impl Display) {
        let mut out = AutoStream::new(std::io::stdout(), self.choice).lock();
        let _ = writeln!(out, "{text}");
    }

    /// Bytes of the result as they are, such as a completion script.
    pub(crate) fn raw(&self, bytes: &[u8]) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(bytes).and_then(|()| out.flush());
    }

    /// The result for programs: one JSON value on one line.
    pub(crate) fn json(&self, value: &impl Serialize) {
        let mut out = std::io::stdout().lock();
        if let Ok(text) = serde_json::to_string(value) {
            let _ = writeln!(out, "{text}");
        }
    }

    /// Prints `value` as JSON, or what `text` makes of it.
    pub(crate) fn result<T: Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) {
        if self.is_json() {
            self.json(value);
        } else {
            let text = text(value);
            if !text.is_empty() {
                self.line(text.trim_end());
            }
        }
    }

    /// A line about how things go, on standard error.
    pub(crate) fn aside(&self, text: impl Display) {
        if !self.quiet {
            self.error_line(text);
        }
    }

    /// A line on standard error whatever `--quiet` says.
    pub(crate) fn error_line(&self, text: impl Display) {
        let mut out = AutoStream::new(std::io::stderr(), self.choice).lock();
        let _ = writeln!(out, "{text}");
    }

    /// An error, with its cause and what to do about it.
    pub(crate) fn failure(&self, failure: &Failure) {
        if self.is_json() {
            self.json(&failure.as_json());
        }
        self.error_line(failure);
    }
}
