//! Flume's connectors and Kafka's durable log in one binary
fn main() {}
