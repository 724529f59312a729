//! Polling a consumer. rust-rdkafka tells of an error neither the partition nor the offset, and of
//! the end of a log only the partition's number; librdkafka tells all of it.

use std::{
    ffi::{CStr, c_void},
    marker::PhantomData,
    ptr::{self, NonNull},
    time::Duration,
};

use rdkafka::{
    bindings as ffi,
    client::ClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, Headers},
    topic_partition_list::TopicPartitionList,
};

use crate::owned;

/// What one poll has brought.
pub enum Polled<'a> {
    /// A record.
    Record(Record<'a>),
    /// The end of a partition's log was reached: everything below `offset` was handed out, or is no
    /// record.
    End {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// Where the log ends.
        offset: i64,
    },
    /// Something failed.
    Failed(Failed),
    /// Something was served by the context: a rebalance, a line of the log, statistics.
    Served,
}

/// What failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The kind of error.
    pub code: RDKafkaErrorCode,
    /// The partition that it is about, if it is about one.
    pub place: Option<(String, i32)>,
    /// The offset there, if librdkafka knows it.
    pub offset: Option<i64>,
    /// librdkafka's words.
    pub reason: String,
    /// The client cannot go on.
    pub fatal: bool,
}

/// The queue of a consumer.
pub struct ConsumerQueue(NonNull<ffi::rd_kafka_queue_t>);

// SAFETY: librdkafka's queues may be used by any thread.
unsafe impl Send for ConsumerQueue {}
// SAFETY: as above.
unsafe impl Sync for ConsumerQueue {}

impl ConsumerQueue {
    /// The queue of this consumer, which it must outlive; `None`: it is in no group.
    pub fn of<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Option<Self> {
        // SAFETY: the handle is alive; the reference that is returned is given back when this is
        // dropped.
        let queue = unsafe { ffi::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) };
        NonNull::new(queue).map(Self)
    }

    /// Waits for up to `timeout` for what comes next. The context is called as by rust-rdkafka, on
    /// this thread.
    pub fn poll<'a, C: ConsumerContext>(
        &'a self,
        consumer: &'a BaseConsumer<C>,
        timeout: Duration,
    ) -> Option<Polled<'a>> {
        let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the queue is alive; the event that is returned is destroyed exactly once, by
        // `Event`.
        let event = Event(NonNull::new(unsafe {
            ffi::rd_kafka_queue_poll(self.0.as_ptr(), millis)
        })?);
        Some(event.serve(consumer))
    }
}

impl Drop for ConsumerQueue {
    fn drop(&mut self) {
        // SAFETY: the reference was taken by `of` and is given back here only.
        unsafe { ffi::rd_kafka_queue_destroy(self.0.as_ptr()) }
    }
}

struct Event(NonNull<ffi::rd_kafka_event_t>);

// SAFETY: an event belongs to whoever polled it.
unsafe impl Send for Event {}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: made by `poll`, destroyed here only.
        unsafe { ffi::rd_kafka_event_destroy(self.0.as_ptr()) }
    }
}

impl Event {
    fn serve<C: ConsumerContext>(self, consumer: &BaseConsumer<C>) -> Polled<'_> {
        let context = consumer.context();
        // SAFETY: the event is alive; what is read is copied, or kept together with the event.
        match unsafe { ffi::rd_kafka_event_type(self.0.as_ptr()) } {
            ffi::RD_KAFKA_EVENT_FETCH => {
                // SAFETY: a fetch event holds one message, which lives as long as the event.
                let message = unsafe { ffi::rd_kafka_event_message_next(self.0.as_ptr()) };
                match NonNull::new(message.cast_mut()) {
                    Some(message) => {
                        return Polled::Record(Record {
                            message,
                            _event: self,
                            _consumer: PhantomData,
                        });
                    }
                    None => return Polled::Served,
                }
            }
            ffi::RD_KAFKA_EVENT_ERROR => return self.failed(&**context),
            ffi::RD_KAFKA_EVENT_LOG => self.log(&**context),
            ffi::RD_KAFKA_EVENT_STATS => {
                // SAFETY: the text is NUL-terminated and lives as long as the event.
                let text = unsafe { CStr::from_ptr(ffi::rd_kafka_event_stats(self.0.as_ptr())) };
                context.stats_raw(text.to_bytes());
            }
            ffi::RD_KAFKA_EVENT_REBALANCE => {
                // SAFETY: the event is alive.
                let kind = unsafe { ffi::rd_kafka_event_error(self.0.as_ptr()) };
                context.rebalance(consumer, kind, &mut self.partitions());
            }
            ffi::RD_KAFKA_EVENT_OFFSET_COMMIT => {
                // SAFETY: the event is alive.
                let code = unsafe { ffi::rd_kafka_event_error(self.0.as_ptr()) };
                let result = match code {
                    ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
                    code => Err(KafkaError::ConsumerCommit(code.into())),
                };
                context.commit_callback(result, &self.partitions());
            }
            _ => {}
        }
        Polled::Served
    }

    /// The partitions that the event names.
    fn partitions(&self) -> TopicPartitionList {
        let mut partitions = TopicPartitionList::new();
        // SAFETY: the list belongs to the event and is only read; its texts are copied.
        unsafe {
            let list = ffi::rd_kafka_event_topic_partition_list(self.0.as_ptr());
            if !list.is_null() {
                for index in 0..usize::try_from((*list).cnt).unwrap_or(0) {
                    let element = &*(*list).elems.add(index);
                    partitions.add_partition(&owned(element.topic), element.partition);
                }
            }
        }
        partitions
    }

    fn failed(&self, context: &impl ClientContext) -> Polled<'static> {
        let event = self.0.as_ptr();
        // SAFETY: the event is alive; the partition is copied and then destroyed, exactly once.
        let (code, reason, fatal, place) = unsafe {
            let named = ffi::rd_kafka_event_topic_partition(event);
            let place = (!named.is_null()).then(|| {
                let place = (owned((*named).topic), (*named).partition, (*named).offset);
                ffi::rd_kafka_topic_partition_destroy(named);
                place
            });
            (
                ffi::rd_kafka_event_error(event),
                owned(ffi::rd_kafka_event_error_string(event)),
                ffi::rd_kafka_event_error_is_fatal(event) != 0,
                place,
            )
        };
        let code = RDKafkaErrorCode::from(code);
        match place {
            Some((topic, partition, offset)) if code == RDKafkaErrorCode::PartitionEOF => {
                Polled::End {
                    topic,
                    partition,
                    offset,
                }
            }
            place => {
                if place.is_none() {
                    context.error(KafkaError::Global(code), &reason);
                }
                let offset = place.as_ref().map(|place| place.2);
                Polled::Failed(Failed {
                    code,
                    place: place.map(|(topic, partition, _)| (topic, partition)),
                    offset: offset.filter(|offset| *offset >= 0),
                    reason,
                    fatal,
                })
            }
        }
    }

    fn log(&self, context: &impl ClientContext) {
        let (mut facility, mut line, mut level) = (ptr::null(), ptr::null(), 0);
        // SAFETY: both texts belong to the event and are copied.
        let (none, facility, line) = unsafe {
            let none = ffi::rd_kafka_event_log(
                self.0.as_ptr(),
                &raw mut facility,
                &raw mut line,
                &raw mut level,
            );
            (none, owned(facility), owned(line))
        };
        if none == 0 {
            let level = match level {
                0 => RDKafkaLogLevel::Emerg,
                1 => RDKafkaLogLevel::Alert,
                2 => RDKafkaLogLevel::Critical,
                3 => RDKafkaLogLevel::Error,
                4 => RDKafkaLogLevel::Warning,
                5 => RDKafkaLogLevel::Notice,
                6 => RDKafkaLogLevel::Info,
                _ => RDKafkaLogLevel::Debug,
            };
            context.log(level, facility.trim(), line.trim());
        }
    }
}

/// A record, in the memory of its consumer.
pub struct Record<'a> {
    message: NonNull<ffi::rd_kafka_message_t>,
    _event: Event,
    _consumer: PhantomData<&'a ()>,
}

impl Record<'_> {
    fn raw(&self) -> &ffi::rd_kafka_message_t {
        // SAFETY: the message lives as long as the event, which this holds.
        unsafe { self.message.as_ref() }
    }

    /// Its topic.
    pub fn topic(&self) -> &str {
        // SAFETY: the message keeps its topic, whose name is NUL-terminated.
        let name = unsafe { CStr::from_ptr(ffi::rd_kafka_topic_name(self.raw().rkt)) };
        // Kafka's names of topics are ASCII
        name.to_str().unwrap_or_default()
    }

    /// Its partition.
    pub fn partition(&self) -> i32 {
        self.raw().partition
    }

    /// Its offset.
    pub fn offset(&self) -> i64 {
        self.raw().offset
    }

    /// Its value; `None`: it has none.
    pub fn value(&self) -> Option<&[u8]> {
        let raw = self.raw();
        if raw.payload.is_null() {
            return None;
        }
        // SAFETY: librdkafka says where the value is and how long; it lives as long as the message.
        Some(unsafe { std::slice::from_raw_parts(raw.payload.cast(), raw.len) })
    }

    /// Its timestamp in milliseconds; `None`: it has none.
    pub fn timestamp_millis(&self) -> Option<i64> {
        let mut kind = ffi::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive; the kind is written to a local.
        let millis =
            unsafe { ffi::rd_kafka_message_timestamp(self.message.as_ptr(), &raw mut kind) };
        let known = kind != ffi::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        (known && millis != -1).then_some(millis)
    }

    /// Its headers; `None`: it has none.
    pub fn headers(&self) -> Option<RecordHeaders<'_>> {
        let mut headers = ptr::null_mut();
        // SAFETY: the message is alive; the headers belong to it.
        let code =
            unsafe { ffi::rd_kafka_message_headers(self.message.as_ptr(), &raw mut headers) };
        let found = code == ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
        Some(RecordHeaders {
            headers: NonNull::new(headers).filter(|_| found)?,
            _record: PhantomData,
        })
    }
}

/// The headers of a record.
pub struct RecordHeaders<'a> {
    headers: NonNull<ffi::rd_kafka_headers_t>,
    _record: PhantomData<&'a ()>,
}

impl Headers for RecordHeaders<'_> {
    fn count(&self) -> usize {
        // SAFETY: the headers live as long as their record.
        unsafe { ffi::rd_kafka_header_cnt(self.headers.as_ptr()) }
    }

    fn try_get(&self, index: usize) -> Option<Header<'_, &[u8]>> {
        let (mut key, mut value, mut length) = (ptr::null(), ptr::null::<c_void>(), 0);
        // SAFETY: the headers live as long as their record; what is returned refers to them.
        unsafe {
            let code = ffi::rd_kafka_header_get_all(
                self.headers.as_ptr(),
                index,
                &raw mut key,
                &raw mut value,
                &raw mut length,
            );
            if code != ffi::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return None;
            }
            Some(Header {
                key: CStr::from_ptr(key).to_str().unwrap_or_default(),
                value: (!value.is_null())
                    .then(|| std::slice::from_raw_parts(value.cast::<u8>(), length)),
            })
        }
    }
}
