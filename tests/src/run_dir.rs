//! The folder of everything this process starts: data, settings and logs.
//!
//! It goes away with the process, also with one that is killed: a guardian (a shell that waits for
//! the end of its input, which is the end of this process) removes it. A panic anywhere in the
//! process keeps it, and so does `CLICKSTREAM_KEEP=1` (a test that fails by returning an error does
//! not panic).

use std::{
    fs, io,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::Context as _;

/// Reads until this process has ended, ends what it had frozen (a stopped child cannot act on the
/// signal that its parent's death sends), and removes the folder. Children need a moment to die,
/// hence the repetition.
const GUARDIAN: &str = r#"
trap '' INT TERM HUP
cat > /dev/null
for pid in $(ls "$1/frozen"); do kill -KILL "$pid"; done
[ -e "$1/keep" ] && exit
for attempt in 1 2 3 4 5 6 7 8 9 10; do rm -rf "$1" && [ ! -e "$1" ] && exit; sleep 0.3; done
"#;

struct RunDir {
    path: PathBuf,
    /// Held open for the life of this process; its closing is what the guardian waits for.
    _guardian: ChildStdin,
}

static RUN_DIR: OnceLock<Result<RunDir, String>> = OnceLock::new();
static NEXT: AtomicU32 = AtomicU32::new(1);

/// A new folder for one server or program, searchable by every user (PostgreSQL runs as another
/// one); gone when this process ends.
///
/// # Errors
/// When it cannot be created.
pub fn server_dir(name: &str) -> anyhow::Result<PathBuf> {
    let path = numbered(name, "")?;
    fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
    searchable(&path)?;
    Ok(path)
}

/// A path for the log of one process.
pub(crate) fn log_file(name: &str) -> anyhow::Result<PathBuf> {
    numbered(name, ".log")
}

/// Notes that `pid` is frozen and must be ended from outside when this process ends.
pub(crate) fn note_frozen(pid: u32) -> anyhow::Result<()> {
    fs::write(frozen(pid)?, "").context("cannot note a frozen process")
}

/// Takes the note back.
pub(crate) fn forget_frozen(pid: u32) {
    if let Ok(note) = frozen(pid) {
        fs::remove_file(note).ok();
    }
}

/// Keeps data and logs of this process after its end and says where, once. A panic does this by
/// itself.
pub fn keep_run_dir() {
    if let Some(Ok(run_dir)) = RUN_DIR.get() {
        mark_kept(&run_dir.path);
    }
}

fn mark_kept(path: &Path) {
    let mark = path.join("keep");
    if !mark.exists() && fs::write(mark, "").is_ok() {
        eprintln!(
            "testbed: data and logs of the servers are kept in {}",
            path.display()
        );
    }
}

/// Whether the data of servers that have ended shall stay.
pub(crate) fn is_kept() -> bool {
    std::thread::panicking() || run_dir().is_ok_and(|path| path.join("keep").exists())
}

fn numbered(name: &str, extension: &str) -> anyhow::Result<PathBuf> {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    Ok(run_dir()?.join(format!("{name}-{number}{extension}")))
}

fn frozen(pid: u32) -> anyhow::Result<PathBuf> {
    Ok(run_dir()?.join("frozen").join(pid.to_string()))
}

fn run_dir() -> anyhow::Result<&'static Path> {
    match RUN_DIR.get_or_init(|| create().map_err(|error| format!("{error:#}"))) {
        Ok(run_dir) => Ok(&run_dir.path),
        Err(error) => anyhow::bail!("no folder for the servers of this process: {error}"),
    }
}

fn create() -> anyhow::Result<RunDir> {
    let parent = std::env::var_os("CLICKSTREAM_TMP").map_or_else(std::env::temp_dir, PathBuf::from);
    let path = parent.join(crate::unique_name(&format!(
        "clickstream_{}",
        std::process::id()
    )));
    fs::create_dir_all(path.join("frozen"))
        .with_context(|| format!("cannot create {}", path.display()))?;
    searchable(&path)?;
    let mut guardian = Command::new("sh")
        .args(["-c", GUARDIAN, "guardian"])
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        // Ctrl-C in a terminal goes to the whole group and must not end the guardian
        .process_group(0)
        .spawn()
        .context("cannot start the guardian (sh)")?;
    let stdin = guardian.stdin.take().context("the guardian has no input")?;
    keep_on_panic();
    if std::env::var_os("CLICKSTREAM_KEEP").is_some() {
        mark_kept(&path);
    }
    Ok(RunDir {
        path,
        _guardian: stdin,
    })
}

fn keep_on_panic() {
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        previous(info);
        keep_run_dir();
    }));
}

fn searchable(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}
