//! What runs around the stream: machine, names and certificates, releases, Kubernetes.

use super::{Row, Test, end_to_end, kafka_tls, operator};

pub const ROWS: &[Row] = &[
    Row::new(
        41,
        "the machine's clock jumps or runs at another speed",
        "deadlines do not move, and windows follow the times of events",
        &[],
    )
    .without("a process cannot be given a wall clock of its own; the engine has none, its time is an argument"),
    Row::new(
        42,
        "a processor has few descriptors and hardly any CPU",
        "it is slow and loses nothing; what the system kills is F1",
        &[
            end_to_end("storms::a_processor_with_64_descriptors_and_a_tenth_of_a_cpu_is_slow_and_no_more"),
        ],
    )
    .without("a limit of memory that the system enforces: its SIGKILL is F1"),
    Row::new(
        43,
        "certificates of another authority or name, TLS that is missing",
        "no connection is made in the clear where TLS is asked for, and the reason is named",
        &[
            end_to_end("tls::only_the_right_authority_and_name_are_believed_on_postgresql_18"),
            end_to_end("tls::a_server_without_tls_is_never_spoken_to_in_the_clear_where_tls_is_asked_for"),
            kafka_tls("services::passwords_and_certificates_over_tls_carry_the_stream_and_nothing_less_is_let_in"),
        ],
    ),
    Row::new(
        44,
        "the password for Kafka is changed",
        "who is not let in is told so, and comes in once the Secret is right",
        &[kafka_tls("operator::who_is_not_let_in_is_told_so_and_comes_in_once_the_secret_is_right")],
    ),
    Row::new(
        45,
        "the schema is migrated while processors of before run",
        "they go on under load, and so does what replaces them",
        &[
            end_to_end("upgrade::processors_of_the_version_before_go_on_under_load_when_the_schema_grows"),
            end_to_end("upgrade::the_first_release_writes_the_tables_of_this_one_until_it_is_replaced_and_when_it_comes_back"),
        ],
    ),
    Row::new(
        46,
        "the Kubernetes API or its store is away",
        "it is waited for, and nothing of the pipelines is touched",
        &[
            operator("faults::an_api_server_that_restarts_is_waited_for_and_nothing_of_the_pipelines_is_touched"),
            Test {
                target: "kube_api",
                name: "what_was_stored_survives_a_killed_server_and_a_killed_etcd",
            },
        ],
    ),
    Row::new(
        47,
        "the operator is killed before and after each of its writes",
        "its successor ends up at the same objects",
        &[
            operator("faults::an_operator_killed_before_any_write_is_succeeded_by_one_that_ends_up_the_same"),
            operator("faults::an_operator_killed_after_any_write_is_succeeded_by_one_that_ends_up_the_same"),
        ],
    ),
    Row::new(
        48,
        "watches end, hang, expire or lag; bursts of 429 and 500",
        "the operator catches up within a minute",
        &[
            operator("faults::bursts_of_429_and_500_and_cut_and_expired_watches_pass"),
            operator("faults::a_request_that_is_never_answered_is_given_up_and_made_again"),
            operator("faults::an_operator_that_hears_of_its_own_status_late_still_knows_its_topic"),
        ],
    ),
    Row::new(
        49,
        "two operators both believe that they lead",
        "both come to the same end and then write no more",
        &[
            operator("faults::two_operators_at_once_come_to_the_same_end_and_then_write_no_more"),
            operator("faults::the_second_operator_takes_the_lease_of_one_that_was_killed"),
            operator("faults::what_another_operator_has_written_meanwhile_is_not_written_over"),
        ],
    ),
    Row::new(
        50,
        "people change, delete and break everything that they can",
        "children follow the resource, and what is refused touches none",
        &[
            operator("sweeps::every_change_made_and_taken_back_ends_where_it_began"),
            operator("sweeps::a_refused_change_touches_no_child_and_says_what_to_do"),
            operator("sweeps::a_resource_that_cannot_be_read_stops_no_other"),
            operator("reconcile::a_child_that_is_deleted_or_changed_by_hand_is_restored"),
            operator("lifecycle::a_namespace_that_ends_keeps_nobody_else_waiting_and_lets_its_pipelines_go"),
        ],
    ),
    Row::new(
        51,
        "three faults at a time, chosen by a seed",
        "all of the above together",
        &[
            end_to_end("soak::three_faults_at_a_time_lose_and_double_nothing"),
        ],
    ),
    Row::new(
        52,
        "a replica that is read from in the same zone dies or hangs",
        "its leader is read from; what retention took meanwhile is a gap with its bounds",
        &[
            end_to_end("rack::a_follower_that_is_read_from_may_die_or_hang_and_so_may_leaders"),
            end_to_end("rack::what_retention_took_from_a_follower_is_a_loud_gap_and_the_rest_is_read"),
        ],
    ),
];
