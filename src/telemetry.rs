//! Structured logs on standard error.
//!
//! No line carries a body, an id of a patient or a result, a URL with its query, or a header's value.

use tracing::Subscriber;
use tracing_subscriber::{EnvFilter, Layer as _, fmt::MakeWriter, layer::SubscriberExt as _};

/// A subscriber that writes JSON lines to `sink`; tests hand in a silent one.
pub fn subscriber<W>(level: &str, sink: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // These crates would log addresses and headers of requests.
    let quiet = "hyper=off,hyper_util=off,reqwest=off,h2=off,rustls=off,actix_http=off,actix_web=off,actix_server=warn,mio=off";
    let filter = EnvFilter::try_new(format!("{level},{quiet}"))
        .unwrap_or_else(|_| EnvFilter::new(format!("info,{quiet}")));
    tracing_subscriber::registry().with(
        tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_target(false)
            .with_current_span(true)
            .with_span_list(false)
            .with_writer(sink)
            .with_filter(filter),
    )
}

/// Starts logging to standard error, and makes a panic say where it happened but not what it held.
pub fn start(level: &str) {
    // A second call, as tests in one process make, keeps the first subscriber.
    let _ = tracing::subscriber::set_global_default(subscriber(level, std::io::stderr));
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        tracing::error!(place, "panic");
    }));
}
