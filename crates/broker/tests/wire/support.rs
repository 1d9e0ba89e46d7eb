//! A broker on a free port in a temporary directory, and a client that speaks frames.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flafka_broker::{Broker, BrokerConfig};
use flafka_kafka_wire::records::{BatchBuilder, Compression, batches, records};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiKey, FetchRequest, FetchResponse, MetadataRequest, ProduceRequest, RequestHeader, TopicName,
    fetch_request, metadata_request,
};
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longer than anything here takes; only a hang reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    pub(crate) broker: Broker,
    pub(crate) dir: TempDir,
    extra: String,
}

impl Server {
    pub(crate) async fn start() -> Server {
        Server::with("").await
    }

    /// With more lines of `server.properties`.
    pub(crate) async fn with(extra: &str) -> Server {
        let dir = TempDir::new().unwrap();
        Server::in_dir(dir, extra.to_owned()).await
    }

    async fn in_dir(dir: TempDir, extra: String) -> Server {
        let text = format!(
            "listeners=PLAINTEXT://127.0.0.1:0\nlog.dirs={}\n{extra}",
            dir.path().display()
        );
        let (config, _) = BrokerConfig::from_properties(&text).unwrap();
        let broker = Broker::start(config).await.unwrap();
        Server { broker, dir, extra }
    }

    /// Stops and starts again on the same data.
    pub(crate) async fn restart(self) -> Server {
        self.restart_after(|_| {}).await
    }

    /// The same; in between something happens to the data directory.
    pub(crate) async fn restart_after(self, change: impl FnOnce(&Path)) -> Server {
        let Server { broker, dir, extra } = self;
        broker.shutdown(PATIENCE).await.unwrap();
        change(dir.path());
        Server::in_dir(dir, extra).await
    }

    pub(crate) async fn stop(self) {
        self.broker.shutdown(PATIENCE).await.unwrap();
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.broker.local_addr()).await
    }
}

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Client {
        Client {
            stream: TcpStream::connect(address).await.unwrap(),
            correlation_id: 0,
        }
    }

    /// Sends one request and reads its answer.
    pub(crate) async fn call<Q: Request>(&mut self, version: i16, request: &Q) -> Q::Response {
        self.send(version, request).await;
        self.receive::<Q>(version).await
    }

    pub(crate) async fn send<Q: Request>(&mut self, version: i16, request: &Q) {
        self.correlation_id += 1;
        let frame = frame(version, request, self.correlation_id);
        self.stream.write_all(&frame).await.unwrap();
    }

    /// The next answer, which must be that of the given request type; its id must be `ahead` answers before the last
    /// sent request.
    pub(crate) async fn receive_nth<Q: Request>(
        &mut self,
        version: i16,
        ahead: i32,
    ) -> Q::Response {
        let mut body = self.raw_answer().await.expect("an answer");
        assert_eq!(body.get_i32(), self.correlation_id - ahead);
        let key = ApiKey::try_from(Q::KEY).unwrap();
        if key.response_header_version(version) >= 1 {
            assert_eq!(body.get_u8(), 0);
        }
        let response = Q::Response::decode(&mut body, version).unwrap();
        assert!(
            body.is_empty(),
            "{key:?} version {version}: {} bytes are left",
            body.len()
        );
        response
    }

    pub(crate) async fn receive<Q: Request>(&mut self, version: i16) -> Q::Response {
        self.receive_nth::<Q>(version, 0).await
    }

    /// The next frame behind its length; `None` = the broker closed the connection.
    pub(crate) async fn raw_answer(&mut self) -> Option<Bytes> {
        let reading = async {
            let length = self.stream.read_i32().await.ok()?;
            let mut body = vec![0; usize::try_from(length).unwrap()];
            self.stream.read_exact(&mut body).await.ok()?;
            Some(Bytes::from(body))
        };
        tokio::time::timeout(PATIENCE, reading)
            .await
            .expect("an answer or the end")
    }

    pub(crate) async fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        batch: Bytes,
    ) -> (i16, i64) {
        let response = self
            .call(9, &produce_request(topic, partition, batch, -1))
            .await;
        let partition = &response.responses[0].partition_responses[0];
        (partition.error_code, partition.base_offset)
    }

    pub(crate) async fn create(&mut self, topic: &str) {
        let wanted = metadata_request::MetadataRequestTopic::default().with_name(Some(name(topic)));
        let request = MetadataRequest::default().with_topics(Some(vec![wanted]));
        let response = self.call(12, &request).await;
        assert_eq!(response.topics[0].error_code, 0);
    }

    pub(crate) async fn fetch(&mut self, version: i16, request: &FetchRequest) -> FetchResponse {
        self.call(version, request).await
    }
}

pub(crate) fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A whole request frame.
pub(crate) fn frame<Q: Request>(version: i16, request: &Q, correlation_id: i32) -> Bytes {
    let mut body = BytesMut::new();
    let key = ApiKey::try_from(Q::KEY).unwrap();
    RequestHeader::default()
        .with_request_api_key(Q::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(text("wire-test")))
        .encode(&mut body, key.request_header_version(version))
        .unwrap();
    request.encode(&mut body, version).unwrap();
    let mut frame = BytesMut::new();
    frame.put_i32(i32::try_from(body.len()).unwrap());
    frame.put_slice(&body);
    frame.freeze()
}

pub(crate) fn produce_request(
    topic: &str,
    partition: i32,
    batch: Bytes,
    acks: i16,
) -> ProduceRequest {
    ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![
            TopicProduceData::default()
                .with_name(name(topic))
                .with_partition_data(vec![
                    PartitionProduceData::default()
                        .with_index(partition)
                        .with_records(Some(batch)),
                ]),
        ])
}

pub(crate) fn fetch_request(topic: &str, partition: i32, offset: i64) -> FetchRequest {
    FetchRequest::default()
        .with_max_wait_ms(0)
        .with_min_bytes(1)
        .with_max_bytes(50 << 20)
        .with_topics(vec![
            fetch_request::FetchTopic::default()
                .with_topic(name(topic))
                .with_partitions(vec![
                    fetch_request::FetchPartition::default()
                        .with_partition(partition)
                        .with_fetch_offset(offset)
                        .with_partition_max_bytes(1 << 20),
                ]),
        ])
}

/// A batch of text records with timestamps 1000, 1001, …
pub(crate) fn batch(values: &[&str]) -> Bytes {
    stamped(values, 1_000, None)
}

pub(crate) fn stamped(
    values: &[&str],
    first_timestamp: i64,
    producer: Option<(i64, i16, i32)>,
) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    if let Some((id, epoch, sequence)) = producer {
        builder.set_producer(id, epoch, sequence);
    }
    for (timestamp, value) in (first_timestamp..).zip(values) {
        builder
            .push(timestamp, None, Some(value.as_bytes()), std::iter::empty())
            .unwrap();
    }
    builder.finish().unwrap()
}

/// Offsets and values of all records in fetched bytes.
pub(crate) fn read_records(bytes: &[u8]) -> Vec<(i64, String)> {
    let mut out = Vec::new();
    for batch in batches(bytes) {
        let (header, batch) = batch.unwrap();
        let mut scratch = Vec::new();
        for record in records(&header, batch, &mut scratch, 1 << 20).unwrap() {
            let record = record.unwrap();
            let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            out.push((record.offset, value));
        }
    }
    out
}

/// The records of the first partition of an answer.
pub(crate) fn fetched(response: &FetchResponse) -> Vec<(i64, String)> {
    let partition = &response.responses[0].partitions[0];
    assert_eq!(partition.error_code, 0);
    read_records(partition.records.as_deref().unwrap_or_default())
}
