//! The table of columns against a migrated schema, and the audit against each of them.

use std::collections::BTreeMap;

use clickstream_processor::{
    audit::Kind,
    sink::columns::{Column, Table},
};

use crate::{
    pipeline::assert_differs,
    tampering::{after, filled},
};

/// What the server sets itself.
const NOT_WRITTEN: &str = "stored_at";

#[tokio::test]
async fn a_migrated_schema_has_the_columns_that_are_written_and_no_other() -> anyhow::Result<()> {
    let copy = filled().await?.copy().await?;
    for table in [Table::Events, Table::Late] {
        let rows = copy
            .client
            .query(
                "select attname::text, format_type(atttypid, null) from pg_attribute
                 where attrelid = $1::text::regclass and attnum > 0 and not attisdropped and attname <> $2",
                &[&table.name(), &NOT_WRITTEN],
            )
            .await?;
        let stored: BTreeMap<String, String> =
            rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let mut written = BTreeMap::new();
        for column in table.columns() {
            let row = copy
                .client
                .query_one(
                    "select format_type($1::text::regtype, null)",
                    &[&column.sql_type()],
                )
                .await?;
            written.insert(column.name().to_owned(), row.get(0));
        }
        assert_eq!(stored, written, "{}", table.name());
    }
    Ok(())
}

/// Another value for a column; `None` where a change makes it another row, which other tests
/// change.
fn other_value(column: Column) -> Option<&'static str> {
    Some(match column {
        Column::EventId
        | Column::EventDate
        | Column::SourceOffset
        | Column::IsLate
        | Column::SourceTopicId
        | Column::SourcePartition
        | Column::Topic
        | Column::Partition => return None,
        Column::UserId => "'somebody else'",
        Column::EventTs => "event_ts + interval '1 microsecond'",
        Column::Url => "'/other'",
        Column::Referrer => "'https://example.org'",
        Column::Ip => "'192.0.2.10/24'",
        Column::ReceivedAt => "received_at + interval '1 microsecond'",
        Column::SessionId => "'another visit'",
        Column::UserAgent => "''",
        Column::EventName => "'signup'",
        Column::Site => "'example.org'",
        Column::Page => "'/page'",
        Column::ReferrerHost => "'example.org'",
        Column::UtmSource
        | Column::UtmMedium
        | Column::UtmCampaign
        | Column::UtmTerm
        | Column::UtmContent => "'mail'",
        Column::Bot => "1",
        Column::Properties => "'{}'",
        Column::SourceIndex => "1",
    })
}

#[tokio::test]
async fn a_changed_column_is_named() -> anyhow::Result<()> {
    for (table, place, kind) in [
        (
            Table::Events,
            "source_partition = 1 and source_offset = 100",
            Kind::RowDiffers,
        ),
        (
            Table::Late,
            "partition = 0 and source_offset = 615",
            Kind::LateEventDiffers,
        ),
    ] {
        // one copy for each kind of row, and one change for all columns of it
        let columns: Vec<Column> = table.columns().collect();
        let changes: Vec<String> = columns
            .iter()
            .filter_map(|&column| Some(format!("{} = {}", column.name(), other_value(column)?)))
            .collect();
        let name = table.name();
        let sql = format!("update {name} set {} where {place}", changes.join(", "));
        let names: Vec<&str> = columns
            .into_iter()
            .filter(|&column| other_value(column).is_some())
            .map(Column::name)
            .collect();
        let report = after(&sql).await?;
        let named = format!("{} not as in the log", names.join(", "));
        assert_differs(&report, kind, &named);
        assert_eq!(report.differences_total, 1, "{report}");
    }
    Ok(())
}
