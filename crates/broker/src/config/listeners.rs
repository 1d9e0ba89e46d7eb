//! `listeners` and `advertised.listeners`: names, protocols, addresses.
//!
//! A KRaft file lists a controller listener beside the client one; it is left out with a note. Listener names other
//! than protocol names are looked up in `listener.security.protocol.map`. Only PLAINTEXT exists here so far: any other
//! protocol is refused, because opening it in plain text would be worse than not starting.

use std::collections::BTreeMap;
use std::fmt;

use super::{BrokerConfig, ConfigProblem, Entry, Note};

/// A host and a port. An empty host listens on every address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostAndPort {
    /// Host name or address, without brackets.
    pub host: String,
    /// TCP port; 0 lets the system choose (tests).
    pub port: u16,
}

/// A named listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Listener name, upper case, such as `PLAINTEXT`.
    pub name: String,
    /// Its address.
    pub address: HostAndPort,
}

impl Endpoint {
    /// A listener named PLAINTEXT.
    pub fn plaintext(host: &str, port: u16) -> Endpoint {
        Endpoint {
            name: "PLAINTEXT".to_owned(),
            address: HostAndPort {
                host: host.to_owned(),
                port,
            },
        }
    }
}

impl HostAndPort {
    /// Whether the address means "every interface", which no client can connect to.
    pub fn is_wildcard(&self) -> bool {
        matches!(self.host.as_str(), "" | "0.0.0.0" | "::")
    }
}

impl fmt::Display for HostAndPort {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}://{}", self.name, self.address)
    }
}

/// The four keys that are read together.
pub(super) struct NamedListeners<'a> {
    listeners: Option<&'a Entry>,
    advertised: Option<&'a Entry>,
    protocols: Option<&'a Entry>,
    controllers: Option<&'a Entry>,
}

/// Keys handled here; part of the table of known keys.
pub(super) const KEYS: &[&str] = &[
    "listeners",
    "advertised.listeners",
    "listener.security.protocol.map",
    "controller.listener.names",
];

impl<'a> NamedListeners<'a> {
    pub(super) fn take(by_key: &mut BTreeMap<&str, &'a Entry>) -> Self {
        NamedListeners {
            listeners: by_key.remove("listeners"),
            advertised: by_key.remove("advertised.listeners"),
            protocols: by_key.remove("listener.security.protocol.map"),
            controllers: by_key.remove("controller.listener.names"),
        }
    }

    fn protocol_of(&self, name: &str) -> String {
        let mapped = self.protocols.and_then(|entry| {
            entry.value.split(',').find_map(|pair| {
                let (listener, protocol) = pair.trim().split_once(':')?;
                (listener.eq_ignore_ascii_case(name)).then(|| protocol.to_ascii_uppercase())
            })
        });
        mapped.unwrap_or_else(|| name.to_ascii_uppercase())
    }

    fn is_controller(&self, name: &str) -> bool {
        self.controllers.is_some_and(|entry| {
            entry
                .value
                .split(',')
                .any(|controller| controller.trim().eq_ignore_ascii_case(name))
        })
    }
}

pub(super) fn resolve(
    config: &mut BrokerConfig,
    named: &NamedListeners<'_>,
    notes: &mut Vec<Note>,
    problems: &mut Vec<ConfigProblem>,
) {
    if let Some(entry) = named.listeners {
        match usable(entry, named, notes) {
            Ok(endpoints) => {
                config.listeners = endpoints;
                config.explicit.insert("listeners", entry.value.clone());
            }
            Err(reason) => problems.push(bad(entry, reason)),
        }
    }
    let Some(entry) = named.advertised else {
        return;
    };
    match usable(entry, named, notes) {
        Ok(endpoints) => {
            if let Some(endpoint) = endpoints.iter().find(|one| one.address.is_wildcard()) {
                problems.push(bad(
                    entry,
                    format!("{endpoint} cannot be connected to; give the name or address that clients use"),
                ));
            } else {
                config.advertised = endpoints;
                config
                    .explicit
                    .insert("advertised.listeners", entry.value.clone());
            }
        }
        Err(reason) => problems.push(bad(entry, reason)),
    }
}

fn bad(entry: &Entry, reason: String) -> ConfigProblem {
    ConfigProblem::BadValue {
        place: entry.place.clone(),
        key: entry.key.clone(),
        value: entry.value.clone(),
        reason,
    }
}

fn usable(
    entry: &Entry,
    named: &NamedListeners<'_>,
    notes: &mut Vec<Note>,
) -> Result<Vec<Endpoint>, String> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for text in entry.value.split(',') {
        let endpoint = parse(text.trim())?;
        if named.is_controller(&endpoint.name) {
            notes.push(Note {
                place: entry.place.clone(),
                key: entry.key.clone(),
                reason: "there is no controller quorum on one node; its listener is left out",
            });
            continue;
        }
        let protocol = named.protocol_of(&endpoint.name);
        if protocol != "PLAINTEXT" {
            return Err(format!(
                "listener `{}` asks for {protocol}; only PLAINTEXT is served so far, put TLS in front or listen on loopback",
                endpoint.name
            ));
        }
        if endpoints.iter().any(|other| other.name == endpoint.name) {
            return Err(format!("listener name `{}` stands twice", endpoint.name));
        }
        endpoints.push(endpoint);
    }
    if endpoints.is_empty() {
        return Err("no client listener; expected such as PLAINTEXT://127.0.0.1:9092".to_owned());
    }
    Ok(endpoints)
}

fn parse(text: &str) -> Result<Endpoint, String> {
    let expected =
        || format!("`{text}` is not NAME://host:port, such as PLAINTEXT://127.0.0.1:9092");
    let (name, address) = text.split_once("://").ok_or_else(expected)?;
    let (host, port) = address.rsplit_once(':').ok_or_else(expected)?;
    let port = port.parse().map_err(|_| expected())?;
    let host = host
        .strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'))
        .unwrap_or(host);
    if name.is_empty() || host.contains(['/', '[', ']', ' ']) {
        return Err(expected());
    }
    Ok(Endpoint {
        name: name.to_ascii_uppercase(),
        address: HostAndPort {
            host: host.to_owned(),
            port,
        },
    })
}
