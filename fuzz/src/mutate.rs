//! Seeded damage: takes a seed input and changes it in a few places, the way broken peers and torn files do.

use rand::Rng;
use rand::rngs::SmallRng;

/// Inputs grow no longer than this; parsers that break only on more are found by their length fields.
pub const MAX_INPUT_BYTES: usize = 64 * 1024;

/// Numbers at which length checks go wrong.
const EDGES: [i64; 16] = [
    0,
    1,
    -1,
    -2,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    -0x8000_0000,
    0xffff_ffff,
    i64::MAX,
    i64::MIN,
    0x0800_0000,
];

/// The next input: one of `seeds`, damaged, or now and then only noise.
pub fn next_input(random: &mut SmallRng, seeds: &[Vec<u8>], out: &mut Vec<u8>) {
    out.clear();
    if seeds.is_empty() || random.random_ratio(1, 50) {
        let length = random.random_range(0..300);
        out.extend((0..length).map(|_| random.random::<u8>()));
        return;
    }
    out.extend_from_slice(&seeds[random.random_range(0..seeds.len())]);
    // A tenth stays almost whole, so that what stands behind the first checks is reached often.
    let changes = if random.random_ratio(1, 10) {
        1
    } else {
        random.random_range(1..8)
    };
    for _ in 0..changes {
        change(random, seeds, out);
    }
    out.truncate(MAX_INPUT_BYTES);
}

fn change(random: &mut SmallRng, seeds: &[Vec<u8>], out: &mut Vec<u8>) {
    let at = random.random_range(0..=out.len());
    let piece = random.random_range(0..=(out.len() - at).min(64));
    match random.random_range(0..10) {
        0 => {
            if let Some(byte) = out.get_mut(at) {
                *byte ^= 1 << random.random_range(0..8);
            }
        }
        1 | 2 => {
            if let Some(byte) = out.get_mut(at) {
                *byte = random.random();
            }
        }
        3 | 4 => write_edge(random, at, out),
        5 => drop(out.drain(at..at + piece)),
        6 => {
            let copy = out[at..at + piece].to_vec();
            let to = random.random_range(0..=out.len());
            out.splice(to..to, copy);
        }
        7 => {
            let noise: Vec<u8> = (0..random.random_range(1..16))
                .map(|_| random.random())
                .collect();
            out.splice(at..at, noise);
        }
        8 => out.truncate(at),
        _ => {
            let other = &seeds[random.random_range(0..seeds.len())];
            let from = random.random_range(0..=other.len());
            out.truncate(at);
            out.extend_from_slice(&other[from..]);
        }
    }
}

/// Puts a number at which checks go wrong over 1 to 8 bytes, in either byte order.
fn write_edge(random: &mut SmallRng, at: usize, out: &mut [u8]) {
    let near = random.random_range(-1..=1i64);
    let edge = EDGES[random.random_range(0..EDGES.len())].wrapping_add(near);
    let width = 1 << random.random_range(0..4);
    let Some(place) = out.get_mut(at..at + width) else {
        return;
    };
    if random.random() {
        place.copy_from_slice(&edge.to_be_bytes()[8 - width..]);
    } else {
        place.copy_from_slice(&edge.to_le_bytes()[..width]);
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_inputs() {
        let seeds = vec![b"one seed".to_vec(), vec![0; 100], Vec::new()];
        let inputs = |seed| {
            let mut random = SmallRng::seed_from_u64(seed);
            let mut out = Vec::new();
            let next = |_| {
                next_input(&mut random, &seeds, &mut out);
                out.clone()
            };
            (0..1_000).map(next).collect::<Vec<_>>()
        };
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
    }
}
