//! The operating system's figures of this process, by the names that Prometheus' own clients use.
//! On Linux only; elsewhere there are none.

use prometheus_client::registry::Registry;

/// The figures now.
#[cfg(target_os = "linux")]
pub(super) fn figures() -> Registry {
    let mut registry = Registry::default();
    // What cannot be read is left out: metrics are asked for also when something is wrong.
    let Ok(process) = procfs::process::Process::myself() else { return registry };
    let mut gauge = |name: &str, help: &str, value: u64| {
        let gauge = prometheus_client::metrics::gauge::Gauge::<i64>::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(name, help, gauge);
    };
    if let Ok(limits) = process.limits()
        && let procfs::process::LimitValue::Value(most) = limits.max_open_files.soft_limit
    {
        gauge("process_max_fds", "How many files it may have open", most);
    }
    if let Ok(open) = process.fd_count() {
        gauge("process_open_fds", "How many files it has open", open as u64);
    }
    let Ok(stat) = process.stat() else { return registry };
    gauge(
        "process_resident_memory_bytes",
        "How much memory it holds",
        stat.rss * procfs::page_size(),
    );
    gauge("process_virtual_memory_bytes", "How much memory it has asked for", stat.vsize);
    gauge(
        "process_threads",
        "How many threads it has",
        u64::try_from(stat.num_threads).unwrap_or_default(),
    );
    let ticks = procfs::ticks_per_second() as f64;
    if let Ok(booted) = procfs::boot_time_secs() {
        let began = booted as f64 + stat.starttime as f64 / ticks;
        let gauge =
            prometheus_client::metrics::gauge::Gauge::<f64, std::sync::atomic::AtomicU64>::default(
            );
        gauge.set(began);
        registry.register(
            "process_start_time_seconds",
            "When it began, in seconds since 1970",
            gauge,
        );
    }
    let spent =
        prometheus_client::metrics::counter::Counter::<f64, std::sync::atomic::AtomicU64>::default(
        );
    spent.inc_by((stat.utime + stat.stime) as f64 / ticks);
    registry.register("process_cpu_seconds", "How much time of processors it has used", spent);
    registry
}

#[cfg(not(target_os = "linux"))]
pub(super) fn figures() -> Registry {
    Registry::default()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_of_this_process() {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &figures())
            .expect("a string takes it");
        let value = |name: &str| -> f64 {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
                .unwrap_or_else(|| panic!("{name} in\n{text}"));
            line.parse().expect("a number")
        };
        assert!(
            value("process_resident_memory_bytes") > 1e6 && value("process_threads") >= 1.0,
            "{text}"
        );
        assert!(
            value("process_open_fds") >= 3.0
                && value("process_max_fds") > value("process_open_fds"),
            "{text}"
        );
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after 1970")
            .as_secs_f64();
        assert!((0.0..86_400.0).contains(&(now - value("process_start_time_seconds"))), "{text}");
        assert!(value("process_cpu_seconds_total") >= 0.0, "{text}");
    }
}
