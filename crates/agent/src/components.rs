//! The one list of every component that a `type` can name.

use flafka_flow::registry::Registry;

use crate::{selectors, sink_groups};

/// Everything this product has. A new component adds its line to the list of its own crate.
pub fn registry() -> Registry {
    Registry {
        sources: flafka_sources::SOURCES,
        channels: flafka_channels::CHANNELS,
        sinks: flafka_sinks::SINKS,
        interceptors: flafka_interceptors::INTERCEPTORS,
        selectors: selectors::SELECTORS,
        sink_processors: sink_groups::SINK_PROCESSORS,
        parts: &[
            ("deserializer", flafka_sources::DESERIALIZERS),
            ("handler", flafka_sources::HANDLERS),
            ("serializer", flafka_sinks::SERIALIZERS),
        ],
    }
}
