//! The `multiplexing` selector: the value of a header decides.

use std::collections::HashMap;

use flafka_flow::registry::{SelectorFactory, TypeNames};
use flafka_flow::selector::{ChannelSelector, Delivery};
use flafka_flow::settings::{Names, Prefixed, Problem, Report, Section, Setting, Severity};
use flafka_flow::{Batch, Headers};

use super::{check_names, indices};

flafka_flow::settings! {
    /// Puts each event into the channels that are mapped to the value of one of its headers. The
    /// value is compared as it is, with upper and lower case told apart. An event whose value has
    /// no mapping, and no default either, is dropped as if it had been delivered.
    pub struct MultiplexingSelectorConfig {
        /// Name of the header.
        "header" => header: String = "flume.selector.header".to_owned(),
        /// Channels of events without the header, with a blank value, or with a value that is
        /// not mapped. Channels, separated by blanks.
        "default" => default: Names = Names(Vec::new()),
        /// `mapping.<value>`: the channels of events with that value, separated by blanks.
        "mapping.*" => mapping: Prefixed,
        /// `optional.<value>`: channels that also get the events with that value, but whose
        /// failure is logged and otherwise ignored. A channel that is required for the value
        /// anyway stays required.
        "optional.*" => optional: Prefixed,
    }
}

/// Makes multiplexing selectors.
pub struct MultiplexingSelectorFactory;

impl SelectorFactory for MultiplexingSelectorFactory {
    type Config = MultiplexingSelectorConfig;
    const NAMES: TypeNames = TypeNames {
        alias: Some("multiplexing"),
        also: &[],
        classes: &["org.apache.flume.channel.MultiplexingChannelSelector"],
    };

    fn check(
        config: &MultiplexingSelectorConfig,
        channels: &[String],
        section: &Section,
        report: &mut Report,
    ) {
        check_names("default", &config.default.0, channels, section, report);
        for (prefix, keys) in [("mapping", &config.mapping), ("optional", &config.optional)] {
            for (value, list) in &keys.0 {
                let key = format!("{prefix}.{value}");
                let names = names_of(list);
                if names.is_empty() && prefix == "mapping" {
                    let at = section.entries.get(&key).and_then(|entry| entry.key_span);
                    report.push(
                        Problem::new(
                            Severity::Error,
                            format!("{}.{key}", section.path),
                            "no channel is named",
                        )
                        .at(at.or(section.span))
                        .allowed(format!("channels of the source: {}", channels.join(", "))),
                    );
                }
                check_names(&key, &names, channels, section, report);
            }
        }
        if config.default.0.is_empty() {
            let problem = Problem::new(
                Severity::Warning,
                format!("{}.default", section.path),
                "without a default, events whose header is missing or not mapped are dropped as if they had been delivered",
            );
            report.push(
                problem
                    .at(section.span)
                    .help("name a channel as `default` if these events matter"),
            );
        }
    }

    fn build(config: MultiplexingSelectorConfig, channels: &[String]) -> Box<dyn ChannelSelector> {
        let default = indices(&config.default.0, channels);
        let values = config.mapping.0.keys().chain(config.optional.0.keys());
        let routes = values.map(|value| {
            let listed = |keys: &Prefixed| {
                let list = keys.get(value)?;
                Some(indices(&names_of(list), channels))
            };
            let required = listed(&config.mapping).unwrap_or_else(|| default.clone());
            let mut optional = listed(&config.optional).unwrap_or_default();
            optional.retain(|channel| !required.contains(channel));
            (value.clone(), Route { required, optional })
        });
        Box::new(MultiplexingSelector {
            routes: routes.collect(),
            default: Route {
                required: default,
                optional: Vec::new(),
            },
            header: config.header,
            channels: channels.len(),
        })
    }
}

fn names_of(list: &str) -> Vec<String> {
    Names::parse(list).map(|names| names.0).unwrap_or_default()
}

/// Where the events with one value go.
#[derive(Debug, PartialEq)]
struct Route {
    required: Vec<usize>,
    optional: Vec<usize>,
}

struct MultiplexingSelector {
    header: String,
    routes: HashMap<String, Route>,
    default: Route,
    channels: usize,
}

impl ChannelSelector for MultiplexingSelector {
    fn select(&self, batch: Batch) -> Vec<Delivery> {
        if batch.is_empty() {
            return Vec::new();
        }
        let mut routes: Vec<Option<&Route>> = vec![None; batch.header_sets().len()];
        let mut only = true;
        let mut first: Option<&Route> = None;
        for index in 0..batch.len() {
            let set = batch.header_set(index);
            if routes[set].is_none() {
                let route = self.route(&batch.header_sets()[set]);
                routes[set] = Some(route);
                only &= **first.get_or_insert(route) == *route;
            }
        }
        match first {
            Some(route) if only => whole(batch, route),
            _ => self.parted(&batch, &routes),
        }
    }
}

impl MultiplexingSelector {
    fn route(&self, headers: &Headers) -> &Route {
        headers
            .get(&self.header)
            .filter(|value| !value.trim().is_empty())
            .and_then(|value| self.routes.get(value))
            .unwrap_or(&self.default)
    }

    /// Deliveries of a batch whose events take different ways. `routes` has one for each header
    /// set that an event of the batch has.
    fn parted(&self, batch: &Batch, routes: &[Option<&Route>]) -> Vec<Delivery> {
        let mut required = vec![Vec::new(); self.channels];
        let mut optional = vec![Vec::new(); self.channels];
        for index in 0..batch.len() {
            let Some(route) = routes[batch.header_set(index)] else {
                continue;
            };
            for channel in &route.required {
                required[*channel].push(index);
            }
            for channel in &route.optional {
                optional[*channel].push(index);
            }
        }
        let kinds = [(required, true), (optional, false)];
        kinds
            .into_iter()
            .flat_map(|(lists, required)| {
                let lists = lists.into_iter().enumerate();
                lists.map(move |(channel, list)| (channel, required, list))
            })
            .filter(|(_, _, list)| !list.is_empty())
            .map(|(channel, required, list)| Delivery {
                channel,
                required,
                batch: batch.pick(list),
            })
            .collect()
    }
}

/// Deliveries of a batch whose events all take the same way.
fn whole(batch: Batch, route: &Route) -> Vec<Delivery> {
    let required = route.required.iter().map(|channel| (*channel, true));
    let optional = route.optional.iter().map(|channel| (*channel, false));
    required
        .chain(optional)
        .map(|(channel, required)| Delivery {
            channel,
            required,
            batch: batch.clone(),
        })
        .collect()
}
