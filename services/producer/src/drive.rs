//! The open loop: each record goes out when it is due, whether or not the brokers keep up.
//!
//! A slow broker fills the queue, a full queue makes the loop wait, and the schedule lag grows; the
//! schedule itself does not move, so the lag is what a client of the offered load would have seen.

use std::time::{Duration, Instant};

use crate::feed::{Feed, Item, Next};
use crate::kafka::{Refused, Sender};
use crate::metrics::Metrics;
use crate::progress::Progress;
use crate::record::Record;
use crate::replay::Outcome;
use crate::replay::account::Account;
use crate::replay::doubts::Doubts;
use crate::replay::hit::Miss;
use crate::stop::Stop;
use crate::summary::Summary;

/// How long to leave a full queue alone: a few of its batches.
const QUEUE_PAUSE: Duration = Duration::from_millis(2);

/// How long to wait for lines before progress is due.
const PATIENCE: Duration = Duration::from_millis(100);

/// What a run needs beside its feed.
pub struct Drive<'a> {
    /// Where records go.
    pub sender: &'a Sender,
    /// What is counted.
    pub metrics: &'a Metrics,
    /// Ends the run early.
    pub stop: &'a Stop,
    /// What a person sees meanwhile.
    pub progress: Progress,
    /// Whether due times are kept; otherwise everything goes out as fast as it can.
    pub paced: bool,
    /// How long to wait at the end for acknowledgements, and how long after a signal.
    pub patience: EndPatience,
}

/// How long the end of a run may take.
#[derive(Clone, Copy, Debug)]
pub struct EndPatience {
    /// After the last record.
    pub finished: Duration,
    /// After a signal: shorter than the time in which a supervisor loses patience.
    pub interrupted: Duration,
}

impl Drive<'_> {
    /// Sends everything the feed has, waits for the acknowledgements, and gives the account.
    pub fn run(mut self, mut feed: Feed) -> Summary {
        let start = Instant::now();
        let mut max_lag = Duration::ZERO;
        let mut account = Account::default();
        let mut doubts = Doubts::default();
        let mut copies = None;
        let mut error = None;
        while error.is_none() && !self.stop.is_stopped() {
            let item = match feed.next(PATIENCE) {
                Next::Item(item) => item,
                Next::Pending => {
                    self.progress.tick(self.metrics, Duration::ZERO);
                    error = self.sender.fatal_error();
                    continue;
                }
                Next::End => break,
            };
            if let Item::Ends {
                doubts: last,
                copies: found,
                ..
            } = &item
            {
                doubts = last.clone();
                copies = found.clone();
            }
            let record = match self.account(item, &mut account) {
                Ok(Some(record)) => record,
                Ok(None) => continue,
                Err(broken) => {
                    error = Some(broken);
                    break;
                }
            };
            if !self.wait_until_due(&record, start) {
                break;
            }
            let sent = self.enqueue(&record, start);
            let lag = if self.paced {
                start.elapsed().saturating_sub(record.due)
            } else {
                Duration::ZERO
            };
            max_lag = max_lag.max(lag);
            self.metrics.schedule_lag.set(lag.as_secs_f64());
            self.progress.tick(self.metrics, lag);
            match sent {
                Ok(true) => {}
                Ok(false) => break,
                Err(fatal) => error = Some(fatal),
            }
        }
        drop(feed);
        let interrupted = self.stop.is_stopped();
        self.settle();
        let mut summary = Summary::take(self.metrics, max_lag, start.elapsed());
        summary.interrupted = interrupted;
        summary.reasons = account.reasons();
        // what a signal cut short may have understood the rest
        summary.not_understood = doubts
            .behind(account.not_understood())
            .filter(|_| !interrupted);
        summary.note = doubts.note();
        summary.copies = copies;
        summary.error = error.or_else(|| self.sender.last_failure().filter(|_| summary.failed > 0));
        self.progress.finish();
        summary
    }

    /// Counts the item; what is left is a record to send.
    fn account(&self, item: Item, account: &mut Account) -> Result<Option<Record>, String> {
        match item {
            Item::Generated(record) => return Ok(Some(record)),
            Item::Broken(error) => {
                let source = std::error::Error::source(&error)
                    .map_or_else(String::new, |source| format!(": {source}"));
                return Err(format!("{error}{source}"));
            }
            Item::Begins { input, looks } => account.begin(&input, &looks),
            Item::Ends {
                beyond_memory: 0, ..
            } => {}
            Item::Ends { beyond_memory, .. } => tracing::warn!(
                lines = beyond_memory,
                "lines go back in time by more lines than are remembered: where one of them equals a line before, both count as one"
            ),
            Item::Withheld { input, number } => {
                account.line(&input, number, None);
                self.metrics.lines_replayed.inc();
            }
            Item::Line {
                input,
                number,
                outcome: Outcome::Event(record),
            } => {
                account.line(&input, number, None);
                self.metrics.lines_replayed.inc();
                return Ok(Some(record));
            }
            Item::Line {
                input,
                number,
                outcome: Outcome::Miss(miss),
            } => {
                account.line(&input, number, Some(miss));
                match miss {
                    Miss::Unparsable(_) => self.metrics.lines_unparsable.inc(),
                    Miss::Skipped(_) => self.metrics.lines_skipped.inc(),
                }
            }
        }
        Ok(None)
    }

    /// Waits until the record is due; `false` when the end came first.
    fn wait_until_due(&mut self, record: &Record, start: Instant) -> bool {
        if !self.paced {
            return true;
        }
        loop {
            let left = record.due.saturating_sub(start.elapsed());
            if left.is_zero() {
                return true;
            }
            if !self.stop.wait(left.min(PATIENCE)) {
                return false;
            }
            self.progress.tick(self.metrics, Duration::ZERO);
        }
    }

    /// Puts the record into the queue, waiting for room; `false` when the end came first.
    fn enqueue(&mut self, record: &Record, start: Instant) -> Result<bool, String> {
        loop {
            match self.sender.send(record) {
                Ok(()) => {
                    self.metrics.sent[record.kind.index()].inc();
                    self.metrics
                        .sent_bytes
                        .inc_by((record.key.len() + record.payload.len()) as u64);
                    return Ok(true);
                }
                Err(Refused::QueueFull) => {
                    let lag = if self.paced {
                        start.elapsed().saturating_sub(record.due)
                    } else {
                        Duration::ZERO
                    };
                    self.metrics.schedule_lag.set(lag.as_secs_f64());
                    self.progress.tick(self.metrics, lag);
                    if !self.stop.wait(QUEUE_PAUSE) {
                        return Ok(false);
                    }
                }
                Err(Refused::Record(error)) => {
                    self.metrics.sent[record.kind.index()].inc();
                    self.metrics.failed.inc();
                    if let Some(fatal) = self.sender.fatal_error() {
                        return Err(fatal);
                    }
                    tracing::error!(%error, bytes = record.payload.len(), "record refused by the kafka client");
                    return Ok(true);
                }
            }
        }
    }

    /// Waits until every record is acknowledged or has failed; gives up what is left at the end of
    /// patience.
    fn settle(&mut self) {
        let begun = Instant::now();
        let mut interrupted = self.stop.is_stopped().then_some(begun);
        while self.metrics.open() > 0 {
            let over = begun.elapsed() >= self.patience.finished
                || interrupted.is_some_and(|since| since.elapsed() >= self.patience.interrupted);
            if over || self.sender.fatal_error().is_some() {
                tracing::error!(
                    records = self.metrics.open(),
                    "giving up on records that nobody acknowledged"
                );
                self.sender.give_up();
                return;
            }
            let pause = Duration::from_millis(5);
            if interrupted.is_some() {
                // the stop no longer waits: it has been used up
                std::thread::park_timeout(pause);
            } else if !self.stop.wait(pause) {
                interrupted = Some(Instant::now());
            }
            self.progress.tick(self.metrics, Duration::ZERO);
        }
    }
}
