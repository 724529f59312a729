//! One place decides what an error of the database means: repeat, dead-letter, reclaim or stop.
//! SQLSTATEs live here only.
//!
//! In doubt the answer is [`Remedy::Stop`]: a processor that stops and says why loses nothing.

use clickstream_pipeline::commit::Remedy;
pub use clickstream_postgres::explain;
use tokio_postgres::error::{DbError, SqlState};

/// What to do about a failed statement or connection.
pub fn remedy(error: &tokio_postgres::Error) -> Remedy {
    match error.as_db_error() {
        Some(db) => of_db_error(db),
        // no answer of the server: the connection broke, and a COMMIT that was under way may or may
        // not have happened
        None if error.is_closed() || is_io(error) => Remedy::Reclaim,
        None => Remedy::Stop,
    }
}

/// Whether trying to connect again may help (the server is away, starting, full or failing over),
/// as opposed to a wrong password or a missing database.
pub fn may_come_back(error: &tokio_postgres::Error) -> bool {
    match error.as_db_error() {
        Some(db) => matches!(of_db_error(db), Remedy::Reclaim | Remedy::Repeat { .. }),
        // a certificate that does not fit, or a server without TLS, stays as it is until a person
        // changes it
        None => error.is_closed() || (is_io(error) && !is_tls(error)),
    }
}

/// Whether a row met the partition of a day that another session had just made or was making.
/// PostgreSQL names the table then, and no constraint as it does where a check refuses what a row
/// holds.
pub fn is_day_race(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(is_partition_bound)
}

/// Whether a statement names a column that is not there.
pub fn lacks_column(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::UNDEFINED_COLUMN)
}

fn is_partition_bound(db: &DbError) -> bool {
    *db.code() == SqlState::CHECK_VIOLATION
        && db.constraint().is_none()
        && db
            .table()
            .is_some_and(|table| table.starts_with("clickstream_events"))
}

fn of_db_error(db: &DbError) -> Remedy {
    let code = db.code();
    let rows = db.table().is_none_or(|table| {
        table.starts_with("clickstream_events") || table == "clickstream_late_events"
    });
    match (class(code), code) {
        (_, c)
            if *c == SqlState::T_R_SERIALIZATION_FAILURE
                || *c == SqlState::T_R_DEADLOCK_DETECTED =>
        {
            Remedy::Repeat { later: false }
        }
        (_, c) if *c == SqlState::LOCK_NOT_AVAILABLE || *c == SqlState::QUERY_CANCELED => {
            Remedy::Repeat { later: true }
        }
        // the day of some row has a partition of its own since the transaction looked: the next one
        // finds it. Where the table of all days itself is named there is no place for the row,
        // until a person makes one
        _ if is_partition_bound(db) => Remedy::Repeat {
            later: db.table() == Some("clickstream_events"),
        },
        // out of disk, memory or connections: nothing is lost by waiting
        ("53", _) => Remedy::Repeat { later: true },
        // connection exceptions; the server shuts down, crashed or is starting; a standby that was
        // promoted away
        ("08", _) => Remedy::Reclaim,
        (_, c)
            if *c == SqlState::ADMIN_SHUTDOWN
                || *c == SqlState::CRASH_SHUTDOWN
                || *c == SqlState::CANNOT_CONNECT_NOW
                || *c == SqlState::READ_ONLY_SQL_TRANSACTION
                || *c == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT =>
        {
            Remedy::Reclaim
        }
        (_, c) if *c == SqlState::UNIQUE_VIOLATION => {
            if rows
                && db.constraint().is_some_and(|name| {
                    name.starts_with("clickstream_events") && name.ends_with("_pkey")
                })
            {
                Remedy::Distrust
            } else {
                Remedy::Stop
            }
        }
        ("22" | "23", _) if rows => Remedy::DeadLetter {
            detail: refused_detail(db),
        },
        _ => Remedy::Stop,
    }
}

/// What kind of error it is, for the metrics: a closed list, whatever a server may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// The connection broke, or could not be made.
    Connection,
    /// No answer in time, or a statement that was cancelled.
    Timeout,
    /// Serialization failures and deadlocks.
    Conflict,
    /// A lock that was not to be had.
    Lock,
    /// Out of disk, memory or connections.
    Resources,
    /// The server stops, starts or is a standby.
    Shutdown,
    /// A value that a column cannot hold.
    Data,
    /// A constraint, the primary key among them.
    Constraint,
    /// Wrong password, or missing rights.
    Permission,
    /// A table or function that is not as expected.
    Schema,
    /// The server's own failure, a corrupt page among them.
    Internal,
    /// Anything else.
    Other,
}

impl ErrorClass {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Connection,
        Self::Timeout,
        Self::Conflict,
        Self::Lock,
        Self::Resources,
        Self::Shutdown,
        Self::Data,
        Self::Constraint,
        Self::Permission,
        Self::Schema,
        Self::Internal,
        Self::Other,
    ];

    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Timeout => "timeout",
            Self::Conflict => "conflict",
            Self::Lock => "lock",
            Self::Resources => "resources",
            Self::Shutdown => "shutdown",
            Self::Data => "data",
            Self::Constraint => "constraint",
            Self::Permission => "permission",
            Self::Schema => "schema",
            Self::Internal => "internal",
            Self::Other => "other",
        }
    }

    /// The class of a SQLSTATE.
    pub fn of_state(state: &str) -> Self {
        match (state.get(..2).unwrap_or_default(), state) {
            (_, "25006") => Self::Shutdown,
            (_, "25P03" | "25P04" | "57014") => Self::Timeout,
            (_, "42501") => Self::Permission,
            (_, "55P03") => Self::Lock,
            ("08", _) => Self::Connection,
            ("22", _) => Self::Data,
            ("23", _) => Self::Constraint,
            ("28", _) => Self::Permission,
            ("26" | "34" | "3D" | "3F" | "42", _) => Self::Schema,
            ("40", _) => Self::Conflict,
            ("53" | "54", _) => Self::Resources,
            ("57", _) => Self::Shutdown,
            ("58" | "F0" | "XX", _) => Self::Internal,
            _ => Self::Other,
        }
    }
}

/// The class of an error.
pub fn class_of(error: &tokio_postgres::Error) -> ErrorClass {
    match error.code() {
        Some(code) => ErrorClass::of_state(code.code()),
        None if error.is_closed() || is_io(error) => ErrorClass::Connection,
        None => ErrorClass::Other,
    }
}

fn refused_detail(db: &DbError) -> String {
    let code = db.code().code();
    match (db.constraint(), db.column()) {
        (Some(constraint), _) => format!("constraint {constraint} (SQLSTATE {code})"),
        (None, Some(column)) => format!("column {column} (SQLSTATE {code})"),
        (None, None) => format!("SQLSTATE {code}"),
    }
}

fn class(code: &SqlState) -> &str {
    code.code().get(..2).unwrap_or_default()
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    use std::error::Error;
    error
        .source()
        .is_some_and(|source| source.is::<std::io::Error>())
}

/// Whether the two sides could not agree on TLS, as opposed to a connection that broke on the way.
fn is_tls(error: &tokio_postgres::Error) -> bool {
    use std::error::Error;
    error
        .source()
        .and_then(|source| source.downcast_ref::<std::io::Error>()?.get_ref())
        .is_some_and(|cause| cause.is::<rustls::Error>())
}

#[cfg(test)]
mod tests {
    use super::ErrorClass;

    #[test]
    fn errors_are_of_the_class_that_says_whom_to_ask() {
        for (state, class) in [
            ("08006", ErrorClass::Connection),
            ("57014", ErrorClass::Timeout),
            ("25P03", ErrorClass::Timeout),
            ("40001", ErrorClass::Conflict),
            ("40P01", ErrorClass::Conflict),
            ("55P03", ErrorClass::Lock),
            ("53100", ErrorClass::Resources),
            ("57P01", ErrorClass::Shutdown),
            ("25006", ErrorClass::Shutdown),
            ("22021", ErrorClass::Data),
            ("23505", ErrorClass::Constraint),
            ("28P01", ErrorClass::Permission),
            ("42501", ErrorClass::Permission),
            ("42P01", ErrorClass::Schema),
            ("XX001", ErrorClass::Internal),
            ("P0001", ErrorClass::Other),
            ("", ErrorClass::Other),
        ] {
            assert_eq!(ErrorClass::of_state(state), class, "{state}");
        }
    }
}
