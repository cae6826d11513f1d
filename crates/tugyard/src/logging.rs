//! Sets up logs: readable lines on a terminal, JSON on request, always on standard error.

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// The form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// A line for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Installs the subscriber. `filter` (`TUGYARD_LOG`) wins over `debug` and `quiet`.
pub(crate) fn install(format: LogFormat, filter: Option<&str>, debug: bool, quiet: bool) {
    let default = match (debug, quiet) {
        (true, _) => {
            "info,tugyard=debug,test_runner=debug,result_collector=debug,result_service=debug,container_engine=debug"
        }
        (_, true) => "error",
        _ => "info,sqlx=warn,hyper=warn,tower_http=warn",
    };
    let filter = EnvFilter::new(filter.unwrap_or(default));
    let colours = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        && std::io::IsTerminal::is_terminal(&std::io::stderr());
    let registry = tracing_subscriber::registry().with(filter);
    let layer = fmt::layer().with_writer(std::io::stderr).with_target(debug);
    match format {
        LogFormat::Text => registry.with(layer.with_ansi(colours)).init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).init(),
    }
}
