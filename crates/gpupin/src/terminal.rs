//! The two output streams, and what each can show.
//!
//! Data goes to [`Terminal::out`]; everything else is said through the other functions and goes to
//! the error stream. A reader who closes the pipe early (`gpupin scan | head`) has seen enough: from
//! then on output is dropped in silence and the exit code stays what it would have been.

use std::{
    io::{self, BufWriter, IsTerminal as _, Stderr, Stdout, Write},
    time::{Duration, Instant},
};

use annotate_snippets::{
    normalize_untrusted_str,
    renderer::{AnsiColor, DEFAULT_TERM_WIDTH, Effects, Style},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use crate::failure::{Exit, Failure, Part};

/// How much is said, and with which means.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Appearance {
    /// Colour the output
    ///
    /// `auto` colours what goes to a terminal, unless `NO_COLOR` is set or `TERM` is `dumb`.
    /// `CLICOLOR_FORCE` counts as `always`. Nothing is told by colour alone.
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t)]
    pub(crate) color: When,

    /// Say nothing on standard error but errors
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Say more on standard error: files used, syntax errors, times
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum When {
    #[default]
    Auto,
    Always,
    Never,
}

/// Where a command talks.
pub(crate) struct Terminal {
    out: BufWriter<Pipe<Stdout>>,
    err: Stderr,
    width: usize,
    /// Whether standard output, and standard error, show colours.
    out_colour: bool,
    err_colour: bool,
    volume: Volume,
    progress: Progress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Volume {
    Quiet,
    Normal,
    Verbose,
}

pub(crate) const ERROR: Style = AnsiColor::BrightRed.on_default().effects(Effects::BOLD);
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default().effects(Effects::BOLD);
pub(crate) const NOTE: Style = AnsiColor::BrightGreen.on_default().effects(Effects::BOLD);
pub(crate) const BOLD: Style = Style::new().effects(Effects::BOLD);
pub(crate) const DIM: Style = Style::new().effects(Effects::DIMMED);

impl Terminal {
    pub(crate) fn of_process(appearance: &Appearance) -> Self {
        let colour = |is_terminal| match appearance.color {
            When::Always => true,
            When::Never => false,
            When::Auto => automatic_colour(is_terminal, |name| std::env::var(name).ok()),
        };
        let volume = match (appearance.quiet, appearance.verbose) {
            (true, _) => Volume::Quiet,
            (_, true) => Volume::Verbose,
            _ => Volume::Normal,
        };
        let (out, err) = (io::stdout(), io::stderr());
        // Shells know the width, and tell it when the user exports it.
        let columns = std::env::var("COLUMNS").ok().and_then(|it| it.parse().ok());
        let shows_progress = err.is_terminal() && volume > Volume::Quiet;
        Self {
            out_colour: colour(out.is_terminal()),
            err_colour: colour(err.is_terminal()),
            out: BufWriter::with_capacity(64 * 1024, Pipe { to: out, closed: false }),
            progress: Progress { on: shows_progress, started: Instant::now(), shown: None },
            err,
            width: columns.filter(|it| *it >= 40).unwrap_or(DEFAULT_TERM_WIDTH),
            volume,
        }
    }

    /// Standard output, for data.
    pub(crate) fn out(&mut self) -> &mut dyn Write {
        &mut self.out
    }

    /// Shows what was written so far, and waits before more is; `false` as soon as nobody reads it any more.
    ///
    /// An error is told once: what could not be written is dropped.
    pub(crate) fn pause(&mut self, time: Duration) -> io::Result<bool> {
        if let Err(error) = self.out.flush() {
            self.out.get_mut().closed = true;
            return Err(error);
        }
        let end = Instant::now() + time;
        while !self.out.get_ref().closed {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).ok();
            let out = &self.out.get_ref().to;
            // Whoever asks for nothing is told of an end all the same. A file has none.
            let mut out = [PollFd::new(out, PollFlags::empty())];
            match poll(&mut out, timeout.as_ref()) {
                Ok(0) => return Ok(true),
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }

    /// Whether standard output shows colours.
    pub(crate) fn has_colour(&self) -> bool {
        self.out_colour
    }

    /// The columns to fill.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Something that went wrong but does not end the command.
    pub(crate) fn error(&mut self, text: &str) {
        self.say(ERROR, "error", text);
    }

    pub(crate) fn warning(&mut self, text: &str) {
        if self.volume > Volume::Quiet {
            self.say(WARNING, "warning", text);
        }
    }

    /// What became of the command, beside its data.
    pub(crate) fn status(&mut self, text: &str) {
        if self.volume > Volume::Quiet {
            self.line(text);
        }
    }

    /// Asks something; the answer is typed behind it.
    pub(crate) fn question(&mut self, text: &str) {
        drop(write!(self.err, "{text}").and_then(|()| self.err.flush()));
    }

    pub(crate) fn is_verbose(&self) -> bool {
        self.volume == Volume::Verbose
    }

    /// Details for who wants to know what happened.
    pub(crate) fn verbose(&mut self, text: impl FnOnce() -> String) {
        if self.is_verbose() {
            let text = text();
            self.say(DIM, "verbose", &text);
        }
    }

    pub(crate) fn failure(&mut self, failure: &Failure) {
        let mut previous = Part::Error;
        for (part, text) in failure.lines() {
            match part {
                Part::Error => self.say(ERROR, "error", &text),
                Part::Cause => self.line(&format!("  cause: {}", text.replace('\n', "\n  "))),
                Part::Hint => {
                    if previous != Part::Hint {
                        self.line("");
                    }
                    self.say(NOTE, "hint", &text);
                }
            }
            previous = part;
        }
    }

    /// Shows how far long work is, on a terminal. Short work shows nothing.
    pub(crate) fn progress(&mut self, text: impl FnOnce() -> String) {
        const PATIENCE: Duration = Duration::from_millis(500);
        const PACE: Duration = Duration::from_millis(100);
        let progress = &mut self.progress;
        let due = match progress.shown {
            None => progress.started.elapsed() > PATIENCE,
            Some(last) => last.elapsed() > PACE,
        };
        if progress.on && due {
            progress.shown = Some(Instant::now());
            // `\x1b[K` clears what a longer text left.
            drop(write!(self.err, "\r{}\x1b[K", text()));
        }
    }

    /// Writes out what is left. A full disk is an error, even at the last byte.
    pub(crate) fn finish(&mut self, exit: Exit) -> Exit {
        self.clear_progress();
        if let Err(error) = self.out.flush() {
            self.error(&format!("failed to write output: {error}"));
            return Exit::Failed;
        }
        exit
    }

    fn say(&mut self, style: Style, label: &str, text: &str) {
        let (start, end) = if self.err_colour { (style, style) } else { <_>::default() };
        self.line(&format!("{start}{label}{end:#}: {text}"));
    }

    fn line(&mut self, text: &str) {
        self.clear_progress();
        // What was printed before stays before, also when both streams go to one terminal. An error
        // shows up again at the end.
        drop(self.out.flush());
        // Nobody is left to tell that standard error cannot be written.
        drop(writeln!(self.err, "{text}"));
    }

    fn clear_progress(&mut self) {
        if self.progress.shown.take().is_some() {
            drop(write!(self.err, "\r\x1b[K"));
        }
    }
}

/// A text that others wrote, such as a file name, so that it neither breaks its line nor controls the terminal.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        // Some readers of lines take these two for line ends as well.
        if character.is_control() || matches!(character, '\u{2028}' | '\u{2029}') {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    // What changes the direction of the text behind it.
    normalize_untrusted_str(&line)
}

/// At most so many characters, the last of them `…` where some are left out.
pub(crate) fn shortened(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        None => text.to_owned(),
        Some(_) => text.chars().take(characters.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// <https://no-color.org> and <https://bixense.com/clicolors>, in this order.
fn automatic_colour(is_terminal: bool, variable: impl Fn(&str) -> Option<String>) -> bool {
    let is_set = |name| variable(name).is_some_and(|it| !it.is_empty());
    if is_set("NO_COLOR") {
        return false;
    }
    if variable("CLICOLOR_FORCE").is_some_and(|it| !it.is_empty() && it != "0") {
        return true;
    }
    is_terminal && variable("TERM").is_none_or(|it| it != "dumb")
}

struct Progress {
    on: bool,
    started: Instant,
    shown: Option<Instant>,
}

/// Drops what is written to a pipe that nobody reads any more.
struct Pipe<W> {
    to: W,
    closed: bool,
}

impl<W> Pipe<W> {
    fn unless_closed<T>(
        &mut self,
        dropped: T,
        write: impl FnOnce(&mut W) -> io::Result<T>,
    ) -> io::Result<T> {
        if self.closed {
            return Ok(dropped);
        }
        match write(&mut self.to) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(dropped)
            }
            result => result,
        }
    }
}

impl<W: Write> Write for Pipe<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.unless_closed(bytes.len(), |to| to.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.unless_closed((), Write::flush)
    }
}

#[cfg(test)]
mod tests {
    use super::{automatic_colour, one_line};

    #[test]
    fn no_text_breaks_its_line() {
        for (text, expected) in [
            ("plain ü.py", "plain ü.py"),
            ("a\nb\r\t.py", r"a\nb\r\t.py"),
            ("\u{1b}[31m\u{85}\u{2028}", r"\u{1b}[31m\u{85}\u{2028}"),
            ("a\u{202e}b", "a\u{fffd}b"),
        ] {
            assert_eq!(one_line(text), expected);
        }
    }

    #[test]
    fn colour_follows_terminal_and_environment() {
        for (is_terminal, variables, expected) in [
            (true, &[][..], true),
            (false, &[], false),
            (true, &[("NO_COLOR", "1")], false),
            (true, &[("NO_COLOR", "")], true),
            (true, &[("TERM", "dumb")], false),
            (false, &[("CLICOLOR_FORCE", "1")], true),
            (false, &[("CLICOLOR_FORCE", "0")], false),
            (true, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false),
        ] {
            let variable =
                |name: &str| variables.iter().find(|it| it.0 == name).map(|it| it.1.to_owned());
            assert_eq!(automatic_colour(is_terminal, variable), expected, "{variables:?}");
        }
    }
}
