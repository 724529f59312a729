//! Where records come from: the generator itself, or a thread that reads logs ahead of the
//! schedule.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use crate::record::Record;
use crate::replay::doubts::Doubts;
use crate::replay::input::InputError;
use crate::replay::merge::{Reading, Step};
use crate::replay::{Outcome, Replay, ReplayOptions};

/// Events read ahead: enough to keep sending while the disk is busy, a few hundred KiB of memory.
const READ_AHEAD: usize = 1_024;

/// Events that are held back until one of them has a time. If none has, nothing is sent: a pipeline
/// would reject all of it.
const SAMPLE: usize = 1_000;

/// The next thing that the schedule has to deal with.
#[derive(Debug)]
pub enum Item {
    /// A generated record.
    Generated(Record),
    /// A line of a log and what it is.
    Line {
        /// The input's name.
        input: Arc<str>,
        /// The line's number, from 1.
        number: u64,
        /// What the line is.
        outcome: Outcome,
    },
    /// An input, before its first line.
    Begins {
        /// The input's name.
        input: Arc<str>,
        /// What it looks like, and which option to use should it not be understood.
        looks: Arc<str>,
    },
    /// An event that is not sent, since no event of the run has a time.
    Withheld {
        /// The input's name.
        input: Arc<str>,
        /// The line's number, from 1.
        number: u64,
    },
    /// All lines have been read, or enough of them to see that no event has a time.
    Ends {
        /// Lines that go further back than is remembered: their ids may not tell equal ones apart.
        beyond_memory: u64,
        /// What is wrong with the events taken together.
        doubts: Doubts,
        /// What to say of inputs with the same lines.
        copies: Option<String>,
    },
    /// An input cannot be read on; nothing comes behind it.
    Broken(InputError),
}

/// What a feed answers.
#[derive(Debug)]
pub enum Next {
    /// Here is one.
    Item(Item),
    /// Nothing yet.
    Pending,
    /// Nothing more, ever.
    End,
}

/// A source of records.
pub enum Feed {
    /// Made on demand.
    Generated(Box<dyn Iterator<Item = Record> + Send>),
    /// Read by another thread.
    Read(Receiver<Item>),
}

impl Feed {
    /// The next item, waiting at most this long for it.
    pub fn next(&mut self, patience: Duration) -> Next {
        match self {
            Self::Generated(records) => records
                .next()
                .map_or(Next::End, |record| Next::Item(Item::Generated(record))),
            Self::Read(items) => match items.recv_timeout(patience) {
                Ok(item) => Next::Item(item),
                Err(RecvTimeoutError::Timeout) => Next::Pending,
                Err(RecvTimeoutError::Disconnected) => Next::End,
            },
        }
    }

    /// Starts to read the inputs, merged by time, in a thread of its own. The thread ends with the
    /// last input or with the feed; one that waits for standard input is left behind.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn read(reading: Reading, options: ReplayOptions) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(READ_AHEAD);
        thread::Builder::new()
            .name("log-reader".to_owned())
            .spawn(move || {
                if let Err(error) = read_all(&reading, &mut Replay::new(options), &sender) {
                    // without a receiver the run is over, and nobody is left to tell
                    let _ = sender.send(Item::Broken(error));
                }
            })?;
        Ok(Self::Read(receiver))
    }
}

fn read_all(
    reading: &Reading,
    replay: &mut Replay,
    items: &SyncSender<Item>,
) -> Result<(), InputError> {
    let mut sample = Vec::new();
    let read = reading.each(&mut |step| {
        let item = match step {
            Step::Begins { input, looks, .. } => Item::Begins {
                input: Arc::clone(input),
                looks: Arc::clone(looks),
            },
            Step::Line(read) => Item::Line {
                input: Arc::clone(read.input),
                number: read.number,
                outcome: replay.take(read),
            },
        };
        let is_event = matches!(&item, Item::Line { outcome, .. } if outcome.is_event());
        match replay.newest_micros() {
            None if is_event => {
                sample.push(item);
                sample.len() < SAMPLE
            }
            None => items.send(item).is_ok(),
            Some(_) => {
                let mut held = sample.drain(..);
                held.all(|held| items.send(held).is_ok()) && items.send(item).is_ok()
            }
        }
    });
    // without a receiver the run is over, and nobody is left to tell
    for item in sample {
        if let Item::Line { input, number, .. } = item {
            let _ = items.send(Item::Withheld { input, number });
        }
    }
    read?;
    let _ = items.send(Item::Ends {
        beyond_memory: replay.beyond_memory(),
        doubts: replay.doubts().clone(),
        copies: replay.copies(),
    });
    Ok(())
}

#[cfg(test)]
mod tests;
