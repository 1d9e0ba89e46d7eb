//! One file of the simulated disk ([`crate::sim_fs`]): what is synced, what is not, and what a power cut leaves of it.

use std::sync::Arc;

const SECTOR: usize = 512;

/// A small generator of our own, so that a seed means the same for ever (SplitMix64).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Dice(seed)
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is at least 1.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit.max(1)
    }

    /// True `percent` times in a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Debug, Clone)]
pub(crate) enum DataOp {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Inode {
    pub(crate) current: Arc<Vec<u8>>,
    pub(crate) durable: Arc<Vec<u8>>,
    /// Since the last sync.
    pub(crate) ops: Vec<Arc<DataOp>>,
    /// Failed syncs so far.
    pub(crate) sync_errors: u64,
}

impl Inode {
    fn apply(bytes: &mut Vec<u8>, op: &DataOp) {
        match op {
            DataOp::Write(position, data) => {
                let end = *position as usize + data.len();
                if bytes.len() < end {
                    bytes.extend_from_slice(&vec![0; end - bytes.len()]);
                }
                bytes[*position as usize..end].copy_from_slice(data);
            }
            DataOp::SetLen(length) => {
                let length = *length as usize;
                bytes.truncate(length);
                bytes.extend_from_slice(&vec![0; length - bytes.len()]);
            }
        }
    }

    pub(crate) fn push(&mut self, op: DataOp) {
        Self::apply(Arc::make_mut(&mut self.current), &op);
        self.ops.push(Arc::new(op));
    }

    pub(crate) fn sync(&mut self) {
        let durable = Arc::make_mut(&mut self.durable);
        for op in self.ops.drain(..) {
            Self::apply(durable, &op);
        }
    }

    /// A failed sync: the pages count as clean, the disk has the old content.
    pub(crate) fn drop_dirty(&mut self, dice: &mut Dice) {
        self.ops.clear();
        if dice.chance(50) {
            self.current = Arc::clone(&self.durable);
        }
    }

    pub(crate) fn after_cut(&self, dice: &mut Dice) -> Vec<u8> {
        let count = self.ops.len();
        if count == 0 {
            return self.durable.to_vec();
        }
        // Versions 0..=count of the whole file; each sector shows any one of them.
        let mut versions = vec![self.durable.to_vec()];
        for op in &self.ops {
            let mut next = versions.last().cloned().unwrap_or_default();
            Self::apply(&mut next, op);
            versions.push(next);
        }
        match dice.below(4) {
            0 => return self.durable.to_vec(),
            1 => return versions.pop().unwrap_or_default(),
            2 => {
                // In order, the last one torn.
                let kept = dice.below(count as u64) as usize;
                return Self::tear(&versions[kept], &versions[kept + 1], dice);
            }
            _ => {}
        }
        let length = versions[dice.below(count as u64 + 1) as usize].len();
        let mut bytes = vec![0; length];
        for start in (0..length).step_by(SECTOR) {
            let end = (start + SECTOR).min(length);
            let version = &versions[dice.below(count as u64 + 1) as usize];
            let has = version.len().min(end);
            if let Some(sector) = version.get(start..has) {
                bytes[start..has].copy_from_slice(sector);
            }
        }
        bytes
    }

    /// Sectors of `new` up to some point, then those of `old`.
    fn tear(old: &[u8], new: &[u8], dice: &mut Dice) -> Vec<u8> {
        let sectors = new.len().div_ceil(SECTOR) as u64;
        let cut = (dice.below(sectors + 1) as usize * SECTOR).min(new.len());
        let mut bytes = new[..cut].to_vec();
        bytes.extend_from_slice(old.get(cut..).unwrap_or_default());
        bytes
    }
}
