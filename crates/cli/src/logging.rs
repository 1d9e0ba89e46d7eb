//! Log lines on the standard error: what a service manager collects.
//!
//! The level comes from `FLAFKA_LOG` (a filter such as `info` or `flafka_sources=debug`), else
//! from Flume's `-Dflume.root.logger=LEVEL,…`, else it is `info`.

use tracing_subscriber::EnvFilter;

/// Starts logging; `flume_root_logger` is the value of Flume's property.
pub(crate) fn start(flume_root_logger: Option<&str>) {
    let level = flume_root_logger
        .and_then(|value| value.split(',').next())
        .map(|level| match level.trim().to_ascii_uppercase().as_str() {
            "FATAL" | "ERROR" => "error",
            "WARN" => "warn",
            "DEBUG" => "debug",
            "TRACE" | "ALL" => "trace",
            "OFF" => "off",
            _ => "info",
        });
    let filter = std::env::var("FLAFKA_LOG")
        .ok()
        .or_else(|| level.map(str::to_owned));
    let filter = filter.unwrap_or_else(|| "info,librdkafka=warn,rdkafka=warn".to_owned());
    let started = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .try_init();
    if let Err(error) = started {
        crate::exit::complain(&format!("flafka: logging was started before: {error}"));
    }
}
