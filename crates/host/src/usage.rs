//! What processes use: processor time and memory, by tree, from `/proc`.

use std::collections::HashMap;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

/// What a tree of processes uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time so far, of those that have ended and were waited for, too.
    pub cpu: Duration,
    /// Memory in RAM, bytes. What processes share counts once for each.
    pub resident: u64,
}

/// Every process that this one can see, as they were at one moment.
#[derive(Debug, Default)]
pub struct Processes {
    children: HashMap<i32, Vec<i32>>,
    each: HashMap<i32, Usage>,
}

impl Processes {
    /// Looks at all of them now.
    pub fn look() -> Self {
        let positive = |var, otherwise: u64| {
            sysconf(var).ok().flatten().and_then(|n| u64::try_from(n).ok()).unwrap_or(otherwise)
        };
        let ticks = positive(SysconfVar::CLK_TCK, 100).max(1);
        let page = positive(SysconfVar::PAGE_SIZE, 4096);
        let mut found = Self::default();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // One that has ended meanwhile is not there.
            let Ok(text) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
            if let Some((parent, usage)) = read(&text, ticks, page) {
                found.children.entry(parent).or_default().push(pid);
                found.each.insert(pid, usage);
            }
        }
        found
    }

    /// What `pid` and everything below it use.
    pub fn below(&self, pid: i32) -> Usage {
        let mut sum = Usage::default();
        let mut todo = vec![pid];
        while let Some(pid) = todo.pop() {
            if let Some(usage) = self.each.get(&pid) {
                sum.cpu += usage.cpu;
                sum.resident += usage.resident;
            }
            todo.extend(self.children.get(&pid).into_iter().flatten());
        }
        sum
    }
}

/// A line of `/proc/{pid}/stat` (proc_pid_stat(5)): the parent, and what the process uses.
fn read(text: &str, ticks: u64, page: u64) -> Option<(i32, Usage)> {
    // The name stands in parentheses and may hold any character.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let parent = fields.get(1)?.parse().ok()?;
    let cpu = number(11)? + number(12)? + number(13)? + number(14)?;
    let cpu = Duration::from_micros(cpu.saturating_mul(1_000_000) / ticks);
    Some((parent, Usage { cpu, resident: number(21)?.saturating_mul(page) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_whatever_the_process_is_called() {
        let line = "77 (a) b (c) S 5 77 77 0 -1 4194560 1 2 3 4 150 50 25 25 20 0 3 0 99 1000 10 18446744073709551615";
        let (parent, usage) = read(line, 100, 4096).expect("read");
        assert_eq!(parent, 5);
        assert_eq!(usage, Usage { cpu: Duration::from_millis(2500), resident: 40_960 });
        assert!(read("77 (x", 100, 4096).is_none());
    }

    #[test]
    fn a_tree_uses_what_its_processes_use() {
        let usage = |cpu, resident| Usage { cpu: Duration::from_secs(cpu), resident };
        let found = Processes {
            children: HashMap::from([(1, vec![2, 3]), (3, vec![4]), (9, vec![10])]),
            each: HashMap::from([
                (1, usage(1, 10)),
                (2, usage(2, 20)),
                (3, usage(3, 30)),
                (4, usage(4, 40)),
                (10, usage(9, 9)),
            ]),
        };
        assert_eq!(found.below(1), usage(10, 100));
        assert_eq!(found.below(3), usage(7, 70));
        assert_eq!(found.below(99), Usage::default());
        let me = i32::try_from(std::process::id()).expect("a pid");
        assert!(Processes::look().below(me).resident > 1 << 20, "this process is in memory");
    }
}
