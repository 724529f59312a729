//! Exit codes that programs go by. Beside them 0 is success, 1 a failure with its reason on
//! standard error, and 2 wrong usage.

/// An audit found that tables and log contradict each other.
pub const DIFFERENCES: u8 = 3;
/// An audit could not compare some part at all, and found no difference in the rest.
pub const NOT_PROVEN: u8 = 4;
/// Some part of an answer could not be had: of the plugin's commands that ask several pods.
pub const INCOMPLETE: u8 = 4;
/// The operator was asked for something and has not answered in time.
pub const UNANSWERED: u8 = 5;
/// A processor's tables are not there, or older than it needs: the operator migrates them then.
pub const WANTS_MIGRATION: u8 = 6;
/// As shells count a process that SIGINT ended.
pub const INTERRUPTED: u8 = 130;
/// As shells count a process that SIGPIPE ended: nobody reads its output any more.
pub const READER_GONE: u8 = 141;

/// What a processor tells a person to type with [`WANTS_MIGRATION`]; the first release said it with
/// exit code 1.
pub const MIGRATE: &str = "run `clickstream-processor migrate`";
