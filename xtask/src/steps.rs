//! Steps of long work: spinners on a terminal, lines elsewhere, and never a long silence.

use std::io::IsTerminal as _;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// The longest silence where there is no terminal: after it, a line says what runs.
const SILENCE: Duration = Duration::from_secs(3);

/// The steps, several of which may run at a time. Clones are the same steps.
#[derive(Clone)]
pub struct Steps(Out);

/// Where lines go.
#[derive(Clone)]
enum Out {
    Terminal(MultiProgress),
    Lines(Arc<Lines>),
}

/// A step that runs.
pub struct Step {
    name: String,
    begun: Instant,
    out: Out,
    /// The spinner; nothing without a terminal.
    spinner: Option<ProgressBar>,
}

impl Steps {
    /// Steps on standard error.
    #[must_use]
    pub fn new() -> Self {
        Self(if std::io::stderr().is_terminal() {
            Out::Terminal(MultiProgress::new())
        } else {
            Out::Lines(Lines::new())
        })
    }

    /// A block of lines that is drawn again as often as it changes; `None` without a terminal.
    #[must_use]
    pub fn block(&self) -> Option<ProgressBar> {
        let Out::Terminal(terminal) = &self.0 else {
            return None;
        };
        let block = ProgressBar::new_spinner().with_style(style("{msg}"));
        Some(terminal.add(block))
    }

    /// Lines that stay.
    pub fn say(&self, lines: &str) {
        self.0.say(lines);
    }

    /// Begins a step.
    #[must_use]
    pub fn begin(&self, name: &str) -> Step {
        let spinner = match &self.0 {
            Out::Terminal(terminal) => {
                let spinner = terminal.add(ProgressBar::new_spinner());
                spinner.set_style(style(
                    "{spinner} {prefix:<11} {elapsed:>7.dim}  {wide_msg:.dim}",
                ));
                spinner.set_prefix(name.to_owned());
                spinner.enable_steady_tick(Duration::from_millis(100));
                Some(spinner)
            }
            Out::Lines(lines) => {
                lines.running().push((name.to_owned(), String::new()));
                None
            }
        };
        Step {
            name: name.to_owned(),
            begun: Instant::now(),
            out: self.0.clone(),
            spinner,
        }
    }
}

impl Default for Steps {
    fn default() -> Self {
        Self::new()
    }
}

impl Step {
    /// Says what the step does at the moment.
    pub fn note(&self, text: &str) {
        match (&self.out, &self.spinner) {
            (_, Some(spinner)) => spinner.set_message(text.to_owned()),
            (Out::Lines(lines), None) => {
                for (name, note) in lines.running().iter_mut() {
                    if *name == self.name {
                        text.clone_into(note);
                    }
                }
            }
            (Out::Terminal(_), None) => {}
        }
    }

    /// Runs the step's work to its end and says how long it took. `detail` remarks on the result.
    ///
    /// # Errors
    /// Those of the work.
    pub async fn during<T>(
        &self,
        work: impl Future<Output = anyhow::Result<T>>,
        detail: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<T> {
        self.ended(work.await, detail)
    }

    /// As [`Step::during`], for work that has been done: says how long the step took.
    ///
    /// # Errors
    /// Those of the work.
    pub fn ended<T>(
        &self,
        outcome: anyhow::Result<T>,
        detail: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<T> {
        let (mark, remark) = match &outcome {
            Ok(value) => ("✔", detail(value)),
            Err(_) => ("✘", "failed".to_owned()),
        };
        let seconds = self.begun.elapsed().as_secs_f64();
        // what is done scrolls away like any other line; only what runs is drawn again
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
        if let Out::Lines(lines) = &self.out {
            lines.running().retain(|(name, _)| *name != self.name);
        }
        let line = format!("{mark} {:<11} {seconds:>6.1} s  {remark}", self.name);
        self.out.say(&line);
        outcome
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Out::Lines(lines) = &self.out {
            lines.running().retain(|(name, _)| *name != self.name);
        }
    }
}

impl Out {
    fn say(&self, lines: &str) {
        match self {
            // a terminal that is gone needs no lines
            Self::Terminal(terminal) => terminal.println(lines).unwrap_or_default(),
            Self::Lines(out) => out.say(lines),
        }
    }
}

/// Lines on standard error, and a thread that breaks long silences.
struct Lines {
    begun: Instant,
    spoken: Mutex<Instant>,
    /// Names of the steps that run, and what they do.
    running: Mutex<Vec<(String, String)>>,
    /// Dropped with the last of the steps, which ends the thread.
    _end: SyncSender<()>,
}

impl Lines {
    fn new() -> Arc<Self> {
        let (end, ended) = sync_channel(0);
        let now = Instant::now();
        let lines = Arc::new(Self {
            begun: now,
            spoken: Mutex::new(now),
            running: Mutex::new(Vec::new()),
            _end: end,
        });
        let watched = Arc::downgrade(&lines);
        std::thread::spawn(move || {
            let mut wait = SILENCE;
            while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                let Some(lines) = watched.upgrade() else {
                    return;
                };
                wait = lines.break_silence();
            }
        });
        lines
    }

    fn say(&self, text: &str) {
        *lock(&self.spoken) = Instant::now();
        eprintln!("{text}");
    }

    /// Says what runs if nothing was said for so long, and returns how long to wait from now.
    fn break_silence(&self) -> Duration {
        let silent = lock(&self.spoken).elapsed();
        if silent < SILENCE {
            return SILENCE - silent;
        }
        let running = self.running();
        if !running.is_empty() {
            let seconds = self.begun.elapsed().as_secs();
            let line = what_runs(seconds, &running);
            drop(running);
            self.say(&line);
        }
        SILENCE
    }

    fn running(&self) -> MutexGuard<'_, Vec<(String, String)>> {
        lock(&self.running)
    }
}

/// `  1:05  compile 57 of 287: serde · servers Kafka 4.1.1`
fn what_runs(seconds: u64, running: &[(String, String)]) -> String {
    let steps: Vec<String> = running
        .iter()
        .map(|(name, note)| format!("{name} {note}").trim().to_owned())
        .collect();
    format!(
        "  {}:{:02}  {}",
        seconds / 60,
        seconds % 60,
        steps.join(" · ")
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // what a thread that panicked has said is said
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates of this file are valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_everything_that_runs() {
        let running = [
            ("compile".to_owned(), "57 of 287: serde".to_owned()),
            ("servers".to_owned(), String::new()),
        ];
        assert_eq!(
            what_runs(65, &running),
            "  1:05  compile 57 of 287: serde · servers"
        );
    }

    #[test]
    fn silence_is_broken_only_while_a_step_runs() {
        let lines = Lines::new();
        let past = Instant::now()
            .checked_sub(SILENCE * 2)
            .expect("a clock past its start");
        *lock(&lines.spoken) = past;
        lines.break_silence();
        assert_eq!(*lock(&lines.spoken), past, "nothing runs, nothing is said");
        lines.running().push(("build".to_owned(), String::new()));
        lines.break_silence();
        assert_ne!(*lock(&lines.spoken), past);
    }
}
