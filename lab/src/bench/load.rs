//! CPU time: of one process, of all that this one started, and of everybody else.

use std::collections::HashMap;
use std::fs;

use anyhow::Context as _;

/// CPU time at an instant, in clock ticks summed over all cores.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    busy: u64,
    all: u64,
    own: u64,
}

impl Load {
    /// Now.
    ///
    /// # Errors
    /// /proc cannot be read.
    pub fn now() -> anyhow::Result<Self> {
        let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        let (busy, all) = machine(&stat).context("/proc/stat has an unknown form")?;
        Ok(Self {
            busy,
            all,
            own: own(),
        })
    }

    /// The part of the machine's CPU, 0 to 1, that other programs used since `self`.
    ///
    /// # Errors
    /// /proc cannot be read.
    pub fn foreign_since(self) -> anyhow::Result<f64> {
        let now = Self::now()?;
        let busy = now.busy.saturating_sub(self.busy);
        let own = now.own.saturating_sub(self.own);
        let all = now.all.saturating_sub(self.all).max(1);
        Ok(busy.saturating_sub(own) as f64 / all as f64)
    }
}

/// CPU seconds that a running process has used.
///
/// # Errors
/// The process has ended.
pub fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process has ended")?;
    let process = Process::parse(&stat).context("/proc/PID/stat has an unknown form")?;
    Ok(process.used as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// A memory figure of a running process in MiB: `VmHWM` is the peak, `VmRSS` what is resident now.
///
/// # Errors
/// The process has ended.
pub fn memory_mib(pid: u32, name: &str) -> anyhow::Result<f64> {
    let status =
        fs::read_to_string(format!("/proc/{pid}/status")).context("the process has ended")?;
    let line = status
        .lines()
        .find(|line| line.starts_with(name))
        .context("no such figure")?;
    let kib: f64 = line
        .split_whitespace()
        .nth(1)
        .context("no value")?
        .parse()?;
    Ok(kib / 1024.0)
}

/// (busy, all) of the first line: user nice system idle iowait irq softirq steal.
fn machine(stat: &str) -> Option<(u64, u64)> {
    let fields: Vec<u64> = stat
        .lines()
        .next()?
        .split_whitespace()
        .skip(1)
        .take(8)
        .map(str::parse)
        .collect::<Result<_, _>>()
        .ok()?;
    let all: u64 = fields.iter().sum();
    let idle = fields.get(3)? + fields.get(4)?;
    Some((all - idle, all))
}

struct Process {
    parent: u32,
    /// Its own, in ticks.
    used: u64,
    /// Its ended and waited-for children's.
    inherited: u64,
}

impl Process {
    /// A line of /proc/PID/stat. The name in parentheses may hold anything, so counting begins
    /// after the last one.
    fn parse(stat: &str) -> Option<Self> {
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            used: ticks(11)? + ticks(12)?,
            inherited: ticks(13)? + ticks(14)?,
        })
    }
}

/// What this process and everything below it has used. A process that ends hands its time to the
/// parent that waits for it, so the sum never loses any.
fn own() -> u64 {
    let mut processes = HashMap::new();
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if let Some(process) = Process::parse(&stat) {
            children.entry(process.parent).or_default().push(pid);
            processes.insert(pid, process.used + process.inherited);
        }
    }
    let mut sum = 0;
    let mut open = vec![std::process::id()];
    while let Some(pid) = open.pop() {
        sum += processes.get(&pid).copied().unwrap_or(0);
        open.extend(children.remove(&pid).into_iter().flatten());
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let line = "42 (a) b ) S 7 42 42 0 -1 4194560 1 2 3 4 100 20 3 4 20 0 1 0 99 1 1";
        let process = Process::parse(line).expect("a valid line");
        assert_eq!(
            (process.parent, process.used, process.inherited),
            (7, 120, 7)
        );
    }

    #[test]
    fn waiting_for_a_disk_is_not_busy() {
        assert_eq!(machine("cpu  10 1 5 100 50 2 3 4 9 9\n"), Some((25, 175)));
    }

    #[test]
    fn own_work_is_not_foreign() {
        let (before, own_before) = (Load::now().expect("linux"), own());
        let mut sum = 0_u64;
        while own() < own_before + 20 {
            sum = (0..1_000_000_u64).fold(sum, |sum, n| std::hint::black_box(sum ^ n));
        }
        let after = Load::now().expect("linux");
        assert!(after.own >= before.own + 20, "{sum}");
    }
}
