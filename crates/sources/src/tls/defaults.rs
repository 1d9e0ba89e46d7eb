//! Flume's global TLS settings: a component's own key counts first, then the system property,
//! then the environment (reference 1.11).

use std::collections::BTreeMap;
use std::sync::OnceLock;

static PROPERTIES: OnceLock<BTreeMap<String, String>> = OnceLock::new();

/// Hands over the system properties (`-Dname=value`) of the command line; once, before any
/// configuration is read. A second call changes nothing and returns false.
pub fn set_system_properties(properties: BTreeMap<String, String>) -> bool {
    PROPERTIES.set(properties).is_ok()
}

/// A global setting by its system property, else by its environment variable.
pub(super) fn global(property: &str, variable: &str) -> Option<String> {
    let from_property = PROPERTIES
        .get()
        .and_then(|properties| properties.get(property).cloned());
    let value = from_property.or_else(|| std::env::var(variable).ok())?;
    let value = value.trim();
    (!value.is_empty()).then(|| value.to_owned())
}
