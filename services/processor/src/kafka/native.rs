//! Two questions that librdkafka answers and rust-rdkafka does not ask: the log's end as the fetcher last saw it, and a
//! topic's id. The only unsafe code of the project.
#![expect(
    unsafe_code,
    reason = "calls into librdkafka, each with its guarantee beside it"
)]

use std::{
    ffi::{CStr, CString, c_char},
    ptr,
    time::Duration,
};

use rdkafka::{
    bindings as ffi,
    client::{Client, ClientContext},
};

/// The log's bounds `(start, end)` as the fetcher last saw them: no request is sent. `None` until something was fetched.
pub fn seen_watermarks<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    partition: i32,
) -> Option<(i64, i64)> {
    let topic = CString::new(topic).ok()?;
    let (mut low, mut high) = (-1, -1);
    // SAFETY: the handle lives as long as `client`, the name is NUL-terminated, and both results are written to locals.
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

/// The id that Kafka gave a topic, in its base64 form; `None` where the broker does not tell it (before Kafka 2.8), does not
/// know the topic or does not answer in time.
pub fn topic_id<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
) -> Option<String> {
    let topic = CString::new(topic).ok()?;
    let timeout = i32::try_from(timeout.as_millis()).ok()?;
    let mut names = [topic.as_ptr()];
    // SAFETY: every object that is created here is destroyed here, exactly once and after its last use; the strings that
    // are read belong to the event and are copied before it is destroyed; librdkafka copies the names.
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
        ffi::rd_kafka_AdminOptions_set_request_timeout(options, timeout, ptr::null_mut(), 0);
        ffi::rd_kafka_DescribeTopics(handle, collection, options, queue);
        let event = ffi::rd_kafka_queue_poll(queue, timeout);
        let id = if event.is_null() {
            None
        } else {
            described_id(event)
        };
        if !event.is_null() {
            ffi::rd_kafka_event_destroy(event);
        }
        ffi::rd_kafka_queue_destroy(queue);
        ffi::rd_kafka_AdminOptions_destroy(options);
        ffi::rd_kafka_TopicCollection_destroy(collection);
        id
    }
}

/// # Safety
/// `event` must be a live event; what is returned does not refer to it.
unsafe fn described_id(event: *mut ffi::rd_kafka_event_t) -> Option<String> {
    // SAFETY: all pointers come from the event, are checked for null and are not kept.
    unsafe {
        let result = ffi::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return None;
        }
        let mut count = 0;
        let topics = ffi::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if topics.is_null() || count == 0 {
            return None;
        }
        let description = *topics;
        let error = ffi::rd_kafka_TopicDescription_error(description);
        if !error.is_null()
            && ffi::rd_kafka_error_code(error)
                != ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
        {
            return None;
        }
        let id = ffi::rd_kafka_TopicDescription_topic_id(description);
        let text = if id.is_null() {
            ptr::null()
        } else {
            ffi::rd_kafka_Uuid_base64str(id)
        };
        if text.is_null() {
            return None;
        }
        let text = CStr::from_ptr(text).to_string_lossy().into_owned();
        // brokers without topic ids answer with the zero id
        (!text.is_empty() && text.bytes().any(|b| b != b'A')).then_some(text)
    }
}
