//! The columns of an event: one table from which COPY, both INSERTs and the lists that the audit
//! reads are made.
//!
//! Names, types and order are facts about the schema, and all code takes them from here. What a
//! column must hold the audit decides for itself, by a `match` over [`Column`] that the compiler
//! keeps complete. A test compares the table with a migrated schema.

use clickstream_pipeline::{
    batch::{Batch, DerivedTexts, More, Row, Said, Texts},
    decode::columns::{ColumnValue, PromotedColumn},
    event::PAGE_VIEW,
};
use tokio_postgres::types::ToSql;

use super::{
    Topics,
    copy::Binary,
    promoted::names_behind,
    rows::{Date, Jsonb, Timestamptz},
};

/// A table that holds events.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Table {
    /// Accepted events.
    Events,
    /// The late ledger.
    Late,
}

/// Which columns a COPY has: those of the first releases, and those that an event has a value for.
/// The others take their defaults.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Width(Said);

/// An event that is about to be written.
#[derive(Copy, Clone)]
pub struct Entry<'a> {
    batch: &'a Batch,
    row: &'a Row,
    texts: Texts<'a>,
    topics: &'a Topics,
}

/// A parameter that holds one column of many events.
pub type Array<'a> = Box<dyn ToSql + Sync + Send + 'a>;

impl Table {
    /// Its name in the schema.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Events => "clickstream_events",
            Self::Late => "clickstream_late_events",
        }
    }

    /// Its columns but for those that the server fills itself, in the order of [`Column::ALL`].
    pub fn columns(self) -> impl Iterator<Item = Column> {
        Column::ALL
            .into_iter()
            .filter(move |column| column.tables().contains(&self))
    }

    /// Those of them that a processor writes.
    pub fn written(self, width: Width) -> impl Iterator<Item = Column> {
        self.columns()
            .filter(move |&column| column.is_written() && width.has(column))
    }

    /// `copy .. from stdin`, which takes rows as [`append`] writes them, followed by the values of
    /// promoted columns.
    pub fn copy_statement(self, width: Width, promoted: &[PromotedColumn]) -> String {
        let (table, names) = (self.name(), names(self.written(width)));
        let more = names_behind(promoted);
        format!("copy {table} ({names}{more}) from stdin (format binary)")
    }

    /// `insert .. select * from unnest(..)`, which takes the parameters that [`arrays`] makes,
    /// followed by those of promoted columns.
    pub fn insert_statement(self, promoted: &[PromotedColumn]) -> String {
        let types = self.written(Width::FULL).map(Column::sql_type);
        let types = types.chain(promoted.iter().map(|column| column.r#type.sql()));
        let arrays: Vec<String> = (1..)
            .zip(types)
            .map(|(place, sql_type)| format!("${place}::{sql_type}[]"))
            .collect();
        let (table, names, arrays) = (
            self.name(),
            names(self.written(Width::FULL)),
            arrays.join(", "),
        );
        let more = names_behind(promoted);
        format!("insert into {table} ({names}{more}) select * from unnest({arrays})")
    }
}

impl Width {
    /// All columns that are written.
    pub const FULL: Self = Self(Said::EVERYTHING);

    /// What the events of a batch need. Each column in a COPY takes the server about 1 % of its
    /// time for a row, so those that no event has a value for are left out.
    pub fn of(batch: &Batch) -> Self {
        Self(batch.said())
    }

    #[inline]
    const fn has(self, column: Column) -> bool {
        match column.more() {
            Some(more) => self.0.holds(more),
            None => true,
        }
    }
}

impl<'a> Entry<'a> {
    /// The event at this place of the batch.
    #[inline]
    pub fn of(batch: &'a Batch, at: u32, topics: &'a Topics) -> Self {
        let row = &batch.rows[at as usize];
        Self {
            batch,
            row,
            texts: batch.texts(row),
            topics,
        }
    }

    /// Looked up column by column: rows without them are many.
    fn derived(&self) -> DerivedTexts<'a> {
        self.batch.derived(self.row)
    }

    /// The value of the batch's promoted column at this place; `None` is null.
    pub fn column(&self, at: usize) -> Option<ColumnValue<'a>> {
        self.batch.column(self.row, at)
    }

    fn topic(&self) -> &'a str {
        let name = self.topics.get(&self.row.source.topic);
        name.map_or("", String::as_str)
    }
}

/// Names of columns, as a list in SQL.
pub fn names(columns: impl IntoIterator<Item = Column>) -> String {
    let names: Vec<&str> = columns.into_iter().map(Column::name).collect();
    names.join(", ")
}

macro_rules! columns {
    ($entry:ident: $($column:ident $name:literal $sql_type:literal [$($table:ident)+] $(more $more:ident)? $(= $value:expr)?;)+) => {
        /// A column of [`Table::Events`], of [`Table::Late`] or of both.
        #[derive(Copy, Clone, PartialEq, Eq, Debug)]
        pub enum Column {
            $(#[doc = concat!("`", $name, "`")] $column,)+
        }

        impl Column {
            /// All of them, in the order in which they are written and read.
            pub const ALL: [Self; [$(Self::$column),+].len()] = [$(Self::$column),+];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$column => $name),+ }
            }

            /// Its type in SQL.
            pub const fn sql_type(self) -> &'static str {
                match self { $(Self::$column => $sql_type),+ }
            }

            /// The tables that have it.
            pub const fn tables(self) -> &'static [Table] {
                match self { $(Self::$column => &[$(Table::$table),+]),+ }
            }

            /// What came after the first releases, so that events without it leave the column to
            /// its default.
            pub const fn more(self) -> Option<More> {
                match self { $(Self::$column => columns!(@more $($more)?)),+ }
            }

            /// Whether events have a value for it; otherwise it takes its default.
            pub const fn is_written(self) -> bool {
                match self { $(Self::$column => !stringify!($($value)?).is_empty()),+ }
            }
        }

        /// Appends an event's row of [`Table::Events`] to a COPY stream of this width.
        #[inline]
        pub fn append($entry: &Entry<'_>, width: Width, out: &mut Vec<u8>) {
            $($(if Column::$column.tables().contains(&Table::Events) && width.has(Column::$column) {
                $value.put(out);
            })?)+
        }

        /// One parameter for each column of the table that is written.
        pub fn arrays<'a>(table: Table, entries: &[Entry<'a>]) -> Vec<Array<'a>> {
            let mut arrays: Vec<Array<'a>> = Vec::with_capacity(Column::ALL.len());
            $($(if Column::$column.tables().contains(&table) {
                arrays.push(Box::new(entries.iter().map(|$entry| $value).collect::<Vec<_>>()));
            })?)+
            arrays
        }
    };
    (@more) => { None };
    (@more $more:ident) => { Some(More::$more) };
}

// Columns of both tables come first, so that each has the same place in the lists of both.
columns! { entry:
    EventId         "event_id"         "uuid"        [Events Late] = entry.row.event_id;
    UserId          "user_id"          "text"        [Events Late] = entry.texts.user_id;
    EventTs         "event_ts"         "timestamptz" [Events Late] = Timestamptz(entry.row.event_ts);
    EventDate       "event_date"       "date"        [Events Late] = Date(entry.row.day());
    Url             "url"              "text"        [Events Late] = entry.texts.url;
    Referrer        "referrer"         "text"        [Events Late] = entry.texts.referrer;
    Ip              "ip"               "inet"        [Events Late] = entry.row.ip;
    ReceivedAt      "received_at"      "timestamptz" [Events Late] = Timestamptz(entry.row.received_at);
    SessionId       "session_id"       "text"        [Events Late] = entry.texts.session_id;
    UserAgent       "user_agent"       "text"        [Events Late] = entry.texts.user_agent;
    EventName       "event_name"       "text"        [Events Late] more EventName    = entry.texts.event_name.unwrap_or(PAGE_VIEW);
    Site            "site"             "text"        [Events Late] more Site         = entry.texts.site;
    Page            "page"             "text"        [Events Late] more Page         = entry.derived().page;
    ReferrerHost    "referrer_host"    "text"        [Events Late] more ReferrerHost = entry.derived().referrer_host;
    UtmSource       "utm_source"       "text"        [Events Late] more Campaign     = entry.derived().campaign[0];
    UtmMedium       "utm_medium"       "text"        [Events Late] more Campaign     = entry.derived().campaign[1];
    UtmCampaign     "utm_campaign"     "text"        [Events Late] more Campaign     = entry.derived().campaign[2];
    UtmTerm         "utm_term"         "text"        [Events Late] more Campaign     = entry.derived().campaign[3];
    UtmContent      "utm_content"      "text"        [Events Late] more Campaign     = entry.derived().campaign[4];
    Bot             "bot"              "int"         [Events Late] more Bot          = i32::from(entry.row.bot);
    Properties      "properties"       "jsonb"       [Events Late] more Properties   = entry.texts.properties.map(Jsonb);
    SourceOffset    "source_offset"    "bigint"      [Events Late] = entry.row.offset;
    SourceIndex     "source_index"     "smallint"    [Events Late] more Index        = entry.row.index;
    IsLate          "is_late"          "bool"        [Events]      = entry.row.late;
    SourceTopicId   "source_topic_id"  "smallint"    [Events]      = entry.row.source.topic.0;
    SourcePartition "source_partition" "int"         [Events]      = entry.row.source.partition;
    Topic           "topic"            "text"        [Late]        = entry.topic();
    Partition       "partition"        "int"         [Late]        = entry.row.source.partition;
}

#[cfg(test)]
mod tests {
    use clickstream_pipeline::{
        batch::{Judged, Place},
        decode::columns::ColumnType,
        event::{Event, EventTime},
        offset::{TopicId, TopicPartition},
        spec::{SemanticSpec, TAKEN_COLUMN_NAMES},
        window::TumblingWindow,
    };

    use super::*;

    const PLAIN: Width = Width(Said::NOTHING);

    #[test]
    fn a_column_has_the_same_place_in_the_lists_of_all_tables_that_an_audit_reads() {
        let places = |table: Table| -> Vec<Column> { table.columns().collect() };
        let (events, late) = (places(Table::Events), places(Table::Late));
        assert_eq!(events, Column::ALL[..events.len()]);
        let shared = late.iter().take_while(|column| column.tables().len() == 2);
        let shared: Vec<Column> = shared.copied().collect();
        assert_eq!(shared, Column::ALL[..shared.len()]);
        assert!(
            late[shared.len()..]
                .iter()
                .all(|column| column.tables() == [Table::Late])
        );
    }

    #[test]
    fn a_copy_has_the_columns_that_an_event_has_a_value_for_and_as_many_values() {
        let batch = of_one_event(|event| {
            event.site = Some("shop".into());
            event.properties = Some("{\"a\":1}".into());
        });
        let width = Width::of(&batch);
        let more: Vec<Column> = Table::Events
            .written(width)
            .filter(|column| column.more().is_some())
            .collect();
        assert_eq!(more, [Column::Site, Column::Properties]);
        let topics = Topics::new();
        let mut row = Vec::new();
        append(&Entry::of(&batch, 0, &topics), width, &mut row);
        let (mut values, mut rest) = (0, &row[..]);
        while let Some((len, behind)) = rest.split_first_chunk() {
            let len = usize::try_from(i32::from_be_bytes(*len)).unwrap_or(0);
            rest = &behind[len..];
            values += 1;
        }
        assert_eq!(values, Table::Events.written(width).count());
        let plain = of_one_event(|event| event.event_name = Some(PAGE_VIEW.into()));
        assert_eq!(Width::of(&plain), PLAIN);
    }

    /// A batch of one event, which is changed before.
    fn of_one_event(change: impl FnOnce(&mut Event<'_>)) -> Batch {
        let spec = SemanticSpec::default();
        let received_at = EventTime::from_micros(1_772_366_400_000_000);
        let payload = br#"{"event_id":"6f9619ff-8b86-d011-b42d-00c04fc964ff","user_id":1,
            "event_ts":1772366398123,"url":"/"}"#;
        let decoder = spec.decoder();
        let event = decoder.decode(payload, received_at);
        let mut event = event.expect("a valid event");
        change(&mut event);
        let place = Place {
            source: TopicPartition {
                topic: TopicId(1),
                partition: 0,
            },
            offset: 7,
            index: 0,
            received_at,
        };
        let judged = Judged {
            window: TumblingWindow::new(spec.window_micros).containing(event.event_ts),
            late: false,
            suspect: false,
        };
        let mut batch = Batch::default();
        batch.push_event(place, payload, &event, judged);
        batch
    }

    #[test]
    fn names_that_the_tables_have_are_taken() {
        let mut ours: Vec<&str> = Column::ALL.map(Column::name).to_vec();
        ours.push("stored_at");
        let system = ["tableoid", "ctid", "xmin", "xmax", "cmin", "cmax"];
        ours.extend(system);
        ours.sort_unstable();
        let mut taken = TAKEN_COLUMN_NAMES;
        taken.sort_unstable();
        assert_eq!(taken.to_vec(), ours);
    }

    #[test]
    fn promoted_columns_come_last_and_are_quoted() {
        let column = |name: &str, kind| PromotedColumn {
            name: name.to_owned(),
            pointer: format!("/{name}"),
            r#type: kind,
        };
        let promoted = [
            column("select", ColumnType::Text),
            column("price", ColumnType::Number),
            column("a\"b", ColumnType::Timestamp),
        ];
        for table in [Table::Events, Table::Late] {
            let names = r#", "select", "price", "a""b")"#;
            let copy = table.copy_statement(PLAIN, &promoted);
            assert!(copy.contains(names), "{copy}");
            let places = table.written(Width::FULL).count();
            let insert = table.insert_statement(&promoted);
            assert!(insert.contains(names), "{insert}");
            let types = format!(
                "${}::text[], ${}::double precision[], ${}::timestamp with time zone[])",
                places + 1,
                places + 2,
                places + 3
            );
            assert!(insert.ends_with(&types), "{insert}");
        }
    }

    #[test]
    fn statements_name_each_column_of_their_table_once_and_in_one_order() {
        for table in [Table::Events, Table::Late] {
            let full: Vec<Column> = table.written(Width::FULL).collect();
            let plain: Vec<Column> = table.written(PLAIN).collect();
            assert!(plain.len() < full.len());
            for (width, columns) in [(PLAIN, plain), (Width::FULL, full.clone())] {
                let list = format!("({})", names(columns));
                assert!(table.copy_statement(width, &[]).contains(&list), "{list}");
            }
            let insert = table.insert_statement(&[]);
            assert!(
                insert.contains(&format!("({})", names(full.clone()))),
                "{insert}"
            );
            assert!(insert.contains(&format!("${}::", full.len())), "{insert}");
            assert!(
                !insert.contains(&format!("${}::", full.len() + 1)),
                "{insert}"
            );
            assert_eq!(arrays(table, &[]).len(), full.len());
        }
    }
}
