//! Processors that die, hang, come and go.

use super::{Row, SIMULATION, end_to_end};

pub const ROWS: &[Row] = &[
    Row::new(
        1,
        "processors are killed at random moments under load",
        "others take over after the session has ended, and nothing is lost or doubled",
        &[
            SIMULATION,
            end_to_end("kills::processors_killed_at_random_lose_and_double_nothing"),
        ],
    ),
    Row::new(
        2,
        "a processor dies at each named point of a flush",
        "before and after BEGIN, COPY, upsert, advance, COMMIT, its answer and the group's offsets alike: no difference",
        &[
            SIMULATION,
            end_to_end("crash_points::a_crash_after_begin_loses_and_doubles_nothing"),
            end_to_end("crash_points::a_crash_after_copy_loses_and_doubles_nothing"),
            end_to_end("crash_points::a_crash_after_the_upsert_loses_and_doubles_nothing"),
            end_to_end("crash_points::a_crash_after_the_advance_loses_and_doubles_nothing"),
            end_to_end(
                "crash_points::a_crash_while_the_commit_is_on_its_way_loses_and_doubles_nothing",
            ),
            end_to_end("crash_points::a_crash_after_the_commit_loses_and_doubles_nothing"),
            end_to_end("crash_points::a_crash_before_the_groups_offsets_loses_and_doubles_nothing"),
        ],
    ),
    Row::new(
        3,
        "all processors are replaced in a rolling restart under load",
        "no record is read twice, and nobody is fenced",
        &[
            end_to_end("handover::a_rolling_restart_reads_no_record_twice"),
            end_to_end("handover::a_processor_that_has_ended_has_left_the_group"),
        ],
    ),
    Row::new(
        4,
        "a processor is frozen, shortly or beyond its session",
        "shortly: no owner changes; beyond: the database refuses what it still writes, and it comes back as a member like any other",
        &[
            end_to_end(
            "zombies::a_process_frozen_beyond_its_session_is_refused_by_the_database",
        ),
            end_to_end("storms::a_freeze_shorter_than_the_session_changes_no_owner"),
        ],
    ),
    Row::new(
        5,
        "a processor is frozen between COPY and COMMIT",
        "the next owner ends its session and waits for nobody; its transaction never commits",
        &[
            SIMULATION,
            end_to_end("zombies::a_client_frozen_inside_copy_does_not_hold_up_the_next_owner"),
            end_to_end("storms::a_process_frozen_between_copy_and_commit_never_commits"),
        ],
    ),
    Row::new(
        6,
        "two processes believe that they own the same partition",
        "only the newest claim advances it; the other is fenced until it claims again",
        &[
            SIMULATION,
            end_to_end(
                "zombies::a_claim_that_is_taken_away_fences_its_owner_until_it_claims_again",
            ),
            end_to_end("storms::two_groups_on_the_same_tables_take_turns_and_double_nothing"),
        ],
    ),
    Row::new(
        7,
        "the reader stops polling while the writer still commits",
        "the liveness probe says so, and what it commits is fenced or in order",
        &[
            SIMULATION,
            end_to_end("ownership::a_reader_that_hangs_shows_at_livez"),
        ],
    ),
    Row::new(
        8,
        "members come and go all the time",
        "records go on, and alerts tell of the storm",
        &[
            super::Test {
            target: "observability",
            name: "pipeline_alerts::members_that_come_and_go_show_as_a_storm",
        },
            end_to_end("storms::members_that_come_and_go_twice_a_second_cost_nothing"),
        ],
    ),
    Row::new(
        9,
        "members with other group protocols want to join",
        "nothing is lost when a stranger is refused or leaves again",
        &[
            end_to_end("storms::strangers_with_other_group_protocols_cost_nothing"),
        ],
    )
    .without("other protocols of the processors themselves, which speak cooperative-sticky and have no setting for it"),
    Row::new(
        10,
        "the topic gets more partitions under load",
        "new partitions are read from their beginning, and an id that changes its partition counts once",
        &[
            end_to_end(
                "kafka_faults::partitions_that_are_added_under_load_are_read_from_their_beginning",
            ),
            end_to_end("duplicates::an_event_in_two_processors_counts_once"),
        ],
    )
    .quick(),
];
