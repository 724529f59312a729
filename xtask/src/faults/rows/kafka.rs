//! Kafka: its brokers, its logs, what stands in them.

use super::{Row, end_to_end};

pub const ROWS: &[Row] = &[
    Row::new(
        29,
        "brokers of three are killed one after the other",
        "what was acknowledged is read, from whoever leads",
        &[end_to_end("kafka_faults::a_broker_of_three_that_is_killed_and_comes_back_costs_nothing")],
    ),
    Row::new(
        30,
        "all brokers are away",
        "processors wait, keep their sessions to PostgreSQL, and go on alone",
        &[
            end_to_end("kafka_faults::processors_wait_for_kafka_and_go_on_alone"),
            end_to_end("metrics::lag_is_unknown_while_kafka_is_away"),
        ],
    ),
    Row::new(
        31,
        "a broker hangs, leads nothing, or tells an old end of the log",
        "other partitions go on, and no position moves back",
        &[
            end_to_end("kafka_faults::processors_wait_for_kafka_and_go_on_alone"),
            end_to_end("ownership::partitions_whose_leader_does_not_answer_hold_up_no_other"),
            end_to_end("ownership::an_end_of_the_log_that_is_told_too_early_halts_nothing"),
        ],
    )
    .without("an unclean election, whose loss shows as an end of the log below the checkpoint"),
    Row::new(
        32,
        "records or topics are deleted, topics made anew",
        "a gap is recorded with its bounds; a topic with another identity is never read",
        &[
            end_to_end("topics::a_shorter_topic_made_anew_while_running_halts_and_changes_nothing"),
            end_to_end("topics::a_longer_topic_made_anew_while_running_halts_and_changes_nothing"),
            end_to_end("topics::a_topic_made_anew_while_nobody_reads_halts_at_start_and_the_others_are_read"),
            end_to_end("topics::a_topic_that_has_gone_holds_no_other_up_and_is_not_believed_when_it_comes_back"),
            end_to_end("kafka_faults::what_retention_took_is_a_loud_gap_and_the_rest_is_read"),
            end_to_end("kafka_faults::what_retention_takes_while_running_is_a_gap_too"),
        ],
    ),
    Row::new(
        33,
        "the group's coordinator is away while fetching works",
        "a member that the group has given up is fenced by the database",
        &[],
    )
    .without(
        "brokers tell clients their own addresses, so that no hop can take the coordinator alone away; F4 and F29 \
         reach the same two states",
    ),
    Row::new(
        34,
        "bytes of a batch are damaged on the broker's disk",
        "its partition halts, tells why, and goes on when the batch is restored",
        &[
            end_to_end("ownership::a_batch_that_fails_its_checksum_halts_its_partition_until_it_is_restored"),
            end_to_end("ownership::a_batch_that_cannot_be_decompressed_halts_its_partition_until_it_is_restored"),
        ],
    ),
    Row::new(
        35,
        "events are sent again: at once, later, on another partition",
        "each counts once per day, whoever reads it",
        &[
            end_to_end("duplicates::an_event_on_two_partitions_of_one_flush_counts_once"),
            end_to_end("duplicates::an_event_in_two_processors_counts_once"),
            end_to_end("duplicates::a_resend_within_a_partition_counts_once_in_the_same_flush_and_later"),
            end_to_end("duplicates::an_id_counts_again_on_another_day"),
            end_to_end("duplicates::resends_of_what_was_stored_before_a_restart_count_once"),
        ],
    ),
    Row::new(
        36,
        "every compression, tiny batches of megabytes, tombstones",
        "all are read or passed in bounded memory, and the position reaches the end of the log",
        &[
            end_to_end("compression::every_compression_that_kafka_has_is_read"),
            end_to_end("skipped::tombstones_are_skipped_and_outside_the_account"),
            end_to_end("skipped::control_records_are_passed_over_and_lag_gets_to_zero"),
            end_to_end("skipped::a_transaction_that_stays_open_is_waited_for_and_said"),
            end_to_end("shapes::batches_that_grow_a_thousandfold_when_they_are_read_fit_into_memory"),
        ],
    )
    .quick(),
    Row::new(
        37,
        "records that are no events, in every way that is known",
        "each is a dead letter with its reason and its bytes, and stands in no log",
        &[
            end_to_end("malformed::each_malformed_record_is_a_dead_letter_with_its_reason_and_its_bytes"),
            end_to_end("malformed::what_only_looks_malformed_is_stored_as_it_was_sent"),
            end_to_end("malformed::rows_that_only_a_constraint_refuses_become_dead_letters_and_the_rest_is_kept"),
        ],
    )
    .quick(),
    Row::new(
        38,
        "a partition holds nothing but poison",
        "no other partition waits for it",
        &[end_to_end("malformed::a_partition_of_nothing_but_poison_holds_no_other_back")],
    )
    .quick(),
    Row::new(
        39,
        "events out of order, dated ahead, on idle partitions",
        "the report of finality never moves back, and one event costs itself only",
        &[
            end_to_end("late::the_report_of_finality_never_moves_back"),
            end_to_end("late::events_dated_fifty_days_ahead_cost_themselves_and_no_other"),
            end_to_end("late::events_dated_ahead_within_a_wide_guard_make_no_other_event_late"),
            end_to_end("late::a_log_that_is_read_backwards_loses_nothing_from_the_minutes"),
            end_to_end("late::a_backlog_of_an_hour_makes_no_event_late"),
            end_to_end("roles::a_quiet_partition_does_not_hold_finality_back"),
        ],
    ),
    Row::new(
        40,
        "one page or one partition gets nearly everything",
        "the rest is read as fast, and memory stays bounded",
        &[
            end_to_end("shapes::a_hot_page_a_hot_partition_and_thousands_of_pages_fit_into_memory"),
        ],
    ),
];
