//! What a server says of a failure, without what rows hold: logs, `/status`, conditions and reports
//! are read by people who may not see events.

use std::error::Error as StdError;

use tokio_postgres::{
    Error,
    error::{DbError, SqlState},
};

/// An error in one line: what the server said and its code. Never its detail, hint or context, and
/// no text that quotes a value.
pub fn explain(error: &Error) -> String {
    match error.as_db_error() {
        Some(db) => of_server(db),
        None => match error.source() {
            Some(_) if takes_no_writes(error) => format!(
                "{error}: it is a standby, or default_transaction_read_only is on for the server, the database or the role"
            ),
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        },
    }
}

/// Any error with its causes in one line, where each of the server's is said as [`explain`] does.
/// What repeats its cause is said once.
pub fn explain_chain(error: &(dyn StdError + 'static)) -> String {
    let mut said: Vec<String> = Vec::new();
    let mut link = Some(error);
    while let Some(error) = link {
        let (text, last) = if let Some(error) = error.downcast_ref::<Error>() {
            (explain(error), true)
        } else if let Some(db) = error.downcast_ref::<DbError>() {
            (of_server(db), true)
        } else {
            (error.to_string(), false)
        };
        if said.last().is_none_or(|before| !before.ends_with(&text)) {
            said.push(text);
        }
        link = error.source().filter(|_| !last);
    }
    said.join(": ")
}

/// The text of a server's error or notice, as far as it holds no value of a row.
pub(crate) fn message(db: &DbError) -> String {
    let code = db.code();
    let class = code.code().get(..2).unwrap_or_default();
    // the text of a trigger or a function, which says what its author wanted
    let raised = matches!(class, "P0" | "38") || db.routine() == Some("exec_stmt_raise");
    let what = if raised {
        "a function or trigger raised an error"
    } else if class == "22" {
        // most of these texts quote the value that does not fit
        data_exception(code)
    } else {
        return db.message().to_owned();
    };
    let names = [
        ("table", db.table()),
        ("column", db.column()),
        ("type", db.datatype()),
        ("constraint", db.constraint()),
    ];
    let names = names
        .into_iter()
        .filter_map(|(kind, name)| Some(format!(", {kind} \"{}\"", name?)));
    std::iter::once(what.to_owned()).chain(names).collect()
}

fn of_server(db: &DbError) -> String {
    format!("{} (SQLSTATE {})", message(db), db.code().code())
}

fn data_exception(code: &SqlState) -> &'static str {
    match code.code() {
        "22001" => "a value is too long for its type",
        "22003" => "a number is out of range",
        "22007" => "a time has an invalid format",
        "22008" => "a time is out of range",
        "22012" => "division by zero",
        "22021" | "22P05" => "a character cannot be stored in this encoding",
        "22023" => "a parameter has an invalid value",
        "22P02" => "a text cannot be read as its type",
        "22P03" => "a value has an invalid binary form",
        "22P04" => "the COPY stream is malformed",
        _ => "a value is invalid",
    }
}

/// Whether the client gave the session up because nothing can be written in it, which only its text
/// tells.
fn takes_no_writes(error: &Error) -> bool {
    error
        .source()
        .and_then(|source| source.downcast_ref::<std::io::Error>())
        .is_some_and(|cause| cause.to_string() == "database does not allow writes")
}
