//! PostgreSQL: its sessions, its server, what it refuses.

use super::{Row, SIMULATION, Test, end_to_end};

pub const ROWS: &[Row] = &[
    Row::new(
        11,
        "sessions of processors are terminated at random",
        "a commit without an answer is looked up and not repeated",
        &[end_to_end(
            "sessions::sessions_that_are_terminated_at_random_lose_and_double_nothing",
        )],
    ),
    Row::new(
        12,
        "a client is frozen inside COPY, another one claims",
        "the claim ends the frozen session and is through within seconds",
        &[end_to_end(
            "zombies::a_client_frozen_inside_copy_does_not_hold_up_the_next_owner",
        )],
    )
    .quick(),
    Row::new(
        13,
        "the connection is cut between COMMIT and its answer",
        "what became of it is read from the checkpoint: nothing twice, nothing missing",
        &[
            SIMULATION,
            end_to_end(
                "postgres_faults::a_commit_whose_outcome_is_unknown_is_looked_up_and_not_repeated",
            ),
        ],
    ),
    Row::new(
        14,
        "nothing comes through any more, with connections open",
        "it is noticed within the step's deadline, and taken up again",
        &[end_to_end(
            "postgres_faults::a_postgresql_that_falls_silent_is_noticed_and_taken_up_again",
        )],
    ),
    Row::new(
        15,
        "connections are closed in one direction only",
        "the session is given up and opened again",
        &[end_to_end(
            "sessions::a_connection_that_is_closed_in_one_direction_is_opened_again",
        )],
    ),
    Row::new(
        16,
        "PostgreSQL answers late",
        "batches grow and memory does not",
        &[end_to_end(
            "sessions::a_postgresql_far_away_makes_larger_flushes_and_no_larger_process",
        )],
    )
    .without("a narrow line: it is late that matters, not how wide"),
    Row::new(
        17,
        "PostgreSQL crashes and recovers, also with replayable durability",
        "commits that are lost are read again from the log",
        &[
            SIMULATION,
            end_to_end(
                "postgres_faults::crashes_of_postgresql_lose_and_double_nothing_with_strict_durability",
            ),
            end_to_end(
                "postgres_faults::crashes_of_postgresql_lose_and_double_nothing_with_replayable_durability",
            ),
        ],
    ),
    Row::new(
        18,
        "PostgreSQL is shut down fast and started again",
        "processors wait, leave and join meanwhile, and go on alone",
        &[end_to_end(
            "postgres_faults::processors_wait_for_postgresql_through_a_rebalance_and_go_on_alone",
        )],
    )
    .without(
        "a smart shutdown, which waits for sessions: to a processor it is the fast one, later",
    ),
    Row::new(
        19,
        "the server, or one of its sessions, is killed with SIGKILL",
        "every session breaks at once; the stream goes on after recovery",
        &[end_to_end(
            "sessions::a_server_or_a_session_that_is_killed_is_waited_for",
        )],
    ),
    Row::new(
        20,
        "a standby that lags, or a restored backup, takes over",
        "positions and rows go back together, and the log is read again from there",
        &[Test {
            target: "documentation",
            name: "backup::a_restored_backup_goes_on_where_it_was_taken_and_audits_clean",
        }],
    ),
    Row::new(
        21,
        "PostgreSQL is read-only, as an old primary is",
        "the session is dropped and opened again until a server can be written to",
        &[end_to_end(
            "sessions::a_server_that_is_read_only_is_left_until_it_is_promoted",
        )],
    )
    .quick()
    .without("two servers behind one address that both take writes"),
    Row::new(
        22,
        "the disk of PostgreSQL is full",
        "it is said everywhere, no process ends, and the stream resumes alone",
        &[end_to_end(
            "postgres_faults::a_full_disk_is_said_everywhere_ends_no_process_and_holds_none_up",
        )],
    )
    .quick()
    .without("the disk itself: the server answers as one with a full disk"),
    Row::new(
        23,
        "the disk of PostgreSQL fails to sync",
        "the server ends itself and recovers, which is F17 to a processor",
        &[],
    )
    .without("needs a block device that fails on demand, which takes root and a kernel module"),
    Row::new(
        24,
        "PostgreSQL has no connection left",
        "processors wait with growing pauses and go on alone",
        &[end_to_end(
            "sessions::a_server_without_a_free_connection_is_waited_for",
        )],
    )
    .quick(),
    Row::new(
        25,
        "somebody holds a table in an exclusive lock",
        "a flush gives up and tries again; nothing waits for ever",
        &[
            end_to_end("days::a_long_query_does_not_stop_the_stream_when_a_new_day_is_due"),
            end_to_end("sessions::tables_that_somebody_has_locked_are_waited_for"),
        ],
    ),
    Row::new(
        26,
        "a flush and a foreign transaction wait for each other",
        "the flush that PostgreSQL ends is done again from its checkpoint",
        &[
            SIMULATION,
            end_to_end("sessions::a_flush_that_ends_a_deadlock_is_done_again"),
        ],
    ),
    Row::new(
        27,
        "the writer loses its password, its rights or its tables",
        "what is refused is named, the process ends, and the next one goes on where it was",
        &[
            end_to_end("bad_input::a_wrong_password_or_database_is_refused_by_postgresql_18"),
            end_to_end("bad_input::a_schema_that_is_not_ours_or_not_of_this_version_is_refused"),
            end_to_end(
                "sessions::rights_and_tables_that_are_taken_away_are_named_and_the_next_start_goes_on",
            ),
        ],
    )
    .quick(),
    Row::new(
        28,
        "days without a partition, roles with odd settings",
        "events land in their own days, and no setting of a role changes a value",
        &[
            end_to_end("days::logs_of_2012_and_2015_land_in_their_own_days"),
            end_to_end(
                "days::late_events_make_no_partitions_also_in_the_first_flush_after_a_start",
            ),
        ],
    )
    .quick(),
];
