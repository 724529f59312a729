//! Questions to the brokers that nobody waits for: the answers come back through a queue. Each is
//! numbered by who asks.

use std::{
    ffi::{CString, c_void},
    ptr::{self, NonNull},
    time::Duration,
};

use rdkafka::{
    bindings as ffi,
    client::{Client, ClientContext},
};

use crate::{described_all, owned};

/// One end of a log.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum LogEnd {
    /// The first offset that is still there.
    Start,
    /// Behind the last record that is given out: open transactions are not.
    End,
}

/// A topic, its id and who leads its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicLeaders {
    /// Its name.
    pub name: String,
    /// The id that Kafka gave it; `None` where the broker does not tell it.
    pub id: Option<String>,
    /// The broker that leads each partition, by the partition's number; `None`: nobody does.
    pub leaders: Vec<(i32, Option<i32>)>,
}

/// What the brokers have answered; `Err`: in their words, or librdkafka's, why not.
#[derive(Debug)]
pub enum Answer {
    /// The topics that are there, of those that were asked for.
    Topics(Result<Vec<TopicLeaders>, String>),
    /// An offset of each partition, where its leader told it.
    Offsets(Result<Vec<(String, i32, Option<i64>)>, String>),
}

/// A queue of answers. It must be dropped before its client.
pub struct Questions(NonNull<ffi::rd_kafka_queue_t>);

// SAFETY: librdkafka's queues may be used by any thread.
unsafe impl Send for Questions {}

impl Questions {
    /// For this client.
    ///
    /// # Panics
    /// librdkafka never returns a null queue.
    pub fn of<C: ClientContext>(client: &Client<C>) -> Self {
        // SAFETY: the handle is alive.
        let queue = unsafe { ffi::rd_kafka_queue_new(client.native_ptr()) };
        Self(NonNull::new(queue).expect("librdkafka aborts where it gets no memory"))
    }

    /// Asks what there is of these topics.
    pub fn topics<C: ClientContext>(
        &self,
        client: &Client<C>,
        topics: &[&str],
        number: u64,
        timeout: Duration,
    ) {
        let names: Vec<_> = topics
            .iter()
            .filter_map(|name| CString::new(*name).ok())
            .collect();
        let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
        // SAFETY: what is created here is destroyed here, after its last use; librdkafka copies the
        // names.
        unsafe {
            let handle = client.native_ptr();
            let collection =
                ffi::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
            let options = options(
                handle,
                ffi::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
                number,
                timeout,
            );
            ffi::rd_kafka_DescribeTopics(handle, collection, options, self.0.as_ptr());
            ffi::rd_kafka_AdminOptions_destroy(options);
            ffi::rd_kafka_TopicCollection_destroy(collection);
        }
    }

    /// Asks for one end of these logs. One that has no leader holds up the answer for the others,
    /// for up to `timeout`.
    pub fn offsets<C: ClientContext>(
        &self,
        client: &Client<C>,
        partitions: &[(&str, i32)],
        which: LogEnd,
        number: u64,
        timeout: Duration,
    ) {
        let offset = match which {
            LogEnd::Start => ffi::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_EARLIEST as i32,
            LogEnd::End => ffi::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_LATEST as i32,
        };
        // SAFETY: what is created here is destroyed here, after its last use; librdkafka copies the
        // list.
        unsafe {
            let handle = client.native_ptr();
            let list = ffi::rd_kafka_topic_partition_list_new(
                i32::try_from(partitions.len()).unwrap_or(0),
            );
            for (topic, partition) in partitions {
                if let Ok(topic) = CString::new(*topic) {
                    let added =
                        ffi::rd_kafka_topic_partition_list_add(list, topic.as_ptr(), *partition);
                    (*added).offset = i64::from(offset);
                }
            }
            let options = options(
                handle,
                ffi::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS,
                number,
                timeout,
            );
            let refused = ffi::rd_kafka_AdminOptions_set_isolation_level(
                options,
                ffi::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED,
            );
            if !refused.is_null() {
                ffi::rd_kafka_error_destroy(refused);
            }
            ffi::rd_kafka_ListOffsets(handle, list, options, self.0.as_ptr());
            ffi::rd_kafka_AdminOptions_destroy(options);
            ffi::rd_kafka_topic_partition_list_destroy(list);
        }
    }

    /// The next answer with its number, waited for up to `timeout`.
    pub fn poll(&self, timeout: Duration) -> Option<(u64, Answer)> {
        let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the queue is alive; the event is destroyed here, after what it holds was copied.
        unsafe {
            let event = ffi::rd_kafka_queue_poll(self.0.as_ptr(), millis);
            if event.is_null() {
                return None;
            }
            let number = ffi::rd_kafka_event_opaque(event).addr() as u64;
            let failed = (ffi::rd_kafka_event_error(event)
                != ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR)
                .then(|| owned(ffi::rd_kafka_event_error_string(event)));
            let answer = match ffi::rd_kafka_event_type(event) {
                ffi::RD_KAFKA_EVENT_LISTOFFSETS_RESULT => {
                    Answer::Offsets(failed.map_or_else(|| Ok(offsets(event)), Err))
                }
                _ => Answer::Topics(failed.map_or_else(|| Ok(described_all(event)), Err)),
            };
            ffi::rd_kafka_event_destroy(event);
            Some((number, answer))
        }
    }
}

impl Drop for Questions {
    fn drop(&mut self) {
        // SAFETY: made by `of`, destroyed here only.
        unsafe { ffi::rd_kafka_queue_destroy(self.0.as_ptr()) }
    }
}

/// # Safety
/// `handle` is alive. Whoever calls destroys what is returned.
unsafe fn options(
    handle: *mut ffi::rd_kafka_t,
    operation: ffi::rd_kafka_admin_op_t,
    number: u64,
    timeout: Duration,
) -> *mut ffi::rd_kafka_AdminOptions_t {
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: by the caller's word. The opaque is a number, which nobody follows.
    unsafe {
        let options = ffi::rd_kafka_AdminOptions_new(handle, operation);
        ffi::rd_kafka_AdminOptions_set_request_timeout(options, millis, ptr::null_mut(), 0);
        let opaque: *mut c_void =
            ptr::without_provenance_mut(usize::try_from(number).unwrap_or(usize::MAX));
        ffi::rd_kafka_AdminOptions_set_opaque(options, opaque);
        options
    }
}

/// # Safety
/// `event` is a live answer to a question for offsets; what is returned does not refer to it.
unsafe fn offsets(event: *mut ffi::rd_kafka_event_t) -> Vec<(String, i32, Option<i64>)> {
    let mut found = Vec::new();
    // SAFETY: all pointers come from the event, are checked for null and are not kept.
    unsafe {
        let result = ffi::rd_kafka_event_ListOffsets_result(event);
        if result.is_null() {
            return found;
        }
        let mut count = 0;
        let infos = ffi::rd_kafka_ListOffsets_result_infos(result, &raw mut count);
        for index in 0..count {
            let place = ffi::rd_kafka_ListOffsetsResultInfo_topic_partition(*infos.add(index));
            let known = (*place).err == ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
            let offset = Some((*place).offset).filter(|offset| known && *offset >= 0);
            found.push((owned((*place).topic), (*place).partition, offset));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::time::Duration;

    use rdkafka::{ClientConfig, consumer::BaseConsumer, consumer::Consumer};

    use super::{Answer, LogEnd, Questions};

    #[test]
    fn a_question_that_nobody_answers_comes_back_with_its_number() {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", "127.0.0.1:1")
            .create()
            .unwrap();
        let client = consumer.client();
        let questions = Questions::of(client);
        assert!(questions.poll(Duration::ZERO).is_none());
        let timeout = Duration::from_millis(300);
        questions.offsets(client, &[("clicks", 3)], LogEnd::End, 7, timeout);
        questions.topics(client, &["clicks"], 8, timeout);
        let mut failed = Vec::new();
        while failed.len() < 2 {
            let (number, answer) = questions.poll(Duration::from_secs(20)).unwrap();
            match answer {
                Answer::Offsets(Ok(found)) => assert!(found.iter().all(|(.., at)| at.is_none())),
                Answer::Topics(Ok(found)) => assert_eq!(found, []),
                Answer::Offsets(Err(why)) | Answer::Topics(Err(why)) => assert!(!why.is_empty()),
            }
            failed.push(number);
        }
        failed.sort_unstable();
        assert_eq!(failed, [7, 8]);
    }
}
