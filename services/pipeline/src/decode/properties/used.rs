//! Where the values stand that became fields.

use crate::decode::Field;

/// Where in a text the values of fields stand.
pub(super) struct Used {
    /// Start and length, in order.
    places: [(usize, usize); Field::ALL.len()],
    /// The first that may still come.
    next: usize,
}

impl Used {
    /// Of the raw values those that are slices of the text.
    pub(super) fn in_order(text: &str, values: &[Option<&str>]) -> Self {
        let mut places = [(usize::MAX, 0); Field::ALL.len()];
        for (place, raw) in places.iter_mut().zip(values) {
            if let Some(raw) = raw {
                let start = (raw.as_ptr() as usize).wrapping_sub(text.as_ptr() as usize);
                *place = (start, raw.len());
            }
        }
        places.sort_unstable();
        Self { places, next: 0 }
    }

    /// Length of the field's value that begins here. Places are asked for in their order.
    #[inline]
    pub(super) fn at(&mut self, place: usize) -> Option<usize> {
        while let Some(&(start, len)) = self.places.get(self.next)
            && start <= place
        {
            if start == place {
                return Some(len);
            }
            self.next += 1;
        }
        None
    }
}
