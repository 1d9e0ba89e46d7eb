//! The load of the channel measurements, run in a process of its own so that its memory and processor time are the
//! channel's: threads that put batches for a stated time, one that takes and commits until nothing is left.
//! `bench/java/FileChannelLoad.java` does the same to Flume's file channel.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use clap::Args;
use flafka_channels::file::{FileChannel, FileChannelConfig};
use flafka_flow::channel::{Channel, ChannelError, TakeLimit};
use flafka_flow::clock::SystemClock;
use flafka_flow::counters::CountersRegistry;
use flafka_flow::lifecycle::Lifecycle;
use flafka_flow::registry::BuildContext;
use flafka_flow::settings::{Report, Section, Settings};
use flafka_flow::{Batch, BatchBuilder, Headers};
use serde_json::json;

use super::outcome::Outcome;
use crate::process::own_cost;
use crate::sample::Percentiles;

/// What one load does.
#[derive(Debug, Clone, Args)]
pub(crate) struct Load {
    /// The channel's data directory
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// Events in a transaction, of puts and of takes
    #[arg(long)]
    pub(crate) batch: usize,
    /// Bytes of a body
    #[arg(long)]
    pub(crate) body: usize,
    /// Tasks that put
    #[arg(long)]
    pub(crate) putters: usize,
    /// How long they put
    #[arg(long, default_value_t = 0)]
    pub(crate) seconds: u64,
    /// Bytes of bodies to leave in the channel, instead of putting for a time and taking
    #[arg(long, default_value_t = 0)]
    pub(crate) leave_bytes: u64,
    /// Only start the channel and take a first batch
    #[arg(long)]
    pub(crate) first_only: bool,
    /// `flafka.durability`
    #[arg(long)]
    pub(crate) durability: String,
    /// Where the outcome goes
    #[arg(long)]
    pub(crate) result: PathBuf,
}

impl Load {
    /// Runs it and writes the outcome.
    pub(crate) fn run(&self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let outcome = runtime.block_on(self.on_channel())?;
        std::fs::write(&self.result, serde_json::to_vec(&json!(outcome.fields()))?)
            .context("write the outcome")
    }

    async fn on_channel(&self) -> Result<Outcome> {
        let begun = Instant::now();
        let channel: Arc<dyn Channel> = Arc::new(self.open()?);
        channel.start().await?;
        if self.first_only {
            let lease = channel.take(TakeLimit::events(self.batch)).await?;
            ensure!(!lease.is_empty(), "the channel gave no event");
            return Outcome::of(lease.batch().len() as u64, begun.elapsed(), Vec::new());
        }
        if self.leave_bytes > 0 {
            return self.fill(&*channel).await;
        }
        let outcome = self.put_and_take(&channel).await?;
        channel.stop().await?;
        Ok(outcome)
    }

    fn open(&self) -> Result<FileChannel> {
        let dir = self.dir.display().to_string();
        let capacity = if self.leave_bytes > 0 || self.first_only {
            "1000000000"
        } else {
            "1000000"
        };
        let keys = [
            ("dataDirs", dir.as_str()),
            ("capacity", capacity),
            ("transactionCapacity", "10000"),
            ("flafka.durability", &self.durability),
        ];
        let mut report = Report::new();
        let section = Section::of("bench.channels.c1", keys);
        let Some(config) = FileChannelConfig::from_section(&section, &mut report) else {
            bail!("the channel's settings: {report:?}");
        };
        let context = BuildContext {
            component: "bench.channels.c1".to_owned(),
            clock: Arc::new(SystemClock),
            counters: CountersRegistry::default(),
            lifecycle: Lifecycle::new(),
            home: std::env::temp_dir(),
            contents: None,
        };
        Ok(FileChannel::new(config, &context))
    }

    /// A batch of one body and one set of headers. The body is not copied, as Flume's `EventBuilder.withBody` does not:
    /// what is measured is the channel.
    fn batch(&self, body: &Bytes) -> Batch {
        let mut builder = BatchBuilder::with_capacity(self.batch);
        let set = builder.headers(Headers::single("file", "/var/log/nginx/access.log"));
        let buffer = builder.buffer(body.clone());
        for _ in 0..self.batch {
            builder.push(set, buffer, 0..self.body);
        }
        builder.finish()
    }

    fn body(&self) -> Bytes {
        Bytes::from(vec![b'x'; self.body])
    }

    async fn put_and_take(&self, channel: &Arc<dyn Channel>) -> Result<Outcome> {
        let put = Arc::new(AtomicU64::new(0));
        let putting = Arc::new(AtomicBool::new(true));
        let begun = Instant::now();
        let until = begun + Duration::from_secs(self.seconds);
        let putters: Vec<_> = (0..self.putters)
            .map(|_| {
                let (channel, put, load) = (Arc::clone(channel), Arc::clone(&put), self.clone());
                tokio::spawn(async move { load.puts(&*channel, until, &put).await })
            })
            .collect();
        let taker = tokio::spawn({
            let (channel, put, putting, batch) = (
                Arc::clone(channel),
                Arc::clone(&put),
                Arc::clone(&putting),
                self.batch,
            );
            async move { takes(&*channel, batch, &putting, &put).await }
        });
        let mut waits = Vec::new();
        for putter in putters {
            waits.extend(putter.await??);
        }
        putting.store(false, Ordering::Release);
        let (taken, ended) = taker.await??;
        let put = put.load(Ordering::Acquire);
        ensure!(taken == put, "put {put} events, took {taken}");
        // A last take that finds nothing waits for `keep-alive`: the end is the last event out.
        Outcome::of(taken, ended.duration_since(begun), waits)
    }

    async fn puts(
        &self,
        channel: &dyn Channel,
        until: Instant,
        put: &AtomicU64,
    ) -> Result<Vec<Duration>> {
        let mut waits = Vec::new();
        let body = self.body();
        while Instant::now() < until {
            let batch = self.batch(&body);
            let begun = Instant::now();
            match channel.put(batch).await {
                Ok(()) => {
                    waits.push(begun.elapsed());
                    put.fetch_add(self.batch as u64, Ordering::AcqRel);
                }
                Err(ChannelError::Full { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(waits)
    }

    /// Leaves so many bytes in the channel and ends without closing it, as a crash does.
    async fn fill(&self, channel: &dyn Channel) -> Result<Outcome> {
        let begun = Instant::now();
        let batches = self.leave_bytes / (self.batch * self.body) as u64;
        let body = self.body();
        for _ in 0..batches {
            channel.put(self.batch(&body)).await?;
        }
        Outcome::of(batches * self.batch as u64, begun.elapsed(), Vec::new())
    }
}

/// Takes until nothing is put any more and nothing is left. Returns how many events came out, and when the last did.
async fn takes(
    channel: &dyn Channel,
    batch: usize,
    putting: &AtomicBool,
    put: &AtomicU64,
) -> Result<(u64, Instant)> {
    let (mut taken, mut ended) = (0, Instant::now());
    loop {
        let last = !putting.load(Ordering::Acquire);
        if last && taken == put.load(Ordering::Acquire) {
            return Ok((taken, ended));
        }
        let lease = channel.take(TakeLimit::events(batch)).await?;
        if lease.is_empty() {
            if last {
                return Ok((taken, ended));
            }
            continue;
        }
        taken += lease.batch().len() as u64;
        lease.commit().await?;
        ended = Instant::now();
    }
}

impl Outcome {
    fn of(events: u64, wall: Duration, waits: Vec<Duration>) -> Result<Self> {
        Ok(Self {
            events,
            wall,
            cost: own_cost()?,
            waits: Percentiles::of(waits),
        })
    }

    /// Reads what a load has written.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).context("read the outcome")?;
        Self::parse(&serde_json::from_slice(&text).context("read the outcome")?)
    }
}
