//! Steps of the preparation: spinners on a terminal, plain lines elsewhere.

use std::cell::Cell;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// How often a running step says what it does when there is no terminal.
const NOTE_EVERY: Duration = Duration::from_secs(10);

/// The steps, several of which may run at a time.
pub struct Steps {
    terminal: Option<MultiProgress>,
}

/// A step that runs.
pub struct Step {
    name: String,
    begun: Instant,
    /// The spinner and what it spins among; nothing without a terminal.
    spinner: Option<(MultiProgress, ProgressBar)>,
    noted: Cell<Instant>,
}

impl Steps {
    /// Steps on standard error.
    #[must_use]
    pub fn new() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal().then(MultiProgress::new),
        }
    }

    /// A block of lines that is drawn anew as often as it changes; `None` without a terminal.
    #[must_use]
    pub fn block(&self) -> Option<ProgressBar> {
        let block = ProgressBar::new_spinner().with_style(style("{msg}"));
        self.terminal.as_ref().map(|terminal| terminal.add(block))
    }

    /// Lines that stay.
    pub fn say(&self, lines: &str) {
        say(self.terminal.as_ref(), lines);
    }

    /// Begins a step.
    #[must_use]
    pub fn begin(&self, name: &str) -> Step {
        let spinner = self.terminal.as_ref().map(|terminal| {
            let spinner = terminal.add(ProgressBar::new_spinner());
            spinner.set_style(style(
                "{spinner} {prefix:<11} {elapsed:>7.dim}  {wide_msg:.dim}",
            ));
            spinner.set_prefix(name.to_owned());
            spinner.enable_steady_tick(Duration::from_millis(100));
            (terminal.clone(), spinner)
        });
        if spinner.is_none() {
            eprintln!("{name} …");
        }
        let now = Instant::now();
        Step {
            name: name.to_owned(),
            begun: now,
            spinner,
            noted: Cell::new(now),
        }
    }
}

impl Step {
    /// Says what the step does at the moment.
    pub fn note(&self, text: &str) {
        if let Some((_, spinner)) = &self.spinner {
            spinner.set_message(text.to_owned());
        } else if self.noted.get().elapsed() >= NOTE_EVERY {
            self.noted.set(Instant::now());
            eprintln!("{} … {text}", self.name);
        }
    }

    /// Runs the step's work to its end and says how long it took. `detail` makes a remark of what came out.
    ///
    /// # Errors
    /// Those of the work.
    pub async fn during<T>(
        &self,
        work: impl Future<Output = anyhow::Result<T>>,
        detail: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<T> {
        let outcome = work.await;
        let (mark, remark) = match &outcome {
            Ok(value) => ("✔", detail(value)),
            Err(_) => ("✘", "failed".to_owned()),
        };
        let seconds = self.begun.elapsed().as_secs_f64();
        // what is done scrolls away like any other line; only what runs is drawn anew
        if let Some((_, spinner)) = &self.spinner {
            spinner.finish_and_clear();
        }
        let terminal = self.spinner.as_ref().map(|(terminal, _)| terminal);
        say(
            terminal,
            &format!("{mark} {:<11} {seconds:>6.1} s  {remark}", self.name),
        );
        outcome
    }
}

fn say(terminal: Option<&MultiProgress>, lines: &str) {
    match terminal {
        // a terminal that is gone needs no lines
        Some(terminal) => terminal.println(lines).unwrap_or_default(),
        None => eprintln!("{lines}"),
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates of this file are valid")
}
