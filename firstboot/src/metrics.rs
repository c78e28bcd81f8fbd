//! Numbers of this machine for its heartbeat.

use std::fs;

use nix::sys::statvfs::statvfs;
use protocol::link::Metrics;

/// As they are now; what cannot be read is 0.
pub(crate) fn read() -> Metrics {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let disk = statvfs("/").map(|disk| {
        let unit = disk.fragment_size();
        (disk.blocks() * unit, disk.blocks_available() * unit)
    });
    let (disk_total, disk_available) = disk.unwrap_or_default();
    Metrics {
        load: load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or_default(),
        processors: std::thread::available_parallelism()
            .map_or(0, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        memory_total: kibibytes(&memory, "MemTotal:"),
        memory_available: kibibytes(&memory, "MemAvailable:"),
        disk_total,
        disk_available,
    }
}

/// Since it was switched on.
pub(crate) fn uptime_seconds() -> u64 {
    let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
    uptime.split('.').next().and_then(|seconds| seconds.parse().ok()).unwrap_or_default()
}

/// A line of proc_meminfo(5), in bytes.
fn kibibytes(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or_default() * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_meminfo() {
        let text = "MemTotal:        4015936 kB\nMemFree:  1 kB\nMemAvailable:    3584000 kB\n";
        assert_eq!(kibibytes(text, "MemTotal:"), 4_112_318_464);
        assert_eq!(kibibytes(text, "MemAvailable:"), 3_670_016_000);
        assert_eq!(kibibytes(text, "SwapTotal:"), 0);
    }

    #[test]
    fn this_machine_has_numbers() {
        let metrics = read();
        assert!(metrics.memory_available <= metrics.memory_total && metrics.memory_total > 0, "{metrics:?}");
        assert!(metrics.disk_available <= metrics.disk_total && metrics.disk_total > 0, "{metrics:?}");
        assert!(metrics.processors > 0);
    }
}
