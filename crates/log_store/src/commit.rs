//! One round of the commit loop: plan, write segments, sync the bulky ones, write the journal, sync it once, publish,
//! answer.
//!
//! Order is everything here (reference §4.2): data reaches the segments before the journal names it; a bulk reference
//! is journaled only after its segment's sync; nothing is published or answered before it is as durable as promised.
//! A failed write touches nothing but the groups that caused it. After a failed sync, or a failed write of the journal,
//! all groups of the round are refused, and nobody hears of it before the log has been mended ([`crate::mend`]).

use std::sync::{Arc, PoisonError};

use crate::engine::{Engine, commit_fault};
use crate::error::{CommitError, IoFault};
use crate::jobs::SyncFault;
use crate::journal::writer::JournalError;
use crate::op::{Offset, OpOutcome, StreamId};
use crate::plan::{Effect, Plan, PlanContext, journal_estimate};
use crate::queue::{CommitRequest, Reply, tell};
use crate::segment_writes::{self, SegmentWrite};

/// Memory kept from one round for the next.
const MOST_ARENA_BYTES: usize = 1 << 20;

/// What one round may take.
#[derive(Debug)]
pub(crate) struct RoundLoad {
    bytes: u64,
    journal: u64,
    most_bytes: u64,
    most_journal: u64,
}

impl RoundLoad {
    pub(crate) fn add(&mut self, request: &CommitRequest) {
        self.bytes += request.bytes;
        self.journal += journal_estimate(&request.ops);
    }

    pub(crate) fn has_room_for(&self, request: &CommitRequest) -> bool {
        self.bytes + request.bytes <= self.most_bytes
            && self.journal + journal_estimate(&request.ops) <= self.most_journal
    }
}

/// What a group will be told.
enum Answer {
    All(Result<Vec<OpOutcome>, CommitError>),
    Each(Vec<Result<OpOutcome, CommitError>>),
}

struct Planned {
    answer: Answer,
    weak: bool,
}

/// Why a round wrote nothing that counts.
enum RoundFault {
    /// The disk refused before the journal was touched; other groups may fare better.
    Confined(IoFault),
    /// Segments could not be synced; the journal does not know of the round.
    Unsynced(SyncFault),
    /// The journal failed.
    Journal(IoFault),
}

impl Engine {
    /// An empty round.
    pub(crate) fn round_load(&self) -> RoundLoad {
        RoundLoad {
            bytes: 0,
            journal: 0,
            most_bytes: self.options.round_bytes,
            most_journal: self.journal.largest_group() / 3,
        }
    }

    /// Commits groups together.
    pub(crate) fn round(&mut self, requests: Vec<CommitRequest>) {
        if let Some(fault) = &self.failure {
            let error = CommitError::Poisoned(fault.clone());
            return answer_all(requests, &error);
        }
        let (mut plan, planned) = self.plan(&requests);
        if plan.is_empty() {
            return answer(requests.into_iter().zip(planned));
        }
        match self.write_round(&mut plan) {
            Ok(()) => {}
            Err(RoundFault::Unsynced(SyncFault { fault, segments })) => {
                self.discard(&plan);
                let mended = self.mend(&fault, segments, false);
                let error = mended.err().unwrap_or_else(|| commit_fault(fault));
                return answer_all(requests, &error);
            }
            Err(RoundFault::Journal(fault)) => {
                self.discard(&plan);
                let error = self.journal_fault(JournalError::Broken(fault));
                return answer_all(requests, &error);
            }
            Err(RoundFault::Confined(fault)) if requests.len() == 1 => {
                self.discard(&plan);
                if fault.is_no_space() {
                    self.drop_spares();
                }
                return answer_all(requests, &commit_fault(fault));
            }
            Err(RoundFault::Confined(_)) => {
                self.discard(&plan);
                // Each for itself, so that only those fail that have to.
                for request in requests {
                    self.round(vec![request]);
                }
                return;
            }
        }
        self.finish_round(plan, requests, planned);
    }

    fn plan(&mut self, requests: &[CommitRequest]) -> (Plan, Vec<Planned>) {
        let no_space = self.look_for_space();
        let largest = self.journal.largest_group() / 3;
        let mut plan = Plan::new(std::mem::take(&mut self.arena));
        let context = PlanContext {
            streams: &self.streams,
            epoch: self.shared.epoch,
            now_ms: self.clock.now_ms(),
            steady_ms: self.steady_ms(),
            table_weak: !self.options.table_durability.is_fsync(),
            table_bytes: self
                .shared
                .tables
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .bytes(),
            no_space: no_space.as_ref(),
        };
        let planned = requests
            .iter()
            .map(|request| {
                let estimate = journal_estimate(&request.ops);
                if estimate > largest {
                    let error = CommitError::TooLarge {
                        what: "commit group",
                        found: estimate,
                        allowed: largest,
                    };
                    return refused(request, error);
                }
                match request.reply {
                    Reply::All(_) => match plan.add_all(&context, &request.ops) {
                        Ok((outcomes, weak)) => Planned {
                            answer: Answer::All(Ok(outcomes)),
                            weak,
                        },
                        Err(error) => refused(request, error),
                    },
                    Reply::Each(_) => {
                        let (results, weak) = plan.add_each(&context, &request.ops);
                        Planned {
                            answer: Answer::Each(results),
                            weak,
                        }
                    }
                }
            })
            .collect();
        plan.choose_bulk(&self.options, self.journal.largest_group());
        (plan, planned)
    }

    fn write_round(&mut self, plan: &mut Plan) -> Result<(), RoundFault> {
        self.write_segments(plan).map_err(RoundFault::Confined)?;
        self.sync_bulk(plan)?;
        let group = plan.journal_group();
        if group.is_empty() {
            return Ok(());
        }
        self.journal.write(&group).map_err(|error| match error {
            JournalError::NoRoom(fault) => RoundFault::Confined(fault),
            JournalError::Broken(fault) => RoundFault::Journal(fault),
        })
    }

    fn write_segments(&mut self, plan: &mut Plan) -> Result<(), IoFault> {
        let writes = self.open_segments(plan)?;
        let bytes: u64 = plan.streams.iter().map(|stream| stream.bytes).sum();
        segment_writes::run(plan, writes, self.second_hand.as_mut())?;
        self.free_bytes = self.free_bytes.saturating_sub(bytes);
        self.data_bytes += bytes;
        Ok(())
    }

    /// The next round writes into the same memory, which costs less than new pages.
    fn keep_arena(&mut self, mut arena: Vec<u8>) {
        arena.clear();
        arena.shrink_to(MOST_ARENA_BYTES);
        self.arena = arena;
    }

    /// Creates the segments that begin in this round, and says where everything goes.
    fn open_segments(&mut self, plan: &mut Plan) -> Result<Vec<SegmentWrite>, IoFault> {
        let mut writes = Vec::with_capacity(plan.streams.len());
        for stream in 0..plan.streams.len() {
            let Some(writer) = self.streams.get(&plan.streams[stream].id) else {
                continue;
            };
            let state = Arc::clone(&writer.state);
            let mut file = writer.file.clone();
            let mut laid_out = writer.active.as_ref().map_or(0, |active| active.laid_out());
            for chunk in 0..plan.streams[stream].chunks.len() {
                if plan.streams[stream].chunks[chunk].new {
                    let base = plan.streams[stream].chunks[chunk].segment;
                    let (segment, new_file) = self.create_segment(&state, base)?;
                    file = Some(Arc::clone(&new_file));
                    laid_out = segment.laid_out();
                    plan.streams[stream].chunks[chunk].opened = Some((segment, new_file));
                }
                // The first chunk of a stream without a segment is always a new one.
                let Some(file) = file.clone() else { continue };
                writes.push(SegmentWrite {
                    stream,
                    chunk,
                    file,
                    laid_out,
                    state: Arc::clone(&state),
                });
            }
        }
        Ok(writes)
    }

    /// Makes the bulky streams' data durable, before the journal refers to it.
    fn sync_bulk(&self, plan: &Plan) -> Result<(), RoundFault> {
        let mut failed: Option<SyncFault> = None;
        for stream in plan.streams.iter().filter(|stream| stream.bulk) {
            let Some(writer) = self.streams.get(&stream.id) else {
                continue;
            };
            for chunk in &stream.chunks {
                let (file, published) = match &chunk.opened {
                    Some((_, file)) => (Some(file), None),
                    None => (writer.file.as_ref(), writer.active.clone()),
                };
                let Some(Err(error)) = file.map(|file| file.sync_data()) else {
                    continue;
                };
                let failed = failed.get_or_insert_with(|| SyncFault {
                    fault: IoFault::of("sync segment", &writer.state.dir)(error),
                    segments: Vec::new(),
                });
                // A segment that nobody has seen is simply thrown away.
                failed.segments.extend(published);
            }
        }
        failed.map_or(Ok(()), |failed| Err(RoundFault::Unsynced(failed)))
    }

    /// Removes the segments that a refused round has made. What stays is overwritten, or removed by the next start.
    fn discard(&self, plan: &Plan) {
        for chunk in plan.streams.iter().flat_map(|stream| &stream.chunks) {
            if let Some((segment, _)) = &chunk.opened
                && let Err(error) = self.fs.remove_file(&segment.path)
            {
                tracing::warn!(path = %segment.path.display(), %error, "cannot remove an unused segment");
            }
        }
    }

    /// Publishes and answers: what is weak at once, the rest after the journal's sync.
    fn finish_round(
        &mut self,
        mut plan: Plan,
        requests: Vec<CommitRequest>,
        planned: Vec<Planned>,
    ) {
        self.changed = true;
        let early = !(plan.strong && plan.mixed);
        if early {
            self.publish(&mut plan, true);
        }
        let (weak, strong): (Vec<_>, Vec<_>) = requests
            .into_iter()
            .zip(planned)
            .partition(|(_, planned)| planned.weak && early);
        answer(weak);
        if plan.strong {
            if let Err(error) = self.journal.sync() {
                self.discard(&plan);
                let error = self.journal_fault(error);
                return answer_all(strong.into_iter().map(|(request, _)| request), &error);
            }
            if !early {
                self.publish(&mut plan, true);
            }
            self.publish(&mut plan, false);
        }
        answer(strong);
        self.keep_arena(plan.arena);
        self.prepare_spare();
        self.checkpoint_if_large();
    }

    fn publish(&mut self, plan: &mut Plan, weak: bool) {
        for stream in plan.streams.iter_mut().filter(|stream| stream.weak == weak) {
            if let Some(writer) = self.streams.get_mut(&stream.id) {
                writer.publish(
                    stream,
                    self.shared.epoch,
                    self.options.max_producers,
                    &self.shared.open_segments,
                );
            }
        }
        let effects = std::mem::take(&mut plan.effects);
        let (now, later): (Vec<_>, Vec<_>) = effects.into_iter().partition(|(_, its)| *its == weak);
        plan.effects = later;
        if now.is_empty() {
            return;
        }
        let tables = Arc::clone(&self.shared);
        let mut tables = tables
            .tables
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        for (effect, _) in now {
            match effect {
                Effect::Put(table, key, value) => tables.put(table, &key, &value),
                Effect::Delete(table, key) => tables.delete(table, &key),
                Effect::Ack(stream, first, last) => {
                    // At once, as a start replays it.
                    let low = self.streams.get(&stream).map(|writer| {
                        let acks = &mut writer.state.view_mut().acks;
                        acks.insert(first, last);
                        acks.low
                    });
                    if let Some(low) = low {
                        self.trim(stream, low, false);
                    }
                }
                Effect::Trim(stream, log_start, whole) => {
                    self.trim(stream, log_start, whole);
                }
            }
        }
    }

    /// Moves the log start; the freed segments go with the next checkpoint.
    fn trim(&mut self, stream: StreamId, log_start: Offset, whole: bool) {
        let Some(writer) = self.streams.get_mut(&stream) else {
            return;
        };
        let freed = {
            let mut view = writer.state.view_mut();
            let freed = view.trim_to(log_start, whole);
            writer.log_start = view.log_start;
            freed
        };
        if freed.is_empty() {
            return;
        }
        writer.forget(&freed);
        self.unlink_later(stream, freed);
    }
}

fn refused(request: &CommitRequest, error: CommitError) -> Planned {
    let answer = match request.reply {
        Reply::All(_) => Answer::All(Err(error)),
        Reply::Each(_) => Answer::Each(vec![Err(error); request.ops.len()]),
    };
    Planned { answer, weak: true }
}

fn answer(answers: impl IntoIterator<Item = (CommitRequest, Planned)>) {
    for (request, planned) in answers {
        let CommitRequest { reply, permit, .. } = request;
        // Room first, so that whoever wakes up finds it.
        drop(permit);
        match (reply, planned.answer) {
            (Reply::All(reply), Answer::All(result)) => tell(reply, result),
            (Reply::Each(reply), Answer::Each(results)) => tell(reply, results),
            // Answers are made from the request's own reply.
            (Reply::All(_), Answer::Each(_)) | (Reply::Each(_), Answer::All(_)) => {}
        }
    }
}

fn answer_all(requests: impl IntoIterator<Item = CommitRequest>, error: &CommitError) {
    answer(requests.into_iter().map(|request| {
        let planned = refused(&request, error.clone());
        (request, planned)
    }));
}
