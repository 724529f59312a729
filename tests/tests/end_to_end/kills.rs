//! Processors killed at random moments while events keep coming.

use std::time::{Duration, Instant};

use rand::RngExt as _;

use crate::{
    dice::dice,
    load::{Load, fault_time},
    progress::SHORT_SESSION,
    stack::{Stack, StackOptions},
};

#[tokio::test]
async fn processors_killed_at_random_lose_and_double_nothing() -> anyhow::Result<()> {
    let mut dice = dice();
    let stack = Stack::new(StackOptions::default()).await?;
    let load = Load::start(
        &stack,
        2_000,
        &[
            "--cross-partition-duplicates",
            "0.5",
            "--duplicates",
            "0.05",
        ],
    )
    .await?;
    let start = |generation: u32| stack.start_with(&format!("p{generation}"), &[SHORT_SESSION]);
    let mut processors = [start(0)?, start(1)?];
    let (mut started, mut kills) = (2, 0);
    let ends = Instant::now() + fault_time(Duration::from_secs(10));
    while Instant::now() < ends {
        stack.moves_by(1_000).await?;
        // the moment of the kill is what is random here, nothing is waited for
        tokio::time::sleep(Duration::from_millis(dice.random_range(0..400))).await;
        let both = dice.random_bool(0.25);
        let victim = dice.random_range(0..2);
        for (place, processor) in processors.iter_mut().enumerate() {
            if both || place == victim {
                processor.kill()?;
                *processor = start(started)?;
                (started, kills) = (started + 1, kills + 1);
            }
        }
    }
    let sent = load.finish().await?;
    stack.drained().await?;
    eprintln!("{kills} kills, {sent} records");
    assert!(kills >= 2, "{kills} kills are no test");
    assert_eq!(stack.consumed().await?, sent);
    stack.ends_clean(&[&processors[0], &processors[1]]).await
}
