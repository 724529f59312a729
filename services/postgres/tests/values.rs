//! Errors of a real server as they are logged: without a visitor's data, wherever the server puts
//! it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use anyhow::Context as _;
use clickstream_postgres::{explain, explain_chain};
use clickstream_testbed::{PostgresVersion, shared};

const DATABASE: &str = "errors_without_values";

#[tokio::test]
async fn errors_are_explained_without_the_values_of_rows() -> anyhow::Result<()> {
    let server = shared::postgres(PostgresVersion::V18).await?;
    server.create_database(DATABASE).await?;
    let client = server.connect(DATABASE).await?;
    client
        .batch_execute(
            "create table pages (page text primary key, visits int not null, check (page <> 'planted-check'));
             insert into pages values ('planted', 1);
             create table days (day int, page text) partition by range (day);
             create table days_1 partition of days for values from (1) to (2)",
        )
        .await?;
    let raise = |how: &str| format!("do $$ begin raise exception {how}; end $$");
    for (statement, said) in [
        (
            "insert into pages values ('planted', 1)".to_owned(),
            "duplicate key value violates unique constraint \"pages_pkey\" (SQLSTATE 23505)",
        ),
        (
            "insert into pages values ('planted-check', 1)".to_owned(),
            "new row for relation \"pages\" violates check constraint \"pages_page_check\" (SQLSTATE 23514)",
        ),
        (
            "insert into pages values ('planted-null', null)".to_owned(),
            "null value in column \"visits\" of relation \"pages\" violates not-null constraint (SQLSTATE 23502)",
        ),
        (
            "insert into days_1 values (7, 'planted')".to_owned(),
            "new row for relation \"days_1\" violates partition constraint (SQLSTATE 23514)",
        ),
        (
            "select 'planted'::inet".to_owned(),
            "a text cannot be read as its type (SQLSTATE 22P02)",
        ),
        (
            "select 'planted'::timestamptz".to_owned(),
            "a time has an invalid format (SQLSTATE 22007)",
        ),
        (
            "select '999999999999999'::int".to_owned(),
            "a number is out of range (SQLSTATE 22003)",
        ),
        (
            raise("'no planted here'"),
            "a function or trigger raised an error (SQLSTATE P0001)",
        ),
        (
            raise(
                "'no planted here' using errcode = '23514', table = 'pages', constraint = 'ours'",
            ),
            "a function or trigger raised an error, table \"pages\", constraint \"ours\" (SQLSTATE 23514)",
        ),
        (
            raise("using message = 'no planted', detail = 'planted', hint = 'planted'"),
            "a function or trigger raised an error (SQLSTATE P0001)",
        ),
    ] {
        let error = client.batch_execute(&statement).await.unwrap_err();
        assert_eq!(explain(&error), said, "{statement}");
        assert_eq!(explain_chain(&error), said, "{statement}");
        // what a program says at its end
        let error = Err::<(), _>(error).context("writing a page").unwrap_err();
        let text = explain_chain(&*error);
        assert_eq!(text, format!("writing a page: {said}"), "{statement}");
    }
    Ok(())
}
