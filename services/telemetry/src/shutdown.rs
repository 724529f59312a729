//! An orderly end on SIGTERM and SIGINT, and a way out when that takes too long.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal as listen};
use tokio_util::sync::CancellationToken;

/// What a shell reports for a process ended by SIGINT: 128 + 2.
const FORCED_EXIT_CODE: i32 = 130;

/// A token that is cancelled by the first SIGTERM or SIGINT. A second signal ends the process at
/// once with exit code 130, without waiting for anything: what is committed is committed, the rest
/// is replayed from the log.
///
/// Must be called inside a tokio runtime with signals enabled.
///
/// # Errors
/// The operating system refuses to install a handler.
pub fn signal() -> io::Result<CancellationToken> {
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let first = token.clone();
    tokio::spawn(async move {
        let name = next(&mut terminate, &mut interrupt).await;
        tracing::info!(
            signal = name,
            "shutting down, a second signal ends the process at once"
        );
        first.cancel();
        let name = next(&mut terminate, &mut interrupt).await;
        tracing::error!(signal = name, "second signal, ending at once");
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place where waiting for destructors is what the person at the keyboard refused"
        )]
        std::process::exit(FORCED_EXIT_CODE);
    });
    Ok(token)
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
