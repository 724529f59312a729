//! What the target holds of one slice of the log: rows by key, dead letters and late events by
//! place.
//!
//! Rows are looked up by the primary key, not by their offset: that needs no further index, answers
//! at once who owns the key of a duplicate, and touches the pages that the insert of the same slice
//! touched, neighbours as they were then.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
};

use chrono::DateTime;
use clickstream_pipeline::{
    decode::{
        columns::PromotedColumn,
        properties::{ListedKeys, is_same_json},
    },
    event::{Day, Event, EventTime, PAGE_VIEW},
    offset::{TopicId, TopicPartition},
    spec::PostgresSettings,
};
use futures_util::future::try_join_all;
use tokio_postgres::{
    Client, Row, Statement,
    error::SqlState,
    types::{FromSql, ToSql, Type},
};
use uuid::Uuid;

use super::{
    admissions::{self, Admitted},
    column::{Address, Date, Instant, Json},
    days::DAYS_AT_ONCE,
    promoted::{self, Compared, TableColumns, names_behind},
};
use crate::sink::{
    columns::{Column, Table, names},
    connect,
    keys::listed,
};

/// Name of the audit's sessions. It is not the processors', which end sessions of their own name at
/// a claim.
pub const APPLICATION: &str = "clickstream-audit";

/// Identity of an event.
pub type Key = (Uuid, Day);

/// Plans for thousands of keys by nested loops into the primary keys, whatever the statistics of a
/// young table say.
const SETTINGS: &str = "set default_transaction_read_only = on; set jit = off; set enable_hashjoin = off; \
     set enable_mergejoin = off; set enable_seqscan = off; set statement_timeout = '60s'";

const LETTERS: &str = "
    select source_offset, source_index, reason, detail, payload, received_at
    from clickstream_dead_letters
    where topic = $1 and partition = $2 and source_offset >= $3 and source_offset < $4";

const LATE_KEYS: &str = "
    select late.event_id, late.event_date, topics.topic_id, late.partition, late.source_offset, late.source_index
    from unnest($1::uuid[], $2::date[]) as wanted (event_id, event_date)
    join clickstream_late_events as late on late.event_id = wanted.event_id and late.event_date = wanted.event_date
    join clickstream_topics as topics on topics.topic = late.topic";

/// A session for look-ups.
pub struct Lookup {
    client: Client,
    letters: Statement,
    late_events: Statement,
    late_keys: Statement,
    admitted: Statement,
    /// The tables' columns.
    pub columns: TableColumns,
    /// Keys of properties that are listed; `None`: the role may not read the list.
    pub keys: Option<ListedKeys>,
}

/// What to look up.
#[derive(Clone, Debug)]
pub struct Request {
    /// Kafka topic.
    pub topic: String,
    /// Kafka partition.
    pub partition: i32,
    /// The slice's offsets, for the ledgers.
    pub offsets: Range<i64>,
    /// Keys of the slice's events.
    pub keys: Vec<Key>,
    /// Those of them that are late and belong in the ledger.
    pub late_keys: Vec<Key>,
    /// Windows of which the admitted pages are needed.
    pub windows: Vec<EventTime>,
    /// Promoted columns by the slice's rules.
    pub promoted: Vec<PromotedColumn>,
}

/// What was found.
#[derive(Default, Debug)]
pub struct Stored {
    /// Rows of `clickstream_events`.
    pub rows: HashMap<Key, StoredRow>,
    /// Dead letters of the slice's offsets, by offset and place in the record.
    pub letters: BTreeMap<(i64, i16), Letter>,
    /// Late ledger of the slice's offsets, likewise.
    pub late_events: BTreeMap<(i64, i16), StoredRow>,
    /// Places of the ledger's rows with the late keys.
    pub late_keys: HashMap<Key, Place>,
    /// The promoted columns that rows have to be compared in.
    pub promoted: Vec<Compared>,
    /// Admitted pages by window.
    pub admitted: HashMap<EventTime, Admitted>,
}

/// Where a row says it comes from: partition, offset and place in the record.
pub type Place = (TopicPartition, i64, i16);

/// A row of `clickstream_events` or of the late ledger.
#[derive(Debug)]
pub struct StoredRow(Row);

/// A dead letter.
#[derive(Debug)]
pub struct Letter {
    /// Why.
    pub reason: String,
    /// What exactly.
    pub detail: String,
    /// The original bytes.
    pub payload: Vec<u8>,
    /// Kafka's time stamp.
    pub received_at: EventTime,
}

impl Lookup {
    /// Opens a session.
    ///
    /// # Errors
    /// What the server says.
    pub async fn open(settings: &PostgresSettings, schema: &str) -> anyhow::Result<Self> {
        let client = connect(settings, schema, APPLICATION).await?.client;
        client.batch_execute(SETTINGS).await?;
        let late_events = late_events_of(&[]);
        let admitted = format!(
            "select {} from clickstream_admitted_pages where window_start = any($1) and topic = $2 and partition = $3 \
             order by window_start, source_offset",
            admissions::COLUMNS
        );
        Ok(Self {
            columns: TableColumns::read(&client).await?,
            keys: match listed(&client).await {
                Ok(keys) => Some(keys),
                // an auditor whose rights were granted before there was a list
                Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => None,
                Err(error) => return Err(error.into()),
            },
            admitted: client.prepare(&admitted).await?,
            letters: client.prepare(LETTERS).await?,
            late_events: client.prepare(&late_events).await?,
            late_keys: client.prepare(LATE_KEYS).await?,
            client,
        })
    }

    /// Looks everything up, each kind in a statement of its own.
    ///
    /// # Errors
    /// What the server says.
    pub async fn fetch(&self, mut request: Request) -> Result<Stored, tokio_postgres::Error> {
        // in the order of the index
        request.keys.sort_unstable_by_key(|&(id, day)| (day, id));
        request.keys.dedup();
        let offsets: [&(dyn ToSql + Sync); 4] = [
            &request.topic,
            &request.partition,
            &request.offsets.start,
            &request.offsets.end,
        ];
        let promoted = self.columns.compared(&request.promoted);
        let (rows, letters, late_events, late_keys, admitted) = tokio::try_join!(
            self.rows(&request.keys, &promoted),
            self.client.query(&self.letters, &offsets),
            self.late_events(&offsets, &promoted),
            self.by_keys(&self.late_keys, &request.late_keys),
            self.admitted(&request),
        )?;
        let mut stored = Stored {
            promoted,
            admitted,
            ..Stored::default()
        };
        for row in rows {
            let row = StoredRow(row);
            stored.rows.insert(row.key()?, row);
        }
        for row in letters {
            let place = (row.try_get("source_offset")?, row.try_get("source_index")?);
            let letter = Letter {
                reason: row.try_get("reason")?,
                detail: row.try_get("detail")?,
                payload: row.try_get("payload")?,
                received_at: row.try_get::<_, Instant>("received_at")?.0,
            };
            stored.letters.insert(place, letter);
        }
        for row in late_events {
            let row = StoredRow(row);
            let place = (
                row.get(Column::SourceOffset)?,
                row.get(Column::SourceIndex)?,
            );
            stored.late_events.insert(place, row);
        }
        for row in late_keys {
            let day = row.try_get::<_, Date>("event_date")?.0;
            let source = TopicPartition {
                topic: TopicId(row.try_get("topic_id")?),
                partition: row.try_get("partition")?,
            };
            stored.late_keys.insert(
                (row.try_get("event_id")?, day),
                (
                    source,
                    row.try_get("source_offset")?,
                    row.try_get("source_index")?,
                ),
            );
        }
        Ok(stored)
    }

    /// Rows by keys, which are sorted by day, in statements of a bounded number of days.
    async fn rows(
        &self,
        keys: &[Key],
        promoted: &[Compared],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let days: Vec<(Day, Vec<Uuid>)> = keys
            .chunk_by(|one, next| one.1 == next.1)
            .map(|keys| (keys[0].1, keys.iter().map(|key| key.0).collect()))
            .collect();
        let of_days = async |days: &[(Day, Vec<Uuid>)]| {
            let params: Vec<(&(dyn ToSql + Sync), Type)> = days
                .iter()
                .map(|(_, ids)| (ids as &(dyn ToSql + Sync), Type::UUID_ARRAY))
                .collect();
            let sql = rows_of(days, promoted);
            self.client.query_typed(&sql, &params).await
        };
        Ok(try_join_all(days.chunks(DAYS_AT_ONCE).map(of_days))
            .await?
            .into_iter()
            .flatten()
            .collect())
    }

    /// The session, for look-ups of another kind.
    pub fn client(&self) -> &Client {
        &self.client
    }

    async fn admitted(
        &self,
        request: &Request,
    ) -> Result<HashMap<EventTime, Admitted>, tokio_postgres::Error> {
        let mut admitted: HashMap<EventTime, Admitted> = HashMap::new();
        if request.windows.is_empty() {
            return Ok(admitted);
        }
        let windows = request.windows.iter().map(|start| start.micros());
        let windows: Vec<_> = windows
            .filter_map(DateTime::from_timestamp_micros)
            .collect();
        let params: [&(dyn ToSql + Sync); 3] = [&windows, &request.topic, &request.partition];
        for row in self.client.query(&self.admitted, &params).await? {
            let start = row.try_get::<_, Instant>(0)?.0;
            admitted.entry(start).or_default().add(&row)?;
        }
        Ok(admitted)
    }

    /// The late ledger of a slice's offsets.
    async fn late_events(
        &self,
        offsets: &[&(dyn ToSql + Sync); 4],
        promoted: &[Compared],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        if promoted.is_empty() {
            return self.client.query(&self.late_events, offsets).await;
        }
        let types = [Type::TEXT, Type::INT4, Type::INT8, Type::INT8];
        let params: Vec<_> = offsets.iter().copied().zip(types).collect();
        let sql = late_events_of(promoted);
        self.client.query_typed(&sql, &params).await
    }

    async fn by_keys(
        &self,
        statement: &Statement,
        keys: &[Key],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<Uuid> = keys.iter().map(|key| key.0).collect();
        let days: Vec<_> = keys.iter().map(|key| key.1.date()).collect();
        self.client.query(statement, &[&ids, &days]).await
    }
}

impl StoredRow {
    /// The record that a row of `clickstream_events` names.
    ///
    /// # Errors
    /// A column of another type.
    pub fn place(&self) -> Result<Place, tokio_postgres::Error> {
        let source = TopicPartition {
            topic: TopicId(self.get(Column::SourceTopicId)?),
            partition: self.get(Column::SourcePartition)?,
        };
        Ok((
            source,
            self.get(Column::SourceOffset)?,
            self.get(Column::SourceIndex)?,
        ))
    }

    /// Whether a row of `clickstream_events` is marked late.
    ///
    /// # Errors
    /// A column of another type.
    pub fn is_late(&self) -> Result<bool, tokio_postgres::Error> {
        self.get(Column::IsLate)
    }

    /// The columns that do not hold what the event holds, which is at this place in its record.
    ///
    /// # Errors
    /// A column of another type.
    pub fn differing(
        &self,
        event: &Event<'_>,
        index: i16,
        received_at: EventTime,
        promoted: &[Compared],
    ) -> Result<Vec<String>, tokio_postgres::Error> {
        let mut differing = Vec::new();
        for column in Column::ALL {
            if !self.holds(column, event, index, received_at)? {
                differing.push(column.name().to_owned());
            }
        }
        differing.extend(promoted::differing(&self.0, promoted, event)?);
        Ok(differing)
    }

    /// Whether a column holds what the event holds.
    fn holds(
        &self,
        column: Column,
        event: &Event<'_>,
        index: i16,
        received_at: EventTime,
    ) -> Result<bool, tokio_postgres::Error> {
        let text = |text: Option<&str>| Ok(self.get::<Option<&str>>(column)? == text);
        let instant = |time: EventTime| Ok(self.get::<Instant>(column)?.0 == time);
        let derived = event.derived.as_deref();
        let campaign = |at: usize| text(derived.and_then(|d| d.campaign[at].as_deref()));
        match column {
            Column::EventId => Ok(self.get::<Uuid>(column)? == event.event_id),
            Column::UserId => text(Some(&*user_text(event))),
            Column::EventTs => instant(event.event_ts),
            Column::EventDate => Ok(self.get::<Date>(column)?.0 == event.event_ts.day()),
            Column::Url => text(Some(&*event.url)),
            Column::Referrer => text(event.referrer.as_deref()),
            Column::Ip => {
                let ip: Option<Address> = self.get(column)?;
                Ok(ip == event.ip.map(Address::single))
            }
            Column::ReceivedAt => instant(received_at),
            Column::SessionId => text(event.session_id.as_deref()),
            Column::UserAgent => text(event.user_agent.as_deref()),
            Column::EventName => text(Some(event.event_name.as_deref().unwrap_or(PAGE_VIEW))),
            Column::Site => text(event.site.as_deref()),
            Column::Page => text(derived.and_then(|d| d.page.as_deref())),
            Column::ReferrerHost => text(derived.and_then(|d| d.referrer_host.as_deref())),
            Column::UtmSource => campaign(0),
            Column::UtmMedium => campaign(1),
            Column::UtmCampaign => campaign(2),
            Column::UtmTerm => campaign(3),
            Column::UtmContent => campaign(4),
            Column::Bot => Ok(self.get::<i32>(column)? == derived.map_or(0, |d| d.bot.into())),
            Column::Properties => {
                let stored: Option<Json<'_>> = self.get(column)?;
                // what jsonb makes of a text is another text
                Ok(match (stored, event.properties.as_deref()) {
                    (Some(Json(stored)), Some(json)) => is_same_json(stored, json),
                    (stored, json) => stored.is_none() && json.is_none(),
                })
            }
            Column::SourceIndex => Ok(self.get::<i16>(column)? == index),
            // where a row stands and whether it is late decides which verdict it is compared with
            Column::SourceOffset
            | Column::IsLate
            | Column::SourceTopicId
            | Column::SourcePartition
            | Column::Topic
            | Column::Partition => Ok(true),
        }
    }

    /// The identity of its event.
    ///
    /// # Errors
    /// A column of another type.
    pub fn key(&self) -> Result<Key, tokio_postgres::Error> {
        let day: Date = self.get(Column::EventDate)?;
        Ok((self.get(Column::EventId)?, day.0))
    }

    /// A column that both tables have, or `clickstream_events` alone: those come first in every
    /// list.
    fn get<'r, T: FromSql<'r>>(&'r self, column: Column) -> Result<T, tokio_postgres::Error> {
        self.0.try_get(column as usize)
    }
}

/// The user as it is stored.
pub fn user_text<'e>(event: &'e Event<'_>) -> std::borrow::Cow<'e, str> {
    use clickstream_pipeline::event::UserId;
    match &event.user_id {
        UserId::Text(text) => std::borrow::Cow::Borrowed(text),
        UserId::Number(_) => std::borrow::Cow::Owned(event.user_id.to_string()),
    }
}

/// Looks the late ledger of a partition's offsets up.
fn late_events_of(promoted: &[Compared]) -> String {
    format!(
        "select {}{} from {} where topic = $1 and partition = $2 \
         and source_offset >= $3 and source_offset < $4 order by source_offset, source_index",
        names(Table::Late.columns()),
        names_behind(promoted),
        Table::Late.name()
    )
}

/// Looks the n-th day's ids, which are the n-th parameter, up. Never prepared: a plan for any day
/// would open all of them.
fn rows_of(days: &[(Day, Vec<Uuid>)], promoted: &[Compared]) -> String {
    let (table, names) = (Table::Events.name(), names(Table::Events.columns()));
    let more = names_behind(promoted);
    let of_a_day = (1..).zip(days).map(|(place, (day, _))| {
        format!(
            "select {names}{more} from {table} where event_date = '{}' and event_id = any (${place})",
            day.date()
        )
    });
    of_a_day.collect::<Vec<_>>().join(" union all ")
}
