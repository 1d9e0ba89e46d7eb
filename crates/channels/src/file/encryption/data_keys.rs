//! Data keys: made, wrapped, kept in the log's table `DataKeys`, found again, forgotten.
//!
//! ```text
//! key    data key number u32
//! value  version u8 = 1 | end offset i64, max = not yet known | alias length u16, master key's alias
//!        | nonce 12 | AES-GCM of the data key (32) | tag 16         AAD: "flafka data key" 0 | number | alias | cluster id
//! ```
//! All numbers are big-endian. Everything sealed under a key lies below its end offset; once all of that is delivered
//! the entry goes. A run that ends without a word leaves its keys without an end; the next start knows it: the log's.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;
use bytes::{BufMut, Bytes, BytesMut};
use flafka_kafka_wire::records::BatchHeader;
use flafka_log_store::{Log, Op, StreamId, Table};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::sealed::{Place, SealedBatch, SealedUnder, seal};
use super::{EncryptionError, MasterKeys};

const VERSION: u8 = 1;
const DATA_KEY_LEN: usize = 32;
const WRAPPED_LEN: usize = DATA_KEY_LEN + 16;
const DOMAIN: &[u8] = b"flafka data key\0";
const NO_END: i64 = i64::MAX;

/// The data keys of an open channel.
#[derive(Debug)]
pub(in crate::file) struct DataKeys {
    place: Place,
    /// Bytes that one key seals before the next one is made.
    roll_bytes: u64,
    opening: RwLock<BTreeMap<u32, Arc<LessSafeKey>>>,
    sealing: RwLock<Option<Arc<SealingKey>>>,
    /// Held by the put that makes the next key.
    keeper: Mutex<Keeper>,
}

/// What is needed to make keys and to let them go.
#[derive(Debug)]
struct Keeper {
    masters: Option<MasterKeys>,
    /// Keys that seal nothing new, with the offset below which everything sealed under them lies, once that is known.
    retired: Vec<(u32, Option<Arc<SealingKey>>, i64)>,
}

/// The key that new batches are sealed under.
#[derive(Debug)]
pub(in crate::file) struct SealingKey {
    number: u32,
    key: Arc<LessSafeKey>,
    place: Place,
    counter: AtomicU64,
    sealed_bytes: AtomicU64,
}

impl SealingKey {
    /// Seals batches as the channel encodes them.
    pub(in crate::file) fn seal_all(
        &self,
        plain: Vec<Bytes>,
    ) -> Result<Vec<Bytes>, EncryptionError> {
        let bytes: usize = plain.iter().map(Bytes::len).sum();
        self.sealed_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let seal = |batch| {
            let counter = self.counter.fetch_add(1, Ordering::Relaxed);
            seal(
                batch,
                &self.key,
                SealedUnder::new(self.number, counter),
                &self.place,
            )
        };
        plain.into_iter().map(seal).collect()
    }
}

impl DataKeys {
    /// Reads the log's data keys, forgets those of delivered events, and makes a new one if a master key is active.
    /// `low` and `end` bound the offsets that wait. Unwraps keys, so some 0.1 s of hashing for each old master key.
    pub(in crate::file) async fn open(
        log: &Log,
        stream: StreamId,
        masters: Option<MasterKeys>,
        (low, end): (i64, i64),
        roll_bytes: u64,
    ) -> Result<Self, EncryptionError> {
        let place = Place {
            cluster_id: log.cluster_id().to_owned(),
            stream,
        };
        let mut ops = Vec::new();
        let mut waiting = Vec::new();
        let mut last = 0;
        for (key, value) in log.table(Table::DataKeys) {
            let mut entry = Entry::decode(&key, &value)?;
            last = entry.number;
            if entry.end == NO_END {
                entry.end = end;
                ops.push(entry.put());
            }
            match entry.end <= low {
                true => ops.push(delete(entry.number)),
                false => waiting.push(entry),
            }
        }
        let (masters, opening) = unwrap_all(masters, &waiting, &place).await?;
        let retired = waiting.iter().map(|entry| (entry.number, None, entry.end));
        let keys = Self {
            roll_bytes,
            opening: RwLock::new(opening),
            sealing: RwLock::default(),
            keeper: Mutex::new(Keeper {
                masters,
                retired: retired.collect(),
            }),
            place,
        };
        let mut keeper = keys.keeper.lock().await;
        let next = last.checked_add(1);
        let next = next.ok_or(EncryptionError::DamagedEntry { number: last })?;
        keys.make_next(log, &mut keeper, next, ops).await?;
        drop(keeper);
        Ok(keys)
    }

    /// No keys at all.
    #[cfg(test)]
    pub(in crate::file) fn none() -> Self {
        Self {
            place: Place {
                cluster_id: String::new(),
                stream: StreamId(0),
            },
            roll_bytes: 1,
            opening: RwLock::default(),
            sealing: RwLock::default(),
            keeper: Mutex::new(Keeper {
                masters: None,
                retired: Vec::new(),
            }),
        }
    }

    /// The key to seal with, the next one when the last has sealed enough; `None` when events stay in the clear.
    pub(in crate::file) async fn sealing(
        &self,
        log: &Log,
    ) -> Result<Option<Arc<SealingKey>>, EncryptionError> {
        let current = self.current();
        let is_full =
            |key: &Arc<SealingKey>| key.sealed_bytes.load(Ordering::Relaxed) >= self.roll_bytes;
        if !current.as_ref().is_some_and(is_full) {
            return Ok(current);
        }
        // One put makes the next key, the others go on with this one.
        let Ok(mut keeper) = self.keeper.try_lock() else {
            return Ok(current);
        };
        let current = self.current();
        let Some(full) = current.clone().filter(is_full) else {
            return Ok(current);
        };
        let low = delivered_below(log, self.place.stream);
        let gone: Vec<u32> = keeper
            .retired
            .iter()
            .filter(|(_, _, end)| *end <= low)
            .map(|(number, ..)| *number)
            .collect();
        let ops = gone.iter().copied().map(delete).collect();
        let idle: Vec<u32> = keeper
            .retired
            .iter()
            .filter(|(_, key, _)| key.as_ref().is_some_and(|key| Arc::strong_count(key) == 1))
            .map(|(number, ..)| *number)
            .collect();
        self.make_next(log, &mut keeper, full.number + 1, ops)
            .await?;
        keeper.retired.retain(|(number, ..)| !gone.contains(number));
        let mut opening = self.opening.write().unwrap_or_else(PoisonError::into_inner);
        opening.retain(|number, _| !gone.contains(number));
        // What was sealed under an idle key was queued before the new key, which is stored: it lies below the end.
        let end = log
            .bounds(self.place.stream)
            .map_or(NO_END, |bounds| bounds.high_watermark.0);
        for (number, key, known_end) in &mut keeper.retired {
            if idle.contains(number) {
                (*key, *known_end) = (None, end);
            }
        }
        keeper.retired.push((full.number, Some(full), NO_END));
        Ok(self.current())
    }

    /// Opens a sealed batch; the result has base offset 0.
    pub(in crate::file) fn open_batch(
        &self,
        header: &BatchHeader,
        whole: &[u8],
    ) -> Result<Bytes, EncryptionError> {
        let batch = SealedBatch::parse(header, whole)?;
        let number = batch.under.number;
        let opening = self.opening.read().unwrap_or_else(PoisonError::into_inner);
        let key = opening.get(&number).cloned();
        drop(opening);
        let key = key.ok_or(EncryptionError::NoDataKey {
            offset: header.base_offset,
            number,
        })?;
        batch.open(&key, &self.place)
    }

    fn current(&self) -> Option<Arc<SealingKey>> {
        let sealing = self.sealing.read().unwrap_or_else(PoisonError::into_inner);
        sealing.clone()
    }

    /// Makes data key `number`, stores it together with `ops`, and seals with it from then on.
    async fn make_next(
        &self,
        log: &Log,
        keeper: &mut Keeper,
        number: u32,
        mut ops: Vec<Op>,
    ) -> Result<(), EncryptionError> {
        let mut made = None;
        if let Some(masters) = &mut keeper.masters
            && let Some(alias) = masters.active().map(str::to_owned)
        {
            let raw = random::<DATA_KEY_LEN>()?;
            let entry = Entry::wrap(
                number,
                alias.clone(),
                &raw,
                masters.get(&alias)?,
                &self.place,
            )?;
            ops.push(entry.put());
            made = Some(Arc::new(data_key(&raw[..])?));
        }
        if !ops.is_empty() {
            log.commit(ops).await.map_err(EncryptionError::Store)?;
        }
        let Some(key) = made else { return Ok(()) };
        let mut opening = self.opening.write().unwrap_or_else(PoisonError::into_inner);
        opening.insert(number, Arc::clone(&key));
        drop(opening);
        let mut sealing = self.sealing.write().unwrap_or_else(PoisonError::into_inner);
        *sealing = Some(Arc::new(SealingKey {
            number,
            key,
            place: self.place.clone(),
            counter: AtomicU64::new(0),
            sealed_bytes: AtomicU64::new(0),
        }));
        Ok(())
    }
}

/// All events below it are delivered.
fn delivered_below(log: &Log, stream: StreamId) -> i64 {
    let start = log.bounds(stream).map_or(0, |bounds| bounds.log_start.0);
    let low = log.unacked(stream).map_or(0, |acks| acks.low.0);
    start.max(low)
}

type Opening = BTreeMap<u32, Arc<LessSafeKey>>;

/// Unwraps on a thread that may block.
async fn unwrap_all(
    masters: Option<MasterKeys>,
    waiting: &[Entry],
    place: &Place,
) -> Result<(Option<MasterKeys>, Opening), EncryptionError> {
    let Some(mut masters) = masters else {
        let mut aliases: Vec<_> = waiting.iter().map(|entry| &entry.alias).collect();
        aliases.dedup();
        return match aliases.is_empty() {
            true => Ok((None, Opening::new())),
            false => Err(EncryptionError::NoKeyProvider {
                aliases: aliases
                    .iter()
                    .map(|alias| format!("`{alias}`"))
                    .collect::<Vec<_>>()
                    .join(", "),
            }),
        };
    };
    let (waiting, place) = (waiting.to_vec(), place.clone());
    let unwrapping = tokio::task::spawn_blocking(move || {
        let mut opening = Opening::new();
        for entry in &waiting {
            opening.insert(
                entry.number,
                Arc::new(entry.unwrap_key(&mut masters, &place)?),
            );
        }
        Ok((Some(masters), opening))
    });
    unwrapping
        .await
        .unwrap_or(Err(EncryptionError::CipherRefused))
}

/// One row of the table.
#[derive(Debug, Clone)]
struct Entry {
    number: u32,
    end: i64,
    alias: String,
    nonce: [u8; NONCE_LEN],
    wrapped: [u8; WRAPPED_LEN],
}

impl Entry {
    fn wrap(
        number: u32,
        alias: String,
        raw: &[u8; DATA_KEY_LEN],
        master: &LessSafeKey,
        place: &Place,
    ) -> Result<Self, EncryptionError> {
        let nonce = *random::<NONCE_LEN>()?;
        let mut wrapped = [0; WRAPPED_LEN];
        let (text, tag_place) = wrapped.split_at_mut(DATA_KEY_LEN);
        text.copy_from_slice(raw);
        let aad = aad(number, &alias, place);
        let tag = master
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad, text)
            .map_err(|_| EncryptionError::CipherRefused)?;
        tag_place.copy_from_slice(tag.as_ref());
        Ok(Self {
            number,
            end: NO_END,
            alias,
            nonce,
            wrapped,
        })
    }

    fn unwrap_key(
        &self,
        masters: &mut MasterKeys,
        place: &Place,
    ) -> Result<LessSafeKey, EncryptionError> {
        let master =
            masters
                .get(&self.alias)
                .map_err(|source| EncryptionError::MissingMasterKey {
                    alias: self.alias.clone(),
                    source: Box::new(source),
                })?;
        let mut wrapped = Zeroizing::new(self.wrapped);
        let nonce = Nonce::assume_unique_for_key(self.nonce);
        let raw = master
            .open_in_place(
                nonce,
                aad(self.number, &self.alias, place),
                &mut wrapped[..],
            )
            .map_err(|_| EncryptionError::OtherMasterKey {
                alias: self.alias.clone(),
                number: self.number,
            })?;
        data_key(raw)
    }

    fn put(&self) -> Op {
        let alias = self.alias.as_bytes();
        let mut value = BytesMut::new();
        value.put_u8(VERSION);
        value.put_i64(self.end);
        value.put_u16(u16::try_from(alias.len()).unwrap_or(u16::MAX));
        value.put_slice(alias);
        value.put_slice(&self.nonce);
        value.put_slice(&self.wrapped);
        Op::Put {
            table: Table::DataKeys,
            key: Bytes::copy_from_slice(&self.number.to_be_bytes()),
            value: value.freeze(),
        }
    }

    fn decode(key: &[u8], value: &[u8]) -> Result<Self, EncryptionError> {
        let number = <[u8; 4]>::try_from(key).map_or(0, u32::from_be_bytes);
        let read = || {
            let (version, rest) = value.split_first()?;
            let (end, rest) = rest.split_first_chunk()?;
            let (length, rest) = rest.split_first_chunk()?;
            let length = usize::from(u16::from_be_bytes(*length));
            let (alias, rest) = rest.split_at_checked(length)?;
            let (nonce, rest) = rest.split_first_chunk()?;
            Some(Self {
                number,
                end: i64::from_be_bytes(*end),
                alias: String::from_utf8(alias.to_vec()).ok()?,
                nonce: *nonce,
                wrapped: rest.try_into().ok()?,
            })
            .filter(|_| *version == VERSION && number > 0)
        };
        read().ok_or(EncryptionError::DamagedEntry { number })
    }
}

fn delete(number: u32) -> Op {
    Op::Delete {
        table: Table::DataKeys,
        key: Bytes::copy_from_slice(&number.to_be_bytes()),
    }
}

fn aad(number: u32, alias: &str, place: &Place) -> Aad<Vec<u8>> {
    let parts = [
        DOMAIN,
        &number.to_be_bytes(),
        alias.as_bytes(),
        &[0],
        place.cluster_id.as_bytes(),
    ];
    Aad::from(parts.concat())
}

fn data_key(raw: &[u8]) -> Result<LessSafeKey, EncryptionError> {
    let key = UnboundKey::new(&AES_256_GCM, raw).map_err(|_| EncryptionError::CipherRefused)?;
    Ok(LessSafeKey::new(key))
}

fn random<const LENGTH: usize>() -> Result<Zeroizing<[u8; LENGTH]>, EncryptionError> {
    let mut bytes = Zeroizing::new([0; LENGTH]);
    rand::fill(&mut bytes[..]).map_err(|_| EncryptionError::NoRandomness)?;
    Ok(bytes)
}
