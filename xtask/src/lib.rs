//! What `cargo xtask` is made of, and what the lab shares with it: the command line, steps with
//! progress, container images.
//!
//! ```text
//! cargo xtask test | faults | images | release | bots   done here
//! cargo xtask up | bench | kind | e2e  -> lab: compile clickstream-lab and what it runs, become it
//! ```
//! Few dependencies: the task itself compiles in seconds, also where nothing has been compiled yet.

pub mod args;
pub mod bots;
pub mod faults;
pub mod images;
pub mod lab;
pub mod program;
pub mod release;
pub mod speed;
pub mod steps;
pub mod test;
