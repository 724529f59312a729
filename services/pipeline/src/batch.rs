//! What intake has buffered for the next flush: rows, dead letters and how far each partition got.

mod columns;
mod said;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    ops::Range,
    sync::Arc,
};

use uuid::Uuid;

pub use said::{More, Said};

use columns::ColumnPlace;

use crate::{
    decode::{Cleaned, RejectReason, Rejected, columns::PromotedColumn},
    derived::Derived,
    event::{Day, Event, EventTime, PAGE_VIEW, UserId},
    offset::{NextOffset, TopicPartition},
    watermark::EventClock,
    window::Window,
};

/// Length that stands for an absent optional text.
const ABSENT: u16 = u16::MAX;

/// One decoded event. Its record lies in the batch's arena, and its texts are places in it.
#[derive(Clone, Debug)]
pub struct Row {
    /// Where the record came from.
    pub source: TopicPartition,
    /// Its offset there.
    pub offset: i64,
    /// Which event of the record it is.
    pub index: i16,
    /// Identity, together with the day.
    pub event_id: Uuid,
    /// When it happened.
    pub event_ts: EventTime,
    /// When Kafka took it.
    pub received_at: EventTime,
    /// Start of its window.
    pub window_start: EventTime,
    /// Address of the client.
    pub ip: Option<IpAddr>,
    /// Behind the end of grace at its own offset.
    pub late: bool,
    /// Not surely new: goes through `insert .. on conflict`.
    pub suspect: bool,
    /// The database refused it, and an event with its key is stored already: a duplicate, whatever
    /// it holds.
    pub duplicate: bool,
    /// What stood in front of the record's JSON: five bytes of a schema registry, which need not be
    /// text.
    prefix: Option<[u8; 5]>,
    /// Which of its optional fields are not what the record says.
    pub cleaned: Cleaned,
    /// Entries of its properties that were left out or changed.
    pub trimmed: u32,
    payload: Text<u32>,
    user_id: Text<u16>,
    url: Text<u16>,
    referrer: Text<u16>,
    session_id: Text<u16>,
    user_agent: Text<u16>,
    event_name: Text<u16>,
    site: Text<u16>,
    properties: Option<Text<u32>>,
    /// What was derived of its fields, by its place in the batch's list.
    derived: Option<u32>,
    /// Where its columns begin in the batch's list; without columns it means nothing.
    columns: u32,
    /// A set of the signals in [`crate::bots`].
    pub bot: u8,
}

/// What was derived of an event, its texts as places in the arena.
#[derive(Copy, Clone, Debug)]
struct DerivedPlaces {
    page: Text<u16>,
    referrer_host: Text<u16>,
    campaign: [Text<u16>; 5],
}

/// A place in the arena. Starts are 32 bits wide: a batch is capped far below 4 GiB.
#[derive(Copy, Clone, Debug)]
struct Text<L> {
    start: u32,
    len: L,
}

/// A record that is no event, with its original bytes in the batch's arena.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// Where the record came from.
    pub source: TopicPartition,
    /// Its offset there.
    pub offset: i64,
    /// Which part of the record it is: 0, or a place in the array that the record holds.
    pub index: i16,
    /// When Kafka took it.
    pub received_at: EventTime,
    /// Why it was refused.
    pub reason: RejectReason,
    /// What exactly, naming the field.
    pub detail: String,
    payload: Range<usize>,
}

/// How far one partition got in this batch.
#[derive(Clone, Debug)]
pub struct Span {
    /// The position that the batch starts from: what the database must hold.
    pub from: NextOffset,
    /// The position that it reaches.
    pub to: NextOffset,
    /// Event time at `to`.
    pub clock: EventClock,
    /// Records without a value.
    pub skipped: i64,
    /// Kafka's time stamp of the last record, whatever it was; `None` when the span moves over
    /// control records only.
    pub received: Option<EventTime>,
    /// When its heartbeats were sent, in the order of the log; the first 64.
    pub heartbeats: Vec<EventTime>,
    /// Whether `to` was the end of the log when it was read, and nothing but heartbeats lies in
    /// between.
    pub at_end: bool,
    /// Whether the flush's rules are others than those of the newest anchor below: then it writes
    /// one at `from`.
    pub new_rules: bool,
}

/// The texts of a [`Row`].
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Texts<'a> {
    /// User.
    pub user_id: &'a str,
    /// Page.
    pub url: &'a str,
    /// Where the user came from.
    pub referrer: Option<&'a str>,
    /// Visit.
    pub session_id: Option<&'a str>,
    /// Browser.
    pub user_agent: Option<&'a str>,
    /// What happened; `None`: a page view.
    pub event_name: Option<&'a str>,
    /// The site, where it is known.
    pub site: Option<&'a str>,
    /// What the event says beside its fields: the text of a JSON object.
    pub properties: Option<&'a str>,
}

/// What was derived of an event's fields.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct DerivedTexts<'a> {
    /// The page, where there are rules for it.
    pub page: Option<&'a str>,
    /// Host of the referrer.
    pub referrer_host: Option<&'a str>,
    /// `utm_source`, `utm_medium`, `utm_campaign`, `utm_term`, `utm_content`.
    pub campaign: [Option<&'a str>; 5],
}

/// Where an event, or what is none, stands in the log.
#[derive(Copy, Clone, Debug)]
pub struct Place {
    /// Topic and partition.
    pub source: TopicPartition,
    /// Offset of the record there.
    pub offset: i64,
    /// Which event of the record: its place in a batch, otherwise 0.
    pub index: i16,
    /// When Kafka took it.
    pub received_at: EventTime,
}

/// What intake found out about an event.
#[derive(Copy, Clone, Debug)]
pub struct Judged {
    /// The window that holds it.
    pub window: Window,
    /// Behind the end of grace.
    pub late: bool,
    /// Not surely new.
    pub suspect: bool,
}

/// Buffered input, in the order of arrival (within a partition: log order).
#[derive(Default)]
pub struct Batch {
    /// Events.
    pub rows: Vec<Row>,
    /// Rejected records.
    pub dead_letters: Vec<DeadLetter>,
    /// One entry for each partition that the batch moves.
    pub spans: BTreeMap<TopicPartition, Span>,
    /// Records of the events as they came, and the texts that stand in them with escapes or as
    /// numbers.
    arena: String,
    /// Records that were rejected.
    payloads: Vec<u8>,
    days: Days,
    /// Windows that late events reach back to.
    late_windows: BTreeSet<EventTime>,
    /// What was derived of events; rows that have left are still in it.
    derived: Vec<DerivedPlaces>,
    /// What has columns of its own, by the rules of all events.
    promoted: Arc<[PromotedColumn]>,
    /// As many for each event as the rules have columns; rows that have left are still in it.
    columns: Vec<ColumnPlace>,
    /// Whether one of them holds a value.
    promotes: bool,
    /// Which of the values that came after the first releases events have.
    said: Said,
    identity: Identity,
}

/// How many days the events of a batch have. Most have the day of the one before.
#[derive(Default)]
struct Days {
    last: Option<Day>,
    all: BTreeSet<Day>,
}

/// Which batch, and in which state: two batches with the same identity hold the same rows in the
/// same places. An address would not do, since memory is used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The flush, counted by the engine that made it.
    flush: u64,
    /// Raised whenever a row leaves, or is written in another way.
    edition: u64,
}

impl Batch {
    /// Which batch this is; see [`Identity`].
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Which of the values that came after the first releases one of the events has, or one that
    /// has left had.
    pub fn said(&self) -> Said {
        self.said
    }

    /// Makes this the batch of a flush that no other one has the number of.
    pub fn number(&mut self, flush: u64) {
        self.identity = Identity { flush, edition: 0 };
    }

    /// Notes that an event with this row's key is stored already.
    pub fn mark_duplicate(&mut self, row: usize) {
        self.identity.edition += 1;
        self.rows[row].duplicate = true;
    }

    /// An empty batch in the memory of this one, where a quarter of it or more was filled: what is
    /// taken from the system again for each flush has to be cleared by it page by page. A smaller
    /// batch gives back what a larger one took.
    #[must_use]
    pub fn recycled(self) -> Option<Self> {
        if self.rows.len() < self.rows.capacity() / 4 {
            return None;
        }
        let Self {
            mut rows,
            mut arena,
            mut derived,
            mut columns,
            ..
        } = self;
        rows.clear();
        arena.clear();
        derived.clear();
        columns.clear();
        Some(Self {
            rows,
            arena,
            derived,
            columns,
            ..Self::default()
        })
    }

    /// Whether there is nothing at all to commit.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Bytes that the batch holds, for back-pressure: the texts, and 128 for each row (its struct
    /// and its place in indexes).
    pub fn bytes(&self) -> usize {
        self.arena.len()
            + self.payloads.len()
            + 128 * (self.rows.len() + self.dead_letters.len())
            + size_of::<DerivedPlaces>() * self.derived.len()
            + size_of::<ColumnPlace>() * self.columns.len()
    }

    /// Days of the events so far.
    pub fn days(&self) -> usize {
        self.days.all.len()
    }

    /// Windows of late events so far.
    pub fn late_windows(&self) -> usize {
        self.late_windows.len()
    }

    /// Adds an event that was decoded from `payload`: the record's value as it came, or an element
    /// of the batch in it.
    pub fn push_event(&mut self, place: Place, payload: &[u8], event: &Event<'_>, judged: Judged) {
        let (prefix, record) = match payload.split_first_chunk::<5>() {
            // no JSON begins so: the decoder took it off as well
            Some((prefix @ [0, ..], rest)) => (Some(*prefix), rest),
            _ => (None, payload),
        };
        let record = str::from_utf8(record).expect("the decoder admits UTF-8 only");
        let start = position(self.arena.len());
        self.arena.push_str(record);
        // said or not said, it is counted as the same
        let event_name = event
            .event_name
            .as_deref()
            .filter(|name| *name != PAGE_VIEW);
        let derived = event.derived.as_deref();
        let bot = derived.map_or(0, |derived| derived.bot);
        if let Some(derived) = derived {
            self.said.add(More::Page, derived.page.is_some());
            self.said
                .add(More::ReferrerHost, derived.referrer_host.is_some());
            let has_campaign = derived.campaign.iter().any(Option::is_some);
            self.said.add(More::Campaign, has_campaign);
            self.said.add(More::Bot, bot != 0);
        }
        let derived = derived.map(|derived| self.push_derived(start, record, derived));
        let columns = position(self.columns.len());
        for promoted in &event.columns {
            self.push_column(start, record, promoted);
        }
        let row = Row {
            source: place.source,
            offset: place.offset,
            index: place.index,
            event_id: event.event_id,
            event_ts: event.event_ts,
            received_at: place.received_at,
            window_start: judged.window.start,
            ip: event.ip,
            late: judged.late,
            suspect: judged.suspect,
            duplicate: false,
            prefix,
            cleaned: event.cleaned,
            trimmed: event.trimmed,
            payload: Text {
                start,
                len: position(record.len()),
            },
            user_id: match &event.user_id {
                UserId::Text(text) => self.place_text(start, record, Some(text)),
                UserId::Number(number) => {
                    self.place_text(start, record, Some(itoa::Buffer::new().format(*number)))
                }
            },
            url: self.place_text(start, record, Some(&event.url)),
            referrer: self.place_text(start, record, event.referrer.as_deref()),
            session_id: self.place_text(start, record, event.session_id.as_deref()),
            user_agent: self.place_text(start, record, event.user_agent.as_deref()),
            event_name: self.place_text(start, record, event_name),
            site: self.place_text(start, record, event.site.as_deref()),
            properties: event.properties.as_deref().map(|json| self.push_text(json)),
            derived,
            columns,
            bot,
        };
        self.said.add(More::Index, place.index != 0);
        self.said.add(More::EventName, event_name.is_some());
        self.said.add(More::Site, event.site.is_some());
        self.said.add(More::Properties, event.properties.is_some());
        self.days.count(row.day());
        if row.late {
            self.late_windows.insert(row.window_start);
        }
        self.rows.push(row);
    }

    /// Adds a rejected record.
    pub fn push_dead_letter(&mut self, place: Place, rejected: Rejected, payload: &[u8]) {
        let start = self.payloads.len();
        self.payloads.extend_from_slice(payload);
        self.dead_letters.push(DeadLetter {
            source: place.source,
            offset: place.offset,
            index: place.index,
            received_at: place.received_at,
            reason: rejected.reason,
            detail: rejected.detail.into_owned(),
            payload: start..self.payloads.len(),
        });
    }

    /// Turns an event that the database refuses for what it holds into a dead letter with the
    /// record as it came. `detail` names the constraint or the column.
    pub fn refuse(&mut self, row: usize, detail: String) {
        self.identity.edition += 1;
        let row = self.rows.remove(row);
        let start = self.payloads.len();
        let record =
            row.payload.start as usize..row.payload.start as usize + row.payload.len as usize;
        self.payloads
            .extend_from_slice(row.prefix.as_ref().map_or(&[], <[u8; 5]>::as_slice));
        self.payloads
            .extend_from_slice(self.arena[record].as_bytes());
        self.dead_letters.push(DeadLetter {
            source: row.source,
            offset: row.offset,
            index: row.index,
            received_at: row.received_at,
            reason: RejectReason::RefusedByDatabase,
            detail,
            payload: start..self.payloads.len(),
        });
    }

    /// The texts of a row of this batch.
    pub fn texts(&self, row: &Row) -> Texts<'_> {
        Texts {
            user_id: self.text(row.user_id).unwrap_or_default(),
            url: self.text(row.url).unwrap_or_default(),
            referrer: self.text(row.referrer),
            session_id: self.text(row.session_id),
            user_agent: self.text(row.user_agent),
            event_name: self.text(row.event_name),
            site: self.text(row.site),
            properties: self.properties(row),
        }
    }

    /// What a row's event says beside its fields: the text of a JSON object.
    pub fn properties(&self, row: &Row) -> Option<&str> {
        row.properties.map(|at| self.slice(at.start, at.len))
    }

    /// What was derived of a row of this batch; nothing without rules.
    pub fn derived(&self, row: &Row) -> DerivedTexts<'_> {
        let Some(at) = row.derived else {
            return DerivedTexts::default();
        };
        let places = &self.derived[at as usize];
        DerivedTexts {
            page: self.text(places.page),
            referrer_host: self.text(places.referrer_host),
            campaign: places.campaign.map(|place| self.text(place)),
        }
    }

    /// What the hit of a row is counted by: its page, or its URL where there are no rules for
    /// pages.
    pub fn page(&self, row: &Row) -> &str {
        let derived = row.derived.map(|at| self.derived[at as usize].page);
        let page = derived.and_then(|place| self.text(place));
        page.or_else(|| self.text(row.url)).unwrap_or_default()
    }

    /// The original bytes of a rejected record.
    pub fn payload(&self, letter: &DeadLetter) -> &[u8] {
        &self.payloads[letter.payload.clone()]
    }

    /// Forgets a partition: nothing of it will be written. A batch that is still growing has rows
    /// and no span yet.
    pub fn remove(&mut self, partition: TopicPartition) {
        self.identity.edition += 1;
        self.spans.remove(&partition);
        self.rows.retain(|row| row.source != partition);
        self.dead_letters
            .retain(|letter| letter.source != partition);
    }

    fn text(&self, text: Text<u16>) -> Option<&str> {
        (text.len != ABSENT).then(|| self.slice(text.start, u32::from(text.len)))
    }

    fn slice(&self, start: u32, len: u32) -> &str {
        &self.arena[start as usize..start as usize + len as usize]
    }

    fn push_derived(&mut self, start: u32, record: &str, derived: &Derived<'_>) -> u32 {
        let mut place = |text: Option<&str>| self.place_text(start, record, text);
        let places = DerivedPlaces {
            page: place(derived.page.as_deref()),
            referrer_host: place(derived.referrer_host.as_deref()),
            campaign: [0, 1, 2, 3, 4].map(|at| place(derived.campaign[at].as_deref())),
        };
        let at = position(self.derived.len());
        self.derived.push(places);
        at
    }

    /// Stores a text that stands in no record.
    fn push_text(&mut self, text: &str) -> Text<u32> {
        let start = position(self.arena.len());
        self.arena.push_str(text);
        Text {
            start,
            len: position(text.len()),
        }
    }

    /// Finds the text inside the record that was just stored at `start`, or stores it behind it.
    fn place_text(&mut self, start: u32, record: &str, text: Option<&str>) -> Text<u16> {
        let Some(text) = text else {
            return Text { start, len: ABSENT };
        };
        let len = u16::try_from(text.len())
            .ok()
            .filter(|&len| len != ABSENT)
            .expect("the decoder admits no text above 8192 bytes, and no page is much longer");
        let inside = (text.as_ptr() as usize).wrapping_sub(record.as_ptr() as usize);
        if inside < record.len() {
            return Text {
                start: start + position(inside),
                len,
            };
        }
        let start = position(self.arena.len());
        self.arena.push_str(text);
        Text { start, len }
    }
}

impl Days {
    fn count(&mut self, day: Day) {
        if self.last != Some(day) {
            self.last = Some(day);
            self.all.insert(day);
        }
    }
}

impl Row {
    /// The UTC day that the primary key holds.
    pub fn day(&self) -> Day {
        self.event_ts.day()
    }

    /// The primary key's order.
    pub fn key(&self) -> (Day, Uuid) {
        (self.day(), self.event_id)
    }

    /// Log order over all partitions: partition, offset and place in the record.
    pub fn place(&self) -> (TopicPartition, i64, i16) {
        (self.source, self.offset, self.index)
    }
}

fn position(at: usize) -> u32 {
    u32::try_from(at).expect("a batch is capped far below 4 GiB")
}

#[cfg(test)]
mod tests;
