//! The topic registry: names, ids, partitions and configs.
//!
//! The log's journaled topic table is the one source of truth; the maps here are a copy for lookups. A topic exists
//! once its table entry is durable: its streams are created before, so a crash in between leaves streams without a
//! topic, which the next start removes (they never had a visible record). Deletion is the reverse.
//!
//! The table lies in the main data directory and says in which directory each partition is. What another directory cannot
//! do (open a partition, take a setting, delete what is left of a topic) is logged and done at a later start.
//!
//! Invariant: the maps change only after the journal has; changes are made one at a time.

pub mod config;
pub mod name;
pub mod settings;
mod stored;
mod streams;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, RwLock};

use bytes::Bytes;
use flafka_log_store::{Clock, CommitError, Log, Op, Table};
use kafka_protocol::messages::TopicName;
use tokio::sync::Mutex;
use tracing::info;
use uuid::Uuid;

pub use self::config::{Overrides, TopicConfig, TopicConfigError};
pub use self::name::NameError;
use self::stored::StoredTopic;
pub use self::stored::StoredTopicError;
use self::streams::{Refusal, stream_name};
use crate::config::BrokerConfig;
use crate::log_dirs::{LogDirs, Partition};

/// Most partitions of one topic.
pub const MAX_PARTITIONS: i32 = 10_000;

/// One topic as handlers see it. Immutable: a change makes a new one.
#[derive(Debug)]
pub struct Topic {
    /// The name.
    pub name: TopicName,
    /// The id of this creation of the name (KIP-516).
    pub id: Uuid,
    /// Where each partition lies, by partition index.
    pub partitions: Vec<Partition>,
    /// Configs that were set on the topic.
    pub overrides: Overrides,
    /// All configs with an effect.
    pub config: TopicConfig,
    /// When it was created, in milliseconds since 1970.
    pub created_ms: i64,
}

impl Topic {
    /// A partition as numbered on the wire.
    pub fn partition(&self, index: i32) -> Option<&Partition> {
        let index = usize::try_from(index).ok()?;
        self.partitions.get(index)
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
    dirs: LogDirs,
    broker: Arc<BrokerConfig>,
    clock: Arc<dyn Clock>,
    index: RwLock<Index>,
    /// Held across a change, so that checks and journal entries of two changes do not mix.
    change: Mutex<()>,
}

/// Ids of the data directories, but the main one, that partitions are in. What does not parse stops [`Topics::open`].
pub(crate) fn directories_in_use(main: &Log) -> BTreeSet<String> {
    let table = main.table(Table::Topics).into_iter();
    let topics = table.filter_map(|(_, value)| StoredTopic::decode(&value).ok());
    topics
        .flat_map(|topic| topic.places.ids().to_vec())
        .collect()
}

impl Topics {
    /// Reads the topic table and removes streams that belong to no topic.
    ///
    /// # Errors
    /// An entry that does not parse, or a log that refuses writes.
    pub async fn open(
        dirs: LogDirs,
        broker: Arc<BrokerConfig>,
        clock: Arc<dyn Clock>,
    ) -> Result<Topics, TopicsOpenError> {
        let topics = Topics {
            dirs,
            broker,
            clock,
            index: RwLock::default(),
            change: Mutex::new(()),
        };
        let mut owned = HashSet::new();
        for (key, value) in topics.dirs.main().table(Table::Topics) {
            let name = String::from_utf8_lossy(&key).into_owned();
            let stored = StoredTopic::decode(&value).map_err(|source| TopicsOpenError::Entry {
                name: name.clone(),
                source,
            })?;
            let topic = topics
                .materialise(&name, &stored, Refusal::Isolated)
                .await?;
            for (index, partition) in topic.partitions.iter().enumerate() {
                owned.insert((partition.dir().index(), stream_name(&name, index)));
            }
            topics.publish(topic);
        }
        topics.remove_strays(&owned).await?;
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
        let partitions = u32::try_from(new.partitions).unwrap_or(1);
        let stored = StoredTopic {
            id: Uuid::new_v4(),
            partitions,
            created_ms: self.clock.now_ms(),
            overrides: new.overrides,
            places: self.places(&[], partitions),
        };
        self.remove_leftovers(&new.name, stored.partitions).await?;
        let topic = self.materialise(&new.name, &stored, Refusal::Fails).await?;
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
        self.dirs.main().commit(ops).await?;
        {
            let mut index = self.write();
            index.by_name.remove(name);
            index.by_id.remove(&topic.id);
        }
        let deletions = topic.partitions.iter().filter_map(|partition| {
            // One in a directory that is offline goes when that is opened again.
            let (log, stream) = partition.online().ok()?;
            Some((partition.dir(), log.delete_stream(stream)))
        });
        for (dir, deletion) in deletions.collect::<Vec<_>>() {
            self.unless_isolated(dir, deletion.await, Refusal::Isolated)?;
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
        let partitions = u32::try_from(total).unwrap_or(1);
        let stored = StoredTopic {
            partitions,
            places: self.places(&topic.partitions, partitions),
            ..self.stored_form(&topic)
        };
        let changed = self.materialise(name, &stored, Refusal::Fails).await?;
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
            ..self.stored_form(&topic)
        };
        self.store(name, &stored).await?;
        let config = TopicConfig::effective(&self.broker, &stored.overrides);
        for partition in &topic.partitions {
            // One in a directory that is offline takes them when that is opened again.
            if let Ok((log, stream)) = partition.online() {
                let updated = log.update_stream(stream, config.stream_settings()).await;
                self.unless_isolated(partition.dir(), updated, Refusal::Isolated)?;
            }
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

    async fn store(&self, name: &str, stored: &StoredTopic) -> Result<(), CommitError> {
        self.dirs
            .main()
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
