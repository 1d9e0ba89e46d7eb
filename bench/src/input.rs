//! The lines that go in, and whether they came out exactly once.
//!
//! A line is a number of 16 digits, a blank, letters, and a newline, `event_bytes` long in all. So every line can be
//! checked whatever order, file or batch it comes out in.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Digits of a number.
pub(crate) const DIGITS: usize = 16;

/// Writes `number` into the first bytes of `line`.
pub(crate) fn set_number(line: &mut [u8], number: u64) {
    let mut rest = number;
    for digit in line[..DIGITS].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

/// A body of `length` bytes, without newline, to be numbered.
pub(crate) fn body(length: usize) -> Vec<u8> {
    let mut body: Vec<u8> = (0..length).map(|at| b'a' + (at % 26) as u8).collect();
    body[..DIGITS].fill(b'0');
    body[DIGITS] = b' ';
    body
}

/// Writes a file of `count` lines and forces it to the disk, so that its write-back does not disturb the measurement.
pub(crate) fn write(path: &Path, count: u64, line_bytes: usize) -> Result<()> {
    let file = File::create(path).with_context(|| format!("make {}", path.display()))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let mut line = body(line_bytes - 1);
    line.push(b'\n');
    for number in 0..count {
        set_number(&mut line, number);
        out.write_all(&line).context("write the input")?;
    }
    let file = out.into_inner().context("write the input")?;
    file.sync_all().context("write the input")
}

/// Which numbers have come out.
pub(crate) struct Seen {
    numbers: Vec<bool>,
    repeated: u64,
    missing: u64,
}

impl Seen {
    pub(crate) fn new(count: u64) -> Self {
        Self {
            numbers: vec![false; count as usize],
            repeated: 0,
            missing: count,
        }
    }

    /// Notes a number.
    pub(crate) fn note(&mut self, number: u64) -> Result<()> {
        let count = self.numbers.len();
        let Some(seen) = self.numbers.get_mut(number as usize) else {
            bail!("number {number} came out, only {count} went in");
        };
        if *seen {
            self.repeated += 1;
        } else {
            *seen = true;
            self.missing -= 1;
        }
        Ok(())
    }

    /// Fails unless every number came out exactly once.
    pub(crate) fn finish(&self) -> Result<()> {
        if self.missing > 0 || self.repeated > 0 {
            bail!(
                "of {} events {} did not come out and {} came out twice",
                self.numbers.len(),
                self.missing,
                self.repeated
            );
        }
        Ok(())
    }
}

/// Checks that the files of `folder` together hold each of `count` lines exactly once, unchanged.
pub(crate) fn check_files(folder: &Path, count: u64, line_bytes: usize) -> Result<()> {
    let mut seen = Seen::new(count);
    let mut expected = body(line_bytes - 1);
    expected.push(b'\n');
    for entry in std::fs::read_dir(folder).context("list the output")? {
        let path = entry?.path();
        let mut file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        let mut block = vec![0; line_bytes * 4096];
        let mut length = 0;
        loop {
            let read = file.read(&mut block[length..]).context("read the output")?;
            length += read;
            let whole = length - length % line_bytes;
            for line in block[..whole].chunks_exact(line_bytes) {
                let number = std::str::from_utf8(&line[..DIGITS])
                    .ok()
                    .and_then(|digits| digits.parse().ok());
                let (Some(number), true) = (number, line[DIGITS..] == expected[DIGITS..]) else {
                    bail!("{}: a line is torn or changed", path.display());
                };
                seen.note(number)?;
            }
            block.copy_within(whole..length, 0);
            length -= whole;
            if read == 0 {
                break;
            }
        }
        if length > 0 {
            bail!("{}: ends inside a line", path.display());
        }
    }
    seen.finish()
}

/// Bytes of all files of `folder` together.
pub(crate) fn folder_bytes(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder).context("list the output")? {
        bytes += entry?.metadata().context("look at the output")?.len();
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_whole_and_every_fault_is_named() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("a");
        write(&path, 10_000, 50).expect("written");
        assert_eq!(folder_bytes(folder.path()).expect("size"), 500_000);
        check_files(folder.path(), 10_000, 50).expect("whole");
        let fault = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("written");
            check_files(folder.path(), 10_000, 50)
                .expect_err("a fault")
                .to_string()
        };
        let whole = std::fs::read(&path).expect("read");
        assert!(fault(&whole[50..]).contains("1 did not come out"));
        assert!(fault(&[&whole[..], &whole[..50]].concat()).contains("1 came out twice"));
        assert!(fault(&whole[..499_999]).contains("inside a line"));
        let mut torn = whole.clone();
        torn[120] ^= 1;
        assert!(fault(&torn).contains("torn"));
    }
}
