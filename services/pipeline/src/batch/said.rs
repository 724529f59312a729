//! Which of the values that came after the first releases the events of a batch have.

/// A value that events of the first releases did not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    /// A place in a record that holds several events, other than the first.
    Index,
    /// A name that is not that of a page view.
    EventName,
    /// A site.
    Site,
    /// A page that rules made of the URL.
    Page,
    /// The host of the referrer.
    ReferrerHost,
    /// Something of a campaign.
    Campaign,
    /// A signal of a bot.
    Bot,
    /// Properties.
    Properties,
}

/// A set of such values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said(u8);

impl Said {
    /// None of them.
    pub const NOTHING: Self = Self(0);
    /// All of them.
    pub const EVERYTHING: Self = Self(u8::MAX);

    /// Whether an event has such a value.
    #[must_use]
    #[inline]
    pub const fn holds(self, more: More) -> bool {
        self.0 & (1 << more as u8) != 0
    }

    /// Adds the value if the event has it.
    #[inline]
    pub(super) fn add(&mut self, more: More, is_there: bool) {
        self.0 |= u8::from(is_there) << more as u8;
    }
}
