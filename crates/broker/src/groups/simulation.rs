//! Random lives of one group under a virtual clock, with the promises of the protocol checked after every step.
//!
//! Clients join, sync, heartbeat, commit, leave, crash, lose their connection, restart with their instance id, and come
//! back with stale generations. A failing seed is printed and reruns with `FLAFKA_SEED=<n>`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::error::GroupError;
use super::group::{Group, GroupState, Limits};
use super::join::JoinRequest;
use super::member::{Effect, Millis, Protocol, Ticket};
use super::session::{Leaving, SyncRequest};

const SESSION: Millis = 10_000;
const REBALANCE: Millis = 30_000;
const CLIENTS: usize = 6;
const STEPS: usize = 1_500;

/// What a client believes.
#[derive(Default)]
struct Client {
    instance_id: Option<StrBytes>,
    member_id: StrBytes,
    generation: i32,
    leads: Vec<StrBytes>,
    joined: bool,
    assigned: bool,
    waiting: Option<Ticket>,
    metadata: u8,
    /// Until then it only sends heartbeats: it lives, and holds the others up as long as the deadlines allow.
    stubborn_until: Millis,
}

struct World {
    random: SmallRng,
    now: Millis,
    group: Group,
    clients: Vec<Client>,
    /// Ticket to client and when it must be answered at the latest.
    tickets: HashMap<Ticket, (usize, Millis)>,
    last_ticket: Ticket,
    last_member: u32,
    /// Generation to its leader, and to the mark its leader put into all assignments.
    leaders: BTreeMap<i32, StrBytes>,
    marks: BTreeMap<i32, u64>,
    populated: bool,
}

fn text(value: String) -> StrBytes {
    StrBytes::from_string(value)
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = SmallRng::seed_from_u64(seed);
        let initial_delay = if random.random_bool(0.5) { 0 } else { 3_000 };
        let limits = Limits {
            max_members: CLIENTS - 1,
            max_bytes: 1 << 20,
            initial_delay,
        };
        let client = |index: usize| Client {
            instance_id: (index < 2).then(|| text(format!("instance-{index}"))),
            ..Client::default()
        };
        World {
            random,
            now: 0,
            group: Group::new(limits, 0, None),
            clients: (0..CLIENTS).map(client).collect(),
            tickets: HashMap::new(),
            last_ticket: 0,
            last_member: 0,
            leaders: BTreeMap::new(),
            marks: BTreeMap::new(),
            populated: false,
        }
    }

    fn ticket(&mut self, client: usize, longest: Millis) -> Ticket {
        self.last_ticket += 1;
        self.tickets
            .insert(self.last_ticket, (client, self.now + longest));
        self.clients[client].waiting = Some(self.last_ticket);
        self.last_ticket
    }

    fn join(&mut self, index: usize) {
        // An initial delay, and rebalances that wait for static members until their sessions end.
        let ticket = self.ticket(index, 2 * REBALANCE + SESSION);
        self.last_member += 1;
        let client = &mut self.clients[index];
        client.joined = false;
        client.assigned = false;
        let metadata = Bytes::from(vec![client.metadata]);
        let name = StrBytes::from_static_str("range");
        let request = JoinRequest {
            member_id: client.member_id.clone(),
            new_member_id: text(format!("member-{}", self.last_member)),
            instance_id: client.instance_id.clone(),
            client_id: StrBytes::default(),
            client_host: StrBytes::default(),
            session_timeout: SESSION,
            rebalance_timeout: REBALANCE,
            protocol_type: StrBytes::from_static_str("consumer"),
            protocols: vec![Protocol { name, metadata }],
            requires_member_id: !index.is_multiple_of(3),
            can_skip_assignment: index.is_multiple_of(2),
        };
        let mut effects = Vec::new();
        self.group.join(self.now, ticket, request, &mut effects);
        self.deliver(effects);
    }

    fn sync(&mut self, index: usize) {
        let ticket = self.ticket(index, REBALANCE);
        let mark =
            u64::from(self.last_member) << 32 | self.random.random_range(0..u64::from(u32::MAX));
        let client = &self.clients[index];
        let assignment =
            |member: &StrBytes| (member.clone(), Bytes::copy_from_slice(&mark.to_be_bytes()));
        let request = SyncRequest {
            member_id: client.member_id.clone(),
            instance_id: client.instance_id.clone(),
            generation: client.generation,
            protocol_type: Some(StrBytes::from_static_str("consumer")),
            protocol: Some(StrBytes::from_static_str("range")),
            assignments: client.leads.iter().map(assignment).collect(),
        };
        let takes = self.group.state() == GroupState::CompletingRebalance
            && !client.leads.is_empty()
            && client.generation == self.group.generation()
            && self.group.leader.as_ref() == Some(&client.member_id);
        let mut effects = Vec::new();
        self.group.sync(self.now, ticket, request, &mut effects);
        if takes && self.group.state() == GroupState::Stable {
            let former = self.marks.insert(self.group.generation(), mark);
            assert_eq!(former, None, "a generation is assigned once");
        }
        self.deliver(effects);
    }

    fn heartbeat(&mut self, index: usize) {
        let client = &self.clients[index];
        let outcome = self.group.heartbeat(
            self.now,
            &client.member_id,
            client.instance_id.as_ref(),
            client.generation,
        );
        self.react(index, outcome);
    }

    /// Commits with what the client believes, or with an older generation; never accepted when stale.
    fn commit(&mut self, index: usize) {
        let stale = self.random.random_bool(0.3);
        let client = &self.clients[index];
        let generation = client.generation - i32::from(stale);
        let outcome = self.group.check_commit(
            self.now,
            &client.member_id,
            client.instance_id.as_ref(),
            generation,
        );
        if outcome.is_ok() && generation >= 0 {
            assert_eq!(
                generation,
                self.group.generation(),
                "accepted a commit of an old generation"
            );
            assert!(
                self.group.members.contains_key(&client.member_id),
                "accepted a stranger's commit"
            );
        }
        if generation < 0 && outcome.is_ok() {
            assert!(
                self.group.members.is_empty(),
                "accepted a simple commit beside members"
            );
        }
        if !stale {
            self.react(index, outcome);
        }
    }

    fn react(&mut self, index: usize, outcome: Result<(), GroupError>) {
        let client = &mut self.clients[index];
        match outcome {
            Ok(()) => {}
            Err(GroupError::UnknownMember | GroupError::FencedInstance) => {
                client.member_id = StrBytes::default();
                client.joined = false;
            }
            Err(_) => client.joined = false,
        }
    }

    fn deliver(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Populated => assert!(!std::mem::replace(&mut self.populated, true)),
                Effect::Emptied => assert!(std::mem::replace(&mut self.populated, false)),
                Effect::Join(ticket, answer) => {
                    let Some((index, _)) = self.tickets.remove(&ticket) else {
                        panic!("ticket {ticket} answered twice, or after it was taken back");
                    };
                    let client = &mut self.clients[index];
                    if client.waiting != Some(ticket) {
                        continue;
                    }
                    client.waiting = None;
                    match answer {
                        Ok(joined) => {
                            assert!(joined.members.is_empty() || joined.leader == joined.member_id);
                            if !joined.members.is_empty() {
                                let former = self
                                    .leaders
                                    .insert(joined.generation, joined.leader.clone());
                                let same = former.is_none_or(|former| {
                                    former == joined.leader || client.instance_id.is_some()
                                });
                                assert!(same, "two leaders in generation {}", joined.generation);
                            }
                            client.member_id = joined.member_id;
                            client.generation = joined.generation;
                            client.leads = joined
                                .members
                                .into_iter()
                                .map(|member| member.member_id)
                                .collect();
                            if joined.skip_assignment {
                                client.leads.clear();
                            }
                            client.joined = true;
                        }
                        Err(failure) => match failure.error {
                            GroupError::MemberIdRequired => client.member_id = failure.member_id,
                            error => self.react(index, Err(error)),
                        },
                    }
                }
                Effect::Sync(ticket, answer) => {
                    let Some((index, _)) = self.tickets.remove(&ticket) else {
                        panic!("ticket {ticket} answered twice, or after it was taken back");
                    };
                    let client = &mut self.clients[index];
                    if client.waiting != Some(ticket) {
                        continue;
                    }
                    client.waiting = None;
                    match answer {
                        Ok(synced) => {
                            client.assigned = true;
                            if !synced.assignment.is_empty() {
                                let mark = self
                                    .marks
                                    .get(&client.generation)
                                    .map(|mark| mark.to_be_bytes());
                                assert_eq!(
                                    mark.as_ref().map(<[u8; 8]>::as_slice),
                                    Some(&synced.assignment[..]),
                                    "an assignment of another generation"
                                );
                            }
                        }
                        Err(error) => self.react(index, Err(error)),
                    }
                }
            }
        }
    }

    /// The connection of a waiting client goes; the client may be dead or come back.
    fn disconnect(&mut self, index: usize) {
        let Some(ticket) = self.clients[index].waiting.take() else {
            return;
        };
        self.tickets.remove(&ticket);
        self.clients[index].joined = false;
        let mut effects = Vec::new();
        self.group.abandon(self.now, ticket, &mut effects);
        self.deliver(effects);
    }

    fn leave(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let leaving = Leaving {
            member_id: std::mem::take(&mut client.member_id),
            instance_id: client.instance_id.clone(),
        };
        client.joined = false;
        let mut effects = Vec::new();
        let _outcome = self.group.leave(self.now, &leaving, &mut effects);
        self.deliver(effects);
    }

    fn pass(&mut self, by: Millis) {
        let end = self.now + by;
        while self.now < end {
            self.pass_some(end.min(self.now + SESSION / 3));
            for index in 0..CLIENTS {
                if self.clients[index].stubborn_until > self.now {
                    self.heartbeat(index);
                }
            }
        }
    }

    fn pass_some(&mut self, end: Millis) {
        let mut rounds = 0;
        while let Some(deadline) = self
            .group
            .next_deadline()
            .filter(|deadline| *deadline <= end)
        {
            self.now = self.now.max(deadline);
            let mut effects = Vec::new();
            self.group.on_time(self.now, &mut effects);
            self.deliver(effects);
            rounds += 1;
            assert!(
                rounds < 1_000,
                "a deadline that is never done: {:?}",
                self.group
            );
        }
        self.now = end;
    }

    fn check(&self) {
        let group = &self.group;
        let bytes: usize = group
            .members
            .values()
            .map(super::member::Member::bytes)
            .sum();
        assert_eq!(group.bytes(), bytes, "bytes are counted wrong");
        let members: BTreeSet<_> = group.members.keys().collect();
        assert!(
            group
                .leader
                .as_ref()
                .is_none_or(|leader| members.contains(leader))
        );
        assert!(
            group
                .statics
                .values()
                .all(|member| members.contains(member))
        );
        assert!(
            group
                .pending_sync
                .iter()
                .all(|member| members.contains(member))
        );
        assert!(group.pending.keys().all(|member| !members.contains(member)));
        match group.state() {
            GroupState::Empty => assert!(members.is_empty()),
            GroupState::Dead => unreachable!("nobody deletes here"),
            GroupState::PreparingRebalance => assert!(group.next_deadline().is_some()),
            GroupState::CompletingRebalance | GroupState::Stable => {
                assert!(!members.is_empty() && group.leader.is_some() && group.protocol.is_some());
            }
        }
        for (ticket, (client, latest)) in &self.tickets {
            let late = self.now.saturating_sub(*latest);
            assert!(
                late == 0,
                "client {client} waits {late} ms too long with ticket {ticket}: {group:?}"
            );
        }
    }

    fn step(&mut self) {
        let index = self.random.random_range(0..CLIENTS);
        let client = &self.clients[index];
        let stubborn = client.stubborn_until > self.now;
        match self.random.random_range(0..100) {
            0 => self.clients[index].stubborn_until = self.now + 5 * REBALANCE,
            1..3 => self.leave(index),
            3..6 => {
                // The process dies; whoever it was waits for its session to end. Static members come back as new. The
                // broker may not have seen the connection go.
                if self.random.random_bool(0.5) {
                    self.disconnect(index);
                }
                let client = &mut self.clients[index];
                (client.joined, client.member_id) = (false, StrBytes::default());
            }
            6..9 => self.disconnect(index),
            9..12 => {
                self.clients[index].metadata += 1;
                self.clients[index].joined = false;
            }
            12..15 => {
                if self.random.random_bool(0.5) {
                    self.disconnect(index);
                }
                self.join(index);
            }
            15..25 => {
                let by = self.random.random_range(0..SESSION * 2);
                self.pass(by);
            }
            25..45 => self.pass(500),
            45..55 => self.commit(index),
            _ if client.waiting.is_some() || stubborn => {}
            _ if !client.joined => self.join(index),
            _ if !client.assigned => self.sync(index),
            _ => self.heartbeat(index),
        }
        self.check();
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.step();
    }
    // All clients fall silent: the group must come to rest.
    for index in 0..CLIENTS {
        world.disconnect(index);
        world.clients[index].stubborn_until = 0;
    }
    world.pass(10 * (REBALANCE + SESSION));
    world.check();
    assert!(
        world.group.is_idle(),
        "the group did not empty: {:?}",
        world.group
    );
    assert!(!world.populated && world.tickets.is_empty());
}

#[test]
fn random_lives_keep_the_promises() {
    let fixed = std::env::var("FLAFKA_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let first = fixed.unwrap_or_else(|| rand::rng().random_range(0..u64::MAX / 2));
    let runs = if fixed.is_some() { 1 } else { 200 };
    for seed in first..first + runs {
        let outcome = std::panic::catch_unwind(|| run(seed));
        assert!(outcome.is_ok(), "failed with FLAFKA_SEED={seed}");
    }
}

#[test]
fn a_quiet_group_becomes_stable_with_one_assignment() {
    for seed in 0..50 {
        let mut world = World::new(seed);
        for _ in 0..400 {
            let index = world.random.random_range(0..CLIENTS - 1);
            let client = &world.clients[index];
            match (client.waiting, client.joined, client.assigned) {
                (Some(_), ..) => world.pass(100),
                (None, false, _) => world.join(index),
                (None, true, false) => world.sync(index),
                (None, true, true) => world.heartbeat(index),
            }
            world.check();
        }
        assert_eq!(
            world.group.state(),
            GroupState::Stable,
            "seed {seed}: {:?}",
            world.group
        );
        assert_eq!(world.group.members.len(), CLIENTS - 1);
        let generation = world.group.generation();
        assert!(
            world.clients[..CLIENTS - 1]
                .iter()
                .all(|client| client.generation == generation)
        );
    }
}
