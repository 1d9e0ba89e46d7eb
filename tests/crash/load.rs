//! The load: threads that append lines to files that rotate, and threads that post.
//!
//! Invariant: what a thread reports as written or acknowledged was so before it reports it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use flafka_tests::http;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use crate::text::{Identity, Way};

/// Threads that append lines, each to a file of its own.
pub(crate) const WRITERS: usize = 2;
/// Threads that post, each one request at a time.
pub(crate) const POSTERS: usize = 3;
/// Lines after which a file is renamed and a new one begun.
const ROTATE_AFTER: u64 = 1500;
/// Events of one post at most.
const POST_EVENTS: u64 = 20;

/// What became of a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Answered 200.
    Acknowledged,
    /// Answered otherwise.
    Refused(u16),
    /// Sent, or partly so, and never answered.
    Unanswered,
}

/// One post.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Post {
    pub(crate) events: u64,
    pub(crate) outcome: Outcome,
    /// When that was known.
    pub(crate) known: Instant,
}

/// Everything that was sent.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// Complete lines of each writer.
    pub(crate) lines: Vec<u64>,
    /// Posts of each poster, in order.
    pub(crate) posts: Vec<Vec<Post>>,
}

impl Sent {
    /// The same as it was known at `moment`: a later answer counts as none.
    pub(crate) fn at(&self, moment: Instant) -> Self {
        let as_known = |post: &Post| Post {
            outcome: if post.known < moment {
                post.outcome
            } else {
                Outcome::Unanswered
            },
            ..*post
        };
        let posts = self.posts.iter();
        Self {
            lines: self.lines.clone(),
            posts: posts
                .map(|posts| posts.iter().map(as_known).collect())
                .collect(),
        }
    }

    /// Events of acknowledged posts, and complete lines.
    pub(crate) fn acknowledged(&self) -> u64 {
        let posts = self.posts.iter().flatten();
        let posts = posts.filter(|post| post.outcome == Outcome::Acknowledged);
        posts.map(|post| post.events).sum::<u64>() + self.lines.iter().sum::<u64>()
    }

    /// Posts that were refused.
    pub(crate) fn refused(&self) -> u64 {
        let posts = self.posts.iter().flatten();
        posts
            .filter(|post| matches!(post.outcome, Outcome::Refused(_)))
            .count() as u64
    }
}

/// How many threads there are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Threads {
    pub(crate) writers: usize,
    pub(crate) posters: usize,
}

/// Numbers that can be looked at while the load runs.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) acknowledged: AtomicU64,
    pub(crate) refused: AtomicU64,
}

/// The running threads.
pub(crate) struct Load {
    pub(crate) progress: Arc<Progress>,
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<Result<u64>>>,
    posters: Vec<JoinHandle<Vec<Post>>>,
}

impl Load {
    /// Starts all threads.
    pub(crate) fn start(seed: u64, logs: &Path, port: u16) -> Self {
        let threads = Threads {
            writers: WRITERS,
            posters: POSTERS,
        };
        Self::with(threads, seed, logs, port)
    }

    /// Starts so many threads.
    pub(crate) fn with(threads: Threads, seed: u64, logs: &Path, port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let progress = Arc::new(Progress::default());
        let writers = (0..threads.writers).map(|sender| {
            let (stop, logs) = (Arc::clone(&stop), logs.to_owned());
            thread::spawn(move || write_lines(seed, sender, &logs, &stop))
        });
        let writers = writers.collect();
        let posters = (0..threads.posters).map(|sender| {
            let (stop, progress) = (Arc::clone(&stop), Arc::clone(&progress));
            thread::spawn(move || send_posts(seed, sender, port, &stop, &progress))
        });
        Self {
            writers,
            posters: posters.collect(),
            progress,
            stop,
        }
    }

    /// Stops the threads and returns what they did.
    pub(crate) fn finish(self) -> Result<Sent> {
        self.stop.store(true, Ordering::Relaxed);
        let mut sent = Sent::default();
        for writer in self.writers {
            let lines = writer.join().map_err(|_| anyhow!("a writer panicked"))?;
            sent.lines.push(lines.context("write lines")?);
        }
        for poster in self.posters {
            sent.posts
                .push(poster.join().map_err(|_| anyhow!("a poster panicked"))?);
        }
        Ok(sent)
    }
}

fn write_lines(seed: u64, sender: usize, logs: &Path, stop: &AtomicBool) -> Result<u64> {
    let mut rng = StdRng::seed_from_u64(seed ^ 0x11 ^ sender as u64);
    let path = logs.join(format!("{sender}.log"));
    let open = |path: &PathBuf| File::options().create(true).append(true).open(path);
    let mut file = open(&path)?;
    let mut number = 0;
    let mut in_file = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut bytes = Vec::new();
        let lines = rng.random_range(1..=20);
        for next in number..number + lines {
            let identity = Identity {
                way: Way::Tail,
                sender,
                number: next,
            };
            bytes.extend_from_slice(identity.text(seed).as_bytes());
            bytes.push(b'\n');
        }
        // Half of the writes come in two pieces, cut anywhere, so that the agent meets unfinished lines.
        let cut = if rng.random() {
            rng.random_range(0..bytes.len())
        } else {
            bytes.len()
        };
        file.write_all(&bytes[..cut])?;
        thread::sleep(Duration::from_micros(rng.random_range(500..4000)));
        file.write_all(&bytes[cut..])?;
        number += lines;
        in_file += lines;
        if in_file >= ROTATE_AFTER {
            fs::rename(&path, logs.join(format!("{sender}.log.{number}")))?;
            file = open(&path)?;
            in_file = 0;
        }
        thread::sleep(Duration::from_millis(rng.random_range(0..8)));
    }
    Ok(number)
}

fn send_posts(
    seed: u64,
    sender: usize,
    port: u16,
    stop: &AtomicBool,
    progress: &Progress,
) -> Vec<Post> {
    let mut rng = StdRng::seed_from_u64(seed ^ 0x2200 ^ sender as u64);
    let mut posts = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let events = rng.random_range(1..=POST_EVENTS);
        let first = (posts.len() as u64) << 8;
        let body: Vec<_> = (first..first + events)
            .map(|number| Identity {
                way: Way::Http,
                sender,
                number,
            })
            .map(|identity| json!({ "body": identity.text(seed) }))
            .collect();
        let body = json!(body).to_string();
        let outcome = match http::post(port, "/", &[], body.as_bytes()) {
            Ok(answer) if answer.status == 200 => Outcome::Acknowledged,
            Ok(answer) => Outcome::Refused(answer.status),
            Err(error) if nobody_listens(&error) => {
                thread::sleep(Duration::from_millis(5));
                continue;
            }
            Err(_) => Outcome::Unanswered,
        };
        match outcome {
            Outcome::Acknowledged => progress.acknowledged.fetch_add(events, Ordering::Relaxed),
            Outcome::Refused(_) => progress.refused.fetch_add(1, Ordering::Relaxed),
            Outcome::Unanswered => 0,
        };
        posts.push(Post {
            events,
            outcome,
            known: Instant::now(),
        });
        thread::sleep(Duration::from_millis(rng.random_range(0..5)));
    }
    posts
}

/// Whether not one byte of a request was sent: then there was no post.
fn nobody_listens(error: &anyhow::Error) -> bool {
    let cause = error.root_cause().downcast_ref::<io::Error>();
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::ConnectionRefused)
}
