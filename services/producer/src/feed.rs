//! Where records come from: the generator itself, or a thread that reads logs ahead of the schedule.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use crate::record::Record;
use crate::replay::input::{Input, InputError};
use crate::replay::{Format, Outcome, Replay, ReplayOptions, Skipped, Source, Unparsable};

/// Events read ahead: enough to keep sending while the disk is busy, a few hundred KiB of memory.
const READ_AHEAD: usize = 1_024;

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
        outcome: Line,
    },
    /// An input cannot be read on; nothing comes behind it.
    Broken(InputError),
}

/// What a line of a log is.
#[derive(Debug)]
pub enum Line {
    /// A click.
    Event(Record),
    /// Broken.
    Unparsable(Unparsable),
    /// No click.
    Skipped(Skipped),
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

    /// Starts to read the inputs, one after the other, in a thread of its own. The thread ends with the last
    /// input or with the feed; one that waits for standard input is left behind.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn read(
        inputs: Vec<(PathBuf, Source)>,
        format: Option<Format>,
        options: ReplayOptions,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(READ_AHEAD);
        thread::Builder::new()
            .name("log-reader".to_owned())
            .spawn(move || {
                if let Err(error) = read_all(&inputs, format, Replay::new(options), &sender) {
                    // without a receiver the run is over, and nobody is left to tell
                    let _ = sender.send(Item::Broken(error));
                }
            })?;
        Ok(Self::Read(receiver))
    }
}

fn read_all(
    inputs: &[(PathBuf, Source)],
    format: Option<Format>,
    mut replay: Replay,
    items: &SyncSender<Item>,
) -> Result<(), InputError> {
    for (path, source) in inputs {
        let name: Arc<str> = path.display().to_string().into();
        let mut gone = false;
        lines(path, source, format, &mut replay, &mut |number, outcome| {
            let outcome = match outcome {
                Outcome::Event(record) => Line::Event(record),
                Outcome::Unparsable(why) => Line::Unparsable(why),
                Outcome::Skipped(why) => Line::Skipped(why),
            };
            gone = items
                .send(Item::Line {
                    input: Arc::clone(&name),
                    number,
                    outcome,
                })
                .is_err();
            !gone
        })?;
        if gone {
            break;
        }
    }
    Ok(())
}

/// Every line of an input, until `each` has seen enough.
///
/// # Errors
/// The input cannot be read.
pub(crate) fn lines(
    path: &Path,
    source: &Source,
    format: Option<Format>,
    replay: &mut Replay,
    each: &mut dyn FnMut(u64, Outcome) -> bool,
) -> Result<(), InputError> {
    let mut input = Input::open(path, format)?;
    let mut buffer = Vec::new();
    let format = input.format();
    while let Some((number, line)) = input.next_line(&mut buffer)? {
        if !each(number, replay.line(source, format, number, &line)) {
            break;
        }
    }
    Ok(())
}
