//! `/metrics` as Flume's dashboards expect it, and `/metrics/prometheus`.

use anyhow::{Context, Result, ensure};
use flafka_tests::running_agent::LIMIT;
use flafka_tests::{http, poll};

use crate::place::{Place, flafka, netcat_logger, port};

const CHANNEL: [&str; 8] = [
    "ChannelCapacity",
    "ChannelFillPercentage",
    "ChannelSize",
    "EventPutAttemptCount",
    "EventPutSuccessCount",
    "EventTakeAttemptCount",
    "EventTakeSuccessCount",
    "StartTime",
];

#[test]
fn counters_are_flumes_json_and_prometheus_text() -> Result<()> {
    let place = Place::new()?;
    let port = port()?;
    let out = place.folder("out")?;
    let agent = place.agent(&format!(
        "a1.sources = r1\na1.channels = c1\na1.sinks = k1\n\
         a1.sources.r1.type = http\na1.sources.r1.bind = 127.0.0.1\na1.sources.r1.port = {port}\n\
         a1.sources.r1.channels = c1\n\
         a1.channels.c1.type = file\na1.channels.c1.dataDirs = {}\n\
         a1.sinks.k1.type = file_roll\na1.sinks.k1.sink.directory = {}\na1.sinks.k1.channel = c1\n",
        place.path("channel").display(),
        out.display()
    ))?;
    let body = br#"[{"body":"1"},{"body":"2"},{"body":"3"}]"#;
    ensure!(http::post(port, "/", &[], body)?.status == 200);
    poll::until_true("three events are out", LIMIT, || {
        Ok(agent.metric("SINK.k1", "EventDrainSuccessCount")? == 3)
    })?;
    let (code, all) = agent.json("/metrics")?;
    ensure!(code == 200, "{code}");
    let parts = all.as_object().context("not an object")?;
    for (name, values) in parts {
        let values = values.as_object().context("a part is not an object")?;
        let odd = values.iter().find(|(_, value)| !value.is_string());
        ensure!(
            odd.is_none(),
            "{name}: Flume's values are text, not {odd:?}"
        );
        ensure!(values.contains_key("Type"), "{name} has no Type");
    }
    for name in CHANNEL {
        ensure!(all["CHANNEL.c1"][name].is_string(), "no {name} in {all}");
    }
    ensure!(agent.metric("CHANNEL.c1", "ChannelSize")? == 0);
    ensure!(agent.metric("SOURCE.r1", "EventAcceptedCount")? == 3);
    ensure!(agent.metric("SOURCE.r1", "AppendBatchAcceptedCount")? == 1);

    let text = agent.get("/metrics/prometheus")?;
    let text = String::from_utf8(text.body).context("not text")?;
    let value = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.rsplit(' ').next()?.parse::<f64>().ok()
    };
    ensure!(
        value("process_resident_memory_bytes").is_some_and(|bytes| bytes > 1e6),
        "{text}"
    );
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let number = line
            .rsplit(' ')
            .next()
            .and_then(|number| number.parse::<f64>().ok());
        ensure!(number.is_some(), "not a sample: {line}");
    }
    ensure!(
        text.contains("c1") && text.contains("k1") && text.contains("r1"),
        "{text}"
    );
    ensure!(agent.get("/nothing")?.status == 404);
    agent.stop()
}

#[test]
fn a_monitoring_port_that_was_asked_for_and_is_taken_stops_the_start() -> Result<()> {
    let place = Place::new()?;
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let monitoring = taken.local_addr()?.port();
    let conf = place.file("flume.conf", &netcat_logger(port()?, "r1"))?;
    let conf = conf.to_str().context("a path that is not text")?;
    let defined = format!("-Dflume.monitoring.port={monitoring}");
    let ended = flafka(&["agent", "-n", "a1", "-f", conf, &defined])?;
    ensure!(ended.status.code() == Some(1), "{}", ended.status);
    ensure!(
        ended.stderr.contains(&monitoring.to_string()),
        "{}",
        ended.stderr
    );
    Ok(())
}
