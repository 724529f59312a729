//! Whole numbers on the command line, refused in words that say what is allowed.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Takes a whole number of this range.
pub(crate) fn within<N>(
    range: RangeInclusive<N>,
) -> impl Fn(&str) -> Result<N, String> + Clone + Send + Sync + 'static
where
    N: FromStr + PartialOrd + Display + Clone + Send + Sync + 'static,
{
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            format!("expected a whole number from {least} to {most}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_numbers_of_the_range_are_taken() {
        let number = within(1..=1000_u32);
        assert_eq!(number("1"), Ok(1));
        assert_eq!(number("1000"), Ok(1000));
        for text in ["0", "1001", "-1", "1.5", "", "many", "99999999999999999999"] {
            let refused = Err("expected a whole number from 1 to 1000".to_owned());
            assert_eq!(number(text), refused, "{text}");
        }
    }
}
