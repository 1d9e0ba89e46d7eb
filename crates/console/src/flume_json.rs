//! `/metrics` as Flume's HTTP monitor writes it (reference 5.1, 5.2): one object, keys
//! `<TYPE>.<name>`, all values strings.

use std::sync::Arc;

use flafka_flow::counters::{ComponentKind, Counters, Metric, Unit};
use serde_json::{Map, Value};

/// The whole answer for `counters`; components that Flume leaves out are left out.
pub fn render(counters: &[Arc<Counters>]) -> String {
    let mut all = Map::new();
    for component in counters.iter().filter(|counters| counters.in_flume_json()) {
        let key = format!("{}.{}", component.kind().label(), component.name());
        all.insert(key, Value::Object(attributes(component)));
    }
    Value::Object(all).to_string()
}

fn attributes(counters: &Counters) -> Map<String, Value> {
    let mut shown = Map::new();
    for metric in counters.shown() {
        shown.insert(
            metric.name().to_owned(),
            Value::String(text(counters, *metric)),
        );
    }
    if counters.kind() == ComponentKind::Channel {
        let percentage = java_double(counters.fill_percentage());
        shown.insert(
            "ChannelFillPercentage".to_owned(),
            Value::String(percentage),
        );
    }
    let (start, stop) = counters.times();
    shown.insert(
        "Type".to_owned(),
        Value::String(counters.kind().label().to_owned()),
    );
    shown.insert("StartTime".to_owned(), Value::String(start.to_string()));
    shown.insert("StopTime".to_owned(), Value::String(stop.to_string()));
    shown
}

fn text(counters: &Counters, metric: Metric) -> String {
    let value = counters.get(metric);
    match metric.unit() {
        Unit::Flag => (value != 0).to_string(),
        Unit::Count | Unit::Milliseconds | Unit::Gauge => value.to_string(),
    }
}

/// A double as Java prints it where it matters here: `0.0`, `12.5`, `1.7976931348623157E308`.
fn java_double(value: f64) -> String {
    if value == f64::MAX {
        return "1.7976931348623157E308".to_owned();
    }
    if value != 0.0 && value.abs() < 1e-3 {
        let short = format!("{value:E}");
        return if short.contains('.') {
            short
        } else {
            short.replacen('E', ".0E", 1)
        };
    }
    format!("{value:?}")
}

#[cfg(test)]
mod tests {
    use flafka_flow::counters::sets;

    use super::*;

    fn channel(name: &str) -> Counters {
        Counters::new(ComponentKind::Channel, name, sets::CHANNEL, true)
    }

    #[test]
    fn values_are_strings_under_flumes_names() {
        let memory = channel("c1");
        memory.set(Metric::ChannelCapacity, 8);
        memory.set(Metric::ChannelSize, 1);
        let kafka = channel("k");
        let hidden = Counters::new(ComponentKind::Sink, "logger", sets::SINK, false);
        let text = render(&[Arc::new(memory), Arc::new(kafka), Arc::new(hidden)]);
        let json: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(json["CHANNEL.c1"]["ChannelFillPercentage"], "12.5");
        assert_eq!(json["CHANNEL.c1"]["ChannelSize"], "1");
        assert_eq!(json["CHANNEL.c1"]["Type"], "CHANNEL");
        assert_eq!(json["CHANNEL.c1"]["StopTime"], "0");
        assert_eq!(
            json["CHANNEL.k"]["ChannelFillPercentage"],
            "1.7976931348623157E308"
        );
        assert_eq!(json.as_object().map(Map::len), Some(2), "{text}");
    }

    #[test]
    fn doubles_look_like_javas() {
        let shown = [0.0, 100.0, 33.333333333333336, 1e-4, 2.5e-5].map(java_double);
        assert_eq!(
            shown,
            ["0.0", "100.0", "33.333333333333336", "1.0E-4", "2.5E-5"]
        );
    }
}
