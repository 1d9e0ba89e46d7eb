//! Jetty bean keys: which of them mean something here (Flume reference 2.2, http).
//!
//! Flume hands `QueuedThreadPool.*`, `HttpConfiguration.*`, `ServerConnector.*` and
//! `SslContextFactory.*` to Jetty's setters. The ones that have an equal here are fields of
//! [`super::HttpSourceConfig`]; every other one is named in a warning, never passed over.

use flafka_flow::settings::{Prefixed, Reader, Settings, nearest};

use super::HttpSourceConfig;

/// The bean keys that are fields of their own.
fn mapped() -> Vec<&'static str> {
    HttpSourceConfig::fields()
        .iter()
        .map(|field| field.key)
        .filter(|key| key.contains('.') && !key.ends_with('*') && !key.starts_with("handler."))
        .collect()
}

/// Warns of each bean key that has nothing to do here.
pub(super) fn note_unmapped(beans: [(&str, &Prefixed); 4], reader: &mut Reader<'_>) {
    let mapped = mapped();
    for (bean, keys) in beans {
        for name in keys.0.keys() {
            let key = format!("{bean}.{name}");
            if mapped.contains(&key.as_str()) {
                continue;
            }
            let similar = nearest(&key, mapped.iter().copied());
            let hint = similar.map_or(String::new(), |similar| {
                format!("; did you mean `{similar}`?")
            });
            reader.warning(
                &key,
                format!("a setting of Jetty that has nothing to do here{hint}"),
            );
        }
    }
}
