//! What librdkafka can do and rust-rdkafka does not offer: the log's end as the fetcher last saw
//! it, a topic's id, changes of single settings of a topic, who a consumer is in its group, what an
//! administrator's client has to say, polling that tells the partition of an error, and questions
//! that nobody waits for. All calls of foreign code, beside two of the allocator, are in this
//! crate.
#![expect(
    unsafe_code,
    reason = "calls into librdkafka, each with its guarantee beside it"
)]

mod consume;
mod heard;
mod questions;

use std::{
    ffi::{CStr, CString, c_char},
    ptr,
    time::Duration,
};

use rdkafka::{
    bindings as ffi,
    client::{Client, ClientContext},
};

pub use consume::{ConsumerQueue, Failed, Polled, Record, RecordHeaders};
pub use heard::hear;
pub use questions::{Answer, LogEnd, Questions, TopicLeaders};

/// The log's bounds `(start, end)` as the fetcher last saw them: no request is sent. `None` until
/// something was fetched.
pub fn seen_watermarks<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    partition: i32,
) -> Option<(i64, i64)> {
    let topic = CString::new(topic).ok()?;
    let (mut low, mut high) = (-1, -1);
    // SAFETY: the handle lives as long as `client`, the name is NUL-terminated, and both results
    // are written to locals.
    let answer = unsafe {
        ffi::rd_kafka_get_watermark_offsets(
            client.native_ptr(),
            topic.as_ptr(),
            partition,
            &raw mut low,
            &raw mut high,
        )
    };
    (answer == ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0)
        .then_some((low, high))
}

/// The id by which the group knows this consumer; `None` before it has joined, and from when it has
/// sent word that it leaves. Answered by the client's main thread, without the network.
pub fn member_id<C: ClientContext>(client: &Client<C>) -> Option<String> {
    // SAFETY: the handle lives as long as `client`; the text is copied, and freed here exactly
    // once.
    unsafe {
        let id = ffi::rd_kafka_memberid(client.native_ptr());
        if id.is_null() {
            return None;
        }
        let text = owned(id);
        ffi::rd_kafka_mem_free(client.native_ptr(), id.cast());
        (!text.is_empty()).then_some(text)
    }
}

/// A topic as the brokers describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDescription {
    /// The id that Kafka gave it, in its base64 form; `None` where the broker does not tell it
    /// (before Kafka 2.8).
    pub id: Option<String>,
    /// Number of partitions.
    pub partitions: usize,
    /// Copies of the partition that has the fewest.
    pub replication_factor: usize,
}

/// Why a topic was not described.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescribeError {
    /// The brokers refuse, in their words.
    #[error("{0}")]
    Refused(String),
    /// No broker answers in time.
    #[error("no answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// A name that cannot be sent.
    #[error("`{0}` holds a zero byte")]
    ZeroByte(String),
}

/// The id that Kafka gave a topic; `None` also where there is no such topic, or no answer in time.
pub fn topic_id<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
) -> Option<String> {
    describe_topic(client, topic, timeout).ok()??.id
}

/// Describes a topic; `None`: there is none of this name. Other than a request for metadata, which
/// rust-rdkafka offers, this never makes the topic where brokers create topics by themselves.
///
/// Blocks until the broker has answered.
///
/// # Errors
/// [`DescribeError`].
pub fn describe_topic<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
) -> Result<Option<TopicDescription>, DescribeError> {
    let name = CString::new(topic).map_err(|_| DescribeError::ZeroByte(topic.to_owned()))?;
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let mut names = [name.as_ptr()];
    // SAFETY: every object that is created here is destroyed here, exactly once and after its last
    // use; what is read belongs to the event and is copied before it is destroyed; librdkafka
    // copies the names.
    unsafe {
        let handle = client.native_ptr();
        let collection = ffi::rd_kafka_TopicCollection_of_topic_names(
            names.as_mut_ptr().cast::<*const c_char>(),
            1,
        );
        let options = ffi::rd_kafka_AdminOptions_new(
            handle,
            ffi::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        );
        let queue = ffi::rd_kafka_queue_new(handle);
        ffi::rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, ptr::null_mut(), 0);
        ffi::rd_kafka_DescribeTopics(handle, collection, options, queue);
        let event = ffi::rd_kafka_queue_poll(queue, timeout_ms);
        let described = if event.is_null() {
            Err(DescribeError::Silent(timeout))
        } else {
            described(event, timeout)
        };
        if !event.is_null() {
            ffi::rd_kafka_event_destroy(event);
        }
        ffi::rd_kafka_queue_destroy(queue);
        ffi::rd_kafka_AdminOptions_destroy(options);
        ffi::rd_kafka_TopicCollection_destroy(collection);
        described
    }
}

/// A change of one setting of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigChange {
    /// The setting, by Kafka's name.
    pub key: String,
    /// What it shall be; `None`: the broker's default again.
    pub value: Option<String>,
}

/// Why settings of a topic were not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The broker, or librdkafka, refused; in its words.
    #[error("{0}")]
    Refused(String),
    /// No broker answered in time.
    #[error("no answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// A name or value that cannot be sent.
    #[error("`{0}` holds a zero byte")]
    ZeroByte(String),
}

/// Changes single settings of a topic and leaves all others as they are (Kafka 2.3 and newer).
/// rust-rdkafka's `alter_configs` is the older request, which puts every setting that it does not
/// name back to its default.
///
/// Blocks until the broker has answered.
///
/// # Errors
/// [`ConfigError`]; nothing was changed when the broker refused.
pub fn change_config<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    changes: &[ConfigChange],
    timeout: Duration,
) -> Result<(), ConfigError> {
    let text = |text: &str| CString::new(text).map_err(|_| ConfigError::ZeroByte(text.to_owned()));
    let name = text(topic)?;
    let changes = changes
        .iter()
        .map(|change| {
            let value = change.value.as_deref().map(text).transpose()?;
            Ok((text(&change.key)?, value))
        })
        .collect::<Result<Vec<_>, ConfigError>>()?;
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: every object that is created here is destroyed here, exactly once and after its last
    // use; librdkafka copies the strings; what the event refers to is read before the event is
    // destroyed.
    unsafe {
        let handle = client.native_ptr();
        let mut resource = ffi::rd_kafka_ConfigResource_new(
            ffi::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC,
            name.as_ptr(),
        );
        for (key, value) in &changes {
            let (operation, value) = match value {
                Some(value) => (
                    ffi::rd_kafka_AlterConfigOpType_t::RD_KAFKA_ALTER_CONFIG_OP_TYPE_SET,
                    value.as_ptr(),
                ),
                None => (
                    ffi::rd_kafka_AlterConfigOpType_t::RD_KAFKA_ALTER_CONFIG_OP_TYPE_DELETE,
                    ptr::null(),
                ),
            };
            let refused = ffi::rd_kafka_ConfigResource_add_incremental_config(
                resource,
                key.as_ptr(),
                operation,
                value,
            );
            if !refused.is_null() {
                let why = owned(ffi::rd_kafka_error_string(refused));
                ffi::rd_kafka_error_destroy(refused);
                ffi::rd_kafka_ConfigResource_destroy(resource);
                return Err(ConfigError::Refused(why));
            }
        }
        let options = ffi::rd_kafka_AdminOptions_new(
            handle,
            ffi::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_INCREMENTALALTERCONFIGS,
        );
        let queue = ffi::rd_kafka_queue_new(handle);
        ffi::rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, ptr::null_mut(), 0);
        ffi::rd_kafka_IncrementalAlterConfigs(handle, &raw mut resource, 1, options, queue);
        let event = ffi::rd_kafka_queue_poll(queue, timeout_ms);
        let answer = if event.is_null() {
            Err(ConfigError::Silent(timeout))
        } else {
            altered(event)
        };
        if !event.is_null() {
            ffi::rd_kafka_event_destroy(event);
        }
        ffi::rd_kafka_queue_destroy(queue);
        ffi::rd_kafka_AdminOptions_destroy(options);
        ffi::rd_kafka_ConfigResource_destroy(resource);
        answer
    }
}

/// # Safety
/// `event` must be a live event; what is returned does not refer to it.
unsafe fn altered(event: *mut ffi::rd_kafka_event_t) -> Result<(), ConfigError> {
    // SAFETY: all pointers come from the event, are checked for null and are not kept.
    unsafe {
        let no_error = ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
        if ffi::rd_kafka_event_error(event) != no_error {
            return Err(ConfigError::Refused(owned(
                ffi::rd_kafka_event_error_string(event),
            )));
        }
        let result = ffi::rd_kafka_event_IncrementalAlterConfigs_result(event);
        if result.is_null() {
            return Err(ConfigError::Refused("an answer of another kind".to_owned()));
        }
        let mut count = 0;
        let resources =
            ffi::rd_kafka_IncrementalAlterConfigs_result_resources(result, &raw mut count);
        for index in 0..count {
            let resource = *resources.add(index);
            if ffi::rd_kafka_ConfigResource_error(resource) != no_error {
                return Err(ConfigError::Refused(owned(
                    ffi::rd_kafka_ConfigResource_error_string(resource),
                )));
            }
        }
        Ok(())
    }
}

/// # Safety
/// `text` is null or a NUL-terminated string.
unsafe fn owned(text: *const c_char) -> String {
    if text.is_null() {
        return "no reason given".to_owned();
    }
    // SAFETY: not null, and NUL-terminated by the caller's word; copied at once.
    unsafe { CStr::from_ptr(text).to_string_lossy().into_owned() }
}

/// # Safety
/// `event` must be a live event; what is returned does not refer to it.
unsafe fn described(
    event: *mut ffi::rd_kafka_event_t,
    timeout: Duration,
) -> Result<Option<TopicDescription>, DescribeError> {
    use ffi::rd_kafka_resp_err_t::{
        RD_KAFKA_RESP_ERR__TIMED_OUT as TIMED_OUT, RD_KAFKA_RESP_ERR__TRANSPORT as TRANSPORT,
        RD_KAFKA_RESP_ERR_NO_ERROR as NO_ERROR,
        RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART as UNKNOWN_TOPIC,
    };
    // SAFETY: all pointers come from the event, are checked for null and are not kept.
    unsafe {
        match ffi::rd_kafka_event_error(event) {
            NO_ERROR => {}
            TIMED_OUT | TRANSPORT => return Err(DescribeError::Silent(timeout)),
            _ => {
                return Err(DescribeError::Refused(owned(
                    ffi::rd_kafka_event_error_string(event),
                )));
            }
        }
        let result = ffi::rd_kafka_event_DescribeTopics_result(event);
        let mut count = 0;
        let topics = if result.is_null() {
            ptr::null_mut()
        } else {
            ffi::rd_kafka_DescribeTopics_result_topics(result, &raw mut count)
        };
        if topics.is_null() || count == 0 {
            return Err(DescribeError::Refused(
                "an answer of another kind".to_owned(),
            ));
        }
        let description = *topics;
        let error = ffi::rd_kafka_TopicDescription_error(description);
        if !error.is_null() {
            match ffi::rd_kafka_error_code(error) {
                NO_ERROR => {}
                UNKNOWN_TOPIC => return Ok(None),
                _ => {
                    return Err(DescribeError::Refused(owned(ffi::rd_kafka_error_string(
                        error,
                    ))));
                }
            }
        }
        let mut partitions = 0;
        let infos = ffi::rd_kafka_TopicDescription_partitions(description, &raw mut partitions);
        let mut fewest = None;
        for index in 0..partitions {
            let mut replicas = 0;
            ffi::rd_kafka_TopicPartitionInfo_replicas(*infos.add(index), &raw mut replicas);
            fewest = Some(fewest.map_or(replicas, |fewest: usize| fewest.min(replicas)));
        }
        Ok(Some(TopicDescription {
            id: id_of(description),
            partitions,
            replication_factor: fewest.unwrap_or(0),
        }))
    }
}

/// # Safety
/// `description` is alive; what is returned does not refer to it.
unsafe fn id_of(description: *const ffi::rd_kafka_TopicDescription_t) -> Option<String> {
    // SAFETY: the id belongs to the description and is copied.
    unsafe {
        let id = ffi::rd_kafka_TopicDescription_topic_id(description);
        let text = if id.is_null() {
            ptr::null()
        } else {
            ffi::rd_kafka_Uuid_base64str(id)
        };
        // brokers without topic ids answer with the zero id
        (!text.is_null())
            .then(|| owned(text))
            .filter(|text| !text.is_empty() && text.bytes().any(|b| b != b'A'))
    }
}

/// # Safety
/// `event` is a live answer about topics; what is returned does not refer to it.
unsafe fn described_all(event: *mut ffi::rd_kafka_event_t) -> Vec<TopicLeaders> {
    let mut found = Vec::new();
    // SAFETY: all pointers come from the event, are checked for null and are not kept.
    unsafe {
        let result = ffi::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return found;
        }
        let mut count = 0;
        let topics = ffi::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        for index in 0..count {
            let description = *topics.add(index);
            let error = ffi::rd_kafka_TopicDescription_error(description);
            let no_error = ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
            if !error.is_null() && ffi::rd_kafka_error_code(error) != no_error {
                continue;
            }
            let mut partitions = 0;
            let infos = ffi::rd_kafka_TopicDescription_partitions(description, &raw mut partitions);
            let leaders = (0..partitions).map(|index| {
                let info = *infos.add(index);
                let leader = ffi::rd_kafka_TopicPartitionInfo_leader(info);
                let leader = (!leader.is_null()).then(|| ffi::rd_kafka_Node_id(leader));
                (
                    ffi::rd_kafka_TopicPartitionInfo_partition(info),
                    leader.filter(|id| *id >= 0),
                )
            });
            found.push(TopicLeaders {
                name: owned(ffi::rd_kafka_TopicDescription_name(description)),
                id: id_of(description),
                leaders: leaders.collect(),
            });
        }
    }
    found
}
