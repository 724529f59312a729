//! Records that a decoder must refuse, whatever the spec, one variant per way to be wrong, each
//! with the verdict it must get.

use clickstream_pipeline::decode::{Field, RejectReason};

/// A way in which a record is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Malformed {
    /// Zero bytes (not a null value).
    Empty,
    /// One byte longer than the limit.
    TooLarge,
    /// A byte that occurs in no UTF-8 text.
    InvalidUtf8,
    /// An event cut off in the middle.
    Truncated,
    /// A complete event with a brace too many.
    TrailingGarbage,
    /// Two events in one record.
    TwoObjects,
    /// An event behind a byte order mark.
    ByteOrderMark,
    /// An array that holds an event.
    Array,
    /// A JSON string.
    Text,
    /// No `event_id`.
    NoEventId,
    /// The nil UUID.
    NilEventId,
    /// An `event_id` that is neither text nor a number.
    BadEventId,
    /// An `event_id` of 201 characters.
    LongEventId,
    /// No `user_id`.
    NoUserId,
    /// An empty `user_id`.
    EmptyUserId,
    /// A `user_id` written with an exponent.
    UserIdWithExponent,
    /// A `user_id` one beyond 64 bits.
    UserIdOverflow,
    /// A `user_id` of 129 characters.
    LongUserId,
    /// `event_ts` is null.
    NullEventTs,
    /// `event_ts` is prose.
    BadEventTs,
    /// A date without a time of day.
    NoTimeOfDay,
    /// Second 60.
    LeapSecond,
    /// 30 February.
    NoSuchDay,
    /// Minutes since 1970, which is no unit that is read.
    EpochMinutes,
    /// The microsecond before the year 2000.
    Year1999,
    /// The year 9999.
    Year9999,
    /// The year 2099, decades after the record's own time.
    Future,
    /// No `url`.
    NoUrl,
    /// An empty `url`.
    EmptyUrl,
    /// A `url` of 8193 bytes.
    LongUrl,
    /// `url` twice.
    RepeatedUrl,
    /// An escaped U+0000 in `url`.
    NulInUrl,
    /// Half of a surrogate pair in `url`.
    LoneSurrogate,
    /// A `url` that is a number.
    NumericUrl,
}

/// What to do with a complete event to make it wrong.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// Write this JSON token in place of the field's own, or leave the field out.
    Field(Field, Option<String>),
    /// Change the finished bytes.
    Bytes,
}

impl Malformed {
    /// Every way to be wrong.
    pub const ALL: [Self; 34] = [
        Self::Empty,
        Self::TooLarge,
        Self::InvalidUtf8,
        Self::Truncated,
        Self::TrailingGarbage,
        Self::TwoObjects,
        Self::ByteOrderMark,
        Self::Array,
        Self::Text,
        Self::NoEventId,
        Self::NilEventId,
        Self::BadEventId,
        Self::LongEventId,
        Self::NoUserId,
        Self::EmptyUserId,
        Self::UserIdWithExponent,
        Self::UserIdOverflow,
        Self::LongUserId,
        Self::NullEventTs,
        Self::BadEventTs,
        Self::NoTimeOfDay,
        Self::LeapSecond,
        Self::NoSuchDay,
        Self::EpochMinutes,
        Self::Year1999,
        Self::Year9999,
        Self::Future,
        Self::NoUrl,
        Self::EmptyUrl,
        Self::LongUrl,
        Self::RepeatedUrl,
        Self::NulInUrl,
        Self::LoneSurrogate,
        Self::NumericUrl,
    ];

    /// The verdict that the decoder must give.
    #[must_use]
    pub const fn expected(self) -> (RejectReason, Option<Field>) {
        use RejectReason as R;
        match self {
            Self::Empty => (R::Empty, None),
            Self::TooLarge => (R::TooLarge, None),
            Self::InvalidUtf8 => (R::InvalidUtf8, None),
            Self::Truncated | Self::TrailingGarbage | Self::TwoObjects | Self::ByteOrderMark => {
                (R::InvalidJson, None)
            }
            Self::Array | Self::Text => (R::NotAnObject, None),
            Self::NoEventId => (R::MissingField, Some(Field::EventId)),
            Self::NilEventId | Self::BadEventId | Self::LongEventId => {
                (R::InvalidField, Some(Field::EventId))
            }
            Self::NoUserId => (R::MissingField, Some(Field::UserId)),
            Self::EmptyUserId
            | Self::UserIdWithExponent
            | Self::UserIdOverflow
            | Self::LongUserId => (R::InvalidField, Some(Field::UserId)),
            Self::NullEventTs => (R::MissingField, Some(Field::EventTs)),
            Self::BadEventTs | Self::NoTimeOfDay | Self::LeapSecond | Self::NoSuchDay => {
                (R::InvalidField, Some(Field::EventTs))
            }
            Self::EpochMinutes | Self::Year1999 | Self::Year9999 => {
                (R::TimestampOutOfRange, Some(Field::EventTs))
            }
            Self::Future => (R::TimestampInFuture, Some(Field::EventTs)),
            Self::NoUrl => (R::MissingField, Some(Field::Url)),
            Self::EmptyUrl
            | Self::LongUrl
            | Self::RepeatedUrl
            | Self::NulInUrl
            | Self::LoneSurrogate
            | Self::NumericUrl => (R::InvalidField, Some(Field::Url)),
        }
    }

    /// How to make a complete event wrong in this way.
    pub(super) fn fault(self) -> Fault {
        let text = |field, token: &str| Fault::Field(field, Some(token.to_owned()));
        let long = |field, length| Fault::Field(field, Some(format!("\"{}\"", "x".repeat(length))));
        match self {
            Self::Empty
            | Self::TooLarge
            | Self::InvalidUtf8
            | Self::Truncated
            | Self::TrailingGarbage
            | Self::TwoObjects
            | Self::ByteOrderMark
            | Self::Array
            | Self::Text
            | Self::RepeatedUrl => Fault::Bytes,
            Self::NoEventId => Fault::Field(Field::EventId, None),
            Self::NilEventId => text(Field::EventId, "\"00000000-0000-0000-0000-000000000000\""),
            Self::BadEventId => text(Field::EventId, "true"),
            Self::LongEventId => long(Field::EventId, 201),
            Self::NoUserId => Fault::Field(Field::UserId, None),
            Self::EmptyUserId => text(Field::UserId, "\"\""),
            Self::UserIdWithExponent => text(Field::UserId, "1e3"),
            Self::UserIdOverflow => text(Field::UserId, "9223372036854775808"),
            Self::LongUserId => long(Field::UserId, 129),
            Self::NullEventTs => text(Field::EventTs, "null"),
            Self::BadEventTs => text(Field::EventTs, "\"yesterday\""),
            Self::NoTimeOfDay => text(Field::EventTs, "\"2026-03-01\""),
            Self::LeapSecond => text(Field::EventTs, "\"2016-12-31T23:59:60Z\""),
            Self::NoSuchDay => text(Field::EventTs, "\"2026-02-30T00:00:00Z\""),
            Self::EpochMinutes => text(Field::EventTs, "29525040"),
            Self::Year1999 => text(Field::EventTs, "\"1999-12-31T23:59:59.999999Z\""),
            Self::Year9999 => text(Field::EventTs, "\"9999-12-31T23:59:59Z\""),
            Self::Future => text(Field::EventTs, "\"2099-06-15T12:00:00Z\""),
            Self::NoUrl => Fault::Field(Field::Url, None),
            Self::EmptyUrl => text(Field::Url, "\"\""),
            Self::LongUrl => long(Field::Url, 8_193),
            Self::NulInUrl => text(Field::Url, "\"/a\\u0000b\""),
            Self::LoneSurrogate => text(Field::Url, "\"https://a.example/\\ud83d\""),
            Self::NumericUrl => text(Field::Url, "7"),
        }
    }

    /// Spoils the bytes of a complete event; only for the variants whose fault is [`Fault::Bytes`].
    pub(super) fn spoil(self, mut event: Vec<u8>, max_event_bytes: usize) -> Vec<u8> {
        match self {
            Self::Empty => event.clear(),
            Self::TooLarge => {
                event.pop();
                let close = b"\"}";
                event.extend_from_slice(b",\"padding\":\"");
                let filled = (max_event_bytes + 1)
                    .saturating_sub(close.len())
                    .max(event.len());
                event.resize(filled, b'x');
                event.extend_from_slice(close);
            }
            Self::InvalidUtf8 => {
                // 0xff before the quote that ends the last string
                let at = event.iter().rposition(|&byte| byte == b'"').unwrap_or(0);
                event.insert(at, 0xff);
            }
            Self::Truncated => {
                // an event is ASCII but for a few products: cut where a character ends
                let half = event.len() / 2;
                let cut = (half..event.len())
                    .find(|&at| event[at].is_ascii())
                    .unwrap_or(half);
                event.truncate(cut);
            }
            Self::TrailingGarbage => event.push(b'}'),
            Self::TwoObjects => event.extend_from_within(..),
            Self::ByteOrderMark => {
                event.splice(..0, *b"\xef\xbb\xbf");
            }
            Self::Array => {
                event.insert(0, b'[');
                event.push(b']');
            }
            Self::Text => return b"\"click\"".to_vec(),
            Self::RepeatedUrl => {
                event.pop();
                event.extend_from_slice(b",\"url\":\"https://shop.example/other\"}");
            }
            _ => {}
        }
        event
    }
}
