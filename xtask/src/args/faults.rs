//! `cargo xtask faults`.

use std::time::Duration;

/// Which faults, and how often.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask faults --list                 what is broken, what must hold, which test does it
  cargo xtask faults --quick                the rows that take less than ten seconds each
  cargo xtask faults --only F4,F12 --seeds 20
  cargo xtask faults --soak 30m             three faults at a time, for so long

Every test ends with an audit or its like; what a red one wrote is kept in target/faults. Exit codes: 0 all held;
1 something did not; 2 wrong usage.")]
pub struct FaultsArgs {
    /// Print every row and run nothing.
    #[arg(long, conflicts_with_all = ["quick", "seeds", "seed", "soak"])]
    pub list: bool,

    /// These rows only, by their numbers.
    #[arg(long, value_delimiter = ',', value_name = "ROW", value_parser = row)]
    pub only: Vec<u8>,

    /// Rows that take less than ten seconds each on an idle machine only.
    #[arg(long, conflicts_with_all = ["only", "soak"])]
    pub quick: bool,

    /// Rounds of each row, every one with a seed of its own.
    #[arg(long, value_name = "N", default_value_t = 1, allow_hyphen_values = true, value_parser = super::within(1..=1_000_000_u64))]
    pub seeds: u64,

    /// Seed of the first round; the next one has the next.
    #[arg(long, value_name = "N", default_value_t = 1, allow_hyphen_values = true, value_parser = super::within(0..=1_000_000_000_000_u64))]
    pub seed: u64,

    /// Three faults at a time, chosen by the seed, for so long; nothing else.
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, conflicts_with = "only", value_parser = super::duration)]
    pub soak: Option<Duration>,
}

/// Takes `F7`, `f7` or `7`.
fn row(text: &str) -> Result<u8, String> {
    let digits = text.strip_prefix(['F', 'f']).unwrap_or(text);
    let number = digits.parse().ok();
    let known = number.filter(|number| crate::faults::rows().any(|row| row.number == *number));
    known.ok_or_else(|| {
        let last = crate::faults::rows().map(|row| row.number).max();
        format!("expected a row from F1 to F{}", last.unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_named_by_its_number() {
        for text in ["F7", "f7", "7"] {
            assert_eq!(row(text), Ok(7));
        }
        for text in ["", "F", "F0", "F53", "F300", "7F", "all"] {
            let refused = Err("expected a row from F1 to F52".to_owned());
            assert_eq!(row(text), refused, "{text}");
        }
    }
}
