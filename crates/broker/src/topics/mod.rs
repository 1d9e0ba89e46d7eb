//! The topic registry: names, ids, partitions and configs.
//!
//! The log's journaled topic table is the one source of truth; the maps here are a copy for lookups. A topic exists
//! once its table entry is durable: its streams are created before, so a crash in between leaves streams without a
//! topic, which the next start removes (they never had a visible record). Deletion is the reverse.
//!
//! Invariant: the maps change only after the journal has; changes are made one at a time.

pub mod config;
pub mod name;
pub mod settings;
mod stored;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, RwLock};

use bytes::Bytes;
use flafka_log_store::{Clock, CommitError, Log, Op, StreamId, Table};
use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::StrBytes;
use tokio::sync::Mutex;
use tracing::{info, warn};
use uuid::Uuid;

pub use self::config::{Overrides, TopicConfig, TopicConfigError};
pub use self::name::NameError;
use self::stored::StoredTopic;
pub use self::stored::StoredTopicError;
use crate::config::BrokerConfig;

/// Most partitions of one topic.
pub const MAX_PARTITIONS: i32 = 10_000;

/// One topic as handlers see it. Immutable: a change makes a new one.
#[derive(Debug)]
pub struct Topic {
    /// The name.
    pub name: TopicName,
    /// The id of this creation of the name (KIP-516).
    pub id: Uuid,
    /// The stream of each partition, by partition index.
    pub partitions: Vec<StreamId>,
    /// Configs that were set on the topic.
    pub overrides: Overrides,
    /// All configs with an effect.
    pub config: TopicConfig,
    /// When it was created, in milliseconds since 1970.
    pub created_ms: i64,
}

impl Topic {
    /// The stream of a partition as numbered on the wire.
    pub fn partition(&self, index: i32) -> Option<StreamId> {
        let index = usize::try_from(index).ok()?;
        self.partitions.get(index).copied()
    }
}

/// A topic to be created.
#[derive(Debug, Clone)]
pub struct NewTopic {
    /// The name, checked by [`Topics::create`].
    pub name: String,
    /// Number of partitions.
    pub partitions: i32,
    /// Configs to set on it.
    pub overrides: Overrides,
}

/// Why a change of topics is refused.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TopicError {
    /// The name is not legal.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The topic exists.
    #[error("Topic '{0}' already exists.")]
    Exists(String),
    /// Another topic differs only in `.` and `_`.
    #[error("Topic '{name}' collides with existing topic: {other}")]
    Collides {
        /// The name asked for.
        name: String,
        /// The topic that is there.
        other: String,
    },
    /// No such topic.
    #[error("This server does not host this topic-partition.")]
    Unknown(String),
    /// The number of partitions is not allowed.
    #[error("Number of partitions was set to {asked}; allowed is {lowest} to {MAX_PARTITIONS}.")]
    Partitions {
        /// What was asked for.
        asked: i32,
        /// The lowest allowed number.
        lowest: i32,
    },
    /// A config is unknown or its value not allowed.
    #[error(transparent)]
    Config(#[from] TopicConfigError),
    /// The log could not make the change durable.
    #[error("the log refused the change: {0}")]
    Log(#[from] CommitError),
}

/// Why the registry cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum TopicsOpenError {
    /// A table entry does not parse.
    #[error("topic table, entry `{name}`: {source}")]
    Entry {
        /// The topic name.
        name: String,
        /// What is wrong with it.
        source: StoredTopicError,
    },
    /// The log refused to repair what a crash left behind.
    #[error("finish a topic change that a crash cut short: {0}")]
    Log(#[from] CommitError),
}

#[derive(Debug, Default)]
struct Index {
    by_name: BTreeMap<String, Arc<Topic>>,
    by_id: HashMap<Uuid, Arc<Topic>>,
}

/// All topics of the broker.
pub struct Topics {
    log: Log,
    broker: Arc<BrokerConfig>,
    clock: Arc<dyn Clock>,
    index: RwLock<Index>,
    /// Held across a change, so that checks and journal entries of two changes do not mix.
    change: Mutex<()>,
}

fn stream_name(topic: &str, partition: usize) -> String {
    format!("topic/{topic}/{partition}")
}

impl Topics {
    /// Reads the topic table and removes streams that belong to no topic.
    ///
    /// # Errors
    /// An entry that does not parse, or a log that refuses writes.
    pub async fn open(
        log: Log,
        broker: Arc<BrokerConfig>,
        clock: Arc<dyn Clock>,
    ) -> Result<Topics, TopicsOpenError> {
        let topics = Topics {
            log,
            broker,
            clock,
            index: RwLock::default(),
            change: Mutex::new(()),
        };
        let mut owned = HashMap::new();
        for (key, value) in topics.log.table(Table::Topics) {
            let name = String::from_utf8_lossy(&key).into_owned();
            let stored = StoredTopic::decode(&value).map_err(|source| TopicsOpenError::Entry {
                name: name.clone(),
                source,
            })?;
            for partition in 0..stored.partitions as usize {
                owned.insert(stream_name(&name, partition), ());
            }
            let topic = topics.materialise(&name, &stored).await?;
            topics.publish(topic);
        }
        for (id, name) in topics.log.streams() {
            if name.starts_with("topic/") && !owned.contains_key(&name) {
                warn!(stream = %name, "remove a stream that an unfinished topic change left behind");
                topics.log.delete_stream(id).await?;
            }
        }
        Ok(topics)
    }

    /// The topic of a name.
    pub fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.read().by_name.get(name).cloned()
    }

    /// The topic of an id.
    pub fn get_by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.read().by_id.get(&id).cloned()
    }

    /// All topics by name.
    pub fn list(&self) -> Vec<Arc<Topic>> {
        self.read().by_name.values().cloned().collect()
    }

    /// Checks everything about a new topic that [`Topics::create`] would.
    ///
    /// # Errors
    /// The first rule it breaks.
    pub fn check_new(&self, new: &NewTopic) -> Result<(), TopicError> {
        name::validate(&new.name)?;
        let index = self.read();
        if index.by_name.contains_key(&new.name) {
            return Err(TopicError::Exists(new.name.clone()));
        }
        if let Some(other) = index
            .by_name
            .keys()
            .find(|other| name::collides(other, &new.name))
        {
            return Err(TopicError::Collides {
                name: new.name.clone(),
                other: other.clone(),
            });
        }
        if !(1..=MAX_PARTITIONS).contains(&new.partitions) {
            return Err(TopicError::Partitions {
                asked: new.partitions,
                lowest: 1,
            });
        }
        config::validate(&new.overrides)?;
        Ok(())
    }

    /// Creates a topic; returns once it is durable.
    ///
    /// # Errors
    /// The rule it breaks, or the log's refusal.
    pub async fn create(&self, new: NewTopic) -> Result<Arc<Topic>, TopicError> {
        let _change = self.change.lock().await;
        self.check_new(&new)?;
        let stored = StoredTopic {
            id: Uuid::new_v4(),
            partitions: u32::try_from(new.partitions).unwrap_or(1),
            created_ms: self.clock.now_ms(),
            overrides: new.overrides,
        };
        self.remove_leftovers(&new.name, stored.partitions).await?;
        let topic = self.materialise(&new.name, &stored).await?;
        self.store(&new.name, &stored).await?;
        info!(topic = %new.name, partitions = new.partitions, id = %stored.id, "create topic");
        Ok(self.publish(topic))
    }

    /// The topic of a name, created with the broker's defaults if it is missing and that is allowed.
    ///
    /// # Errors
    /// As [`Topics::create`]; [`TopicError::Unknown`] if creation is not allowed.
    pub async fn get_or_create(&self, name: &str, allowed: bool) -> Result<Arc<Topic>, TopicError> {
        if let Some(topic) = self.get(name) {
            return Ok(topic);
        }
        name::validate(name)?;
        if !allowed || !self.broker.auto_create_topics {
            return Err(TopicError::Unknown(name.to_owned()));
        }
        let created = self
            .create(NewTopic {
                name: name.to_owned(),
                partitions: self.broker.num_partitions,
                overrides: Overrides::new(),
            })
            .await;
        match created {
            Err(TopicError::Exists(_)) => self
                .get(name)
                .ok_or_else(|| TopicError::Unknown(name.to_owned())),
            other => other,
        }
    }

    /// Deletes a topic and its records. `also` is committed in the same atomic group: what else goes with the name, such
    /// as the groups' offsets.
    ///
    /// # Errors
    /// [`TopicError::Unknown`], or the log's refusal.
    pub async fn delete(&self, name: &str, also: Vec<Op>) -> Result<Arc<Topic>, TopicError> {
        let _change = self.change.lock().await;
        let topic = self
            .get(name)
            .ok_or_else(|| TopicError::Unknown(name.to_owned()))?;
        let mut ops = also;
        ops.push(Op::Delete {
            table: Table::Topics,
            key: Bytes::copy_from_slice(name.as_bytes()),
        });
        self.log.commit(ops).await?;
        {
            let mut index = self.write();
            index.by_name.remove(name);
            index.by_id.remove(&topic.id);
        }
        let deletions: Vec<_> = topic
            .partitions
            .iter()
            .map(|stream| self.log.delete_stream(*stream))
            .collect();
        for deletion in deletions {
            deletion.await?;
        }
        info!(topic = %name, id = %topic.id, "delete topic");
        Ok(topic)
    }

    /// Adds partitions up to `total`.
    ///
    /// # Errors
    /// [`TopicError::Unknown`], a number that is not above the present one, or the log's refusal.
    pub async fn add_partitions(&self, name: &str, total: i32) -> Result<Arc<Topic>, TopicError> {
        let _change = self.change.lock().await;
        let topic = self.check_partitions(name, total)?;
        let stored = StoredTopic {
            partitions: u32::try_from(total).unwrap_or(1),
            ..stored_form(&topic)
        };
        let changed = self.materialise(name, &stored).await?;
        self.store(name, &stored).await?;
        info!(topic = %name, partitions = total, "add partitions");
        Ok(self.publish(changed))
    }

    /// Checks what [`Topics::add_partitions`] would.
    ///
    /// # Errors
    /// [`TopicError::Unknown`], or a number that is not above the present one.
    pub fn check_partitions(&self, name: &str, total: i32) -> Result<Arc<Topic>, TopicError> {
        let topic = self
            .get(name)
            .ok_or_else(|| TopicError::Unknown(name.to_owned()))?;
        let lowest = i32::try_from(topic.partitions.len() + 1).unwrap_or(i32::MAX);
        if (lowest..=MAX_PARTITIONS).contains(&total) {
            Ok(topic)
        } else {
            Err(TopicError::Partitions {
                asked: total,
                lowest,
            })
        }
    }

    /// Replaces all overrides of a topic.
    ///
    /// # Errors
    /// [`TopicError::Unknown`], a config that is not allowed, or the log's refusal.
    pub async fn set_overrides(
        &self,
        name: &str,
        overrides: Overrides,
    ) -> Result<Arc<Topic>, TopicError> {
        let _change = self.change.lock().await;
        let topic = self
            .get(name)
            .ok_or_else(|| TopicError::Unknown(name.to_owned()))?;
        config::validate(&overrides)?;
        let stored = StoredTopic {
            overrides,
            ..stored_form(&topic)
        };
        self.store(name, &stored).await?;
        let config = TopicConfig::effective(&self.broker, &stored.overrides);
        for stream in &topic.partitions {
            self.log
                .update_stream(*stream, config.stream_settings())
                .await?;
        }
        info!(topic = %name, overrides = ?stored.overrides, "change topic configs");
        Ok(self.publish(Topic {
            name: topic.name.clone(),
            id: topic.id,
            partitions: topic.partitions.clone(),
            overrides: stored.overrides,
            config,
            created_ms: topic.created_ms,
        }))
    }

    /// Creates (or finds) the streams of a topic and brings their settings up to date. All changes are queued before the
    /// first is awaited, so that they share the journal's syncs.
    async fn materialise(&self, name: &str, stored: &StoredTopic) -> Result<Topic, CommitError> {
        let config = TopicConfig::effective(&self.broker, &stored.overrides);
        let settings = config.stream_settings();
        let mut updates = Vec::new();
        let mut creations = Vec::new();
        for partition in 0..stored.partitions as usize {
            let stream_name = stream_name(name, partition);
            match self.log.stream(&stream_name) {
                Some(id) => {
                    if self.log.settings(id).ok().as_ref() != Some(&settings) {
                        updates.push(self.log.update_stream(id, settings.clone()));
                    }
                    creations.push(Ok(id));
                }
                None => creations.push(Err(self.log.create_stream(&stream_name, settings.clone()))),
            }
        }
        for update in updates {
            update.await?;
        }
        let mut partitions = Vec::with_capacity(creations.len());
        for creation in creations {
            partitions.push(match creation {
                Ok(id) => id,
                Err(ticket) => ticket.await?,
            });
        }
        Ok(Topic {
            name: TopicName(StrBytes::from_string(name.to_owned())),
            id: stored.id,
            partitions,
            overrides: stored.overrides.clone(),
            config,
            created_ms: stored.created_ms,
        })
    }

    /// Deletes streams that bear a new topic's names: what a deletion could not finish must not come back as its data.
    async fn remove_leftovers(&self, name: &str, partitions: u32) -> Result<(), CommitError> {
        for partition in 0..partitions as usize {
            if let Some(id) = self.log.stream(&stream_name(name, partition)) {
                self.log.delete_stream(id).await?;
            }
        }
        Ok(())
    }

    async fn store(&self, name: &str, stored: &StoredTopic) -> Result<(), CommitError> {
        self.log
            .commit(vec![Op::Put {
                table: Table::Topics,
                key: Bytes::copy_from_slice(name.as_bytes()),
                value: stored.encode().into(),
            }])
            .await
            .map(drop)
    }

    fn publish(&self, topic: Topic) -> Arc<Topic> {
        let topic = Arc::new(topic);
        let mut index = self.write();
        index.by_id.insert(topic.id, Arc::clone(&topic));
        index
            .by_name
            .insert(topic.name.to_string(), Arc::clone(&topic));
        topic
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Index> {
        self.index
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Index> {
        self.index
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn stored_form(topic: &Topic) -> StoredTopic {
    StoredTopic {
        id: topic.id,
        partitions: u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX),
        created_ms: topic.created_ms,
        overrides: topic.overrides.clone(),
    }
}
