//! The last thing a start does to the journal it has read: its end becomes final.

use crate::error::{IoFault, OpenError};
use crate::journal::files::FRAMES_AT;
use crate::journal::scan::Scan;

/// Makes the journal's end final: after this no later start can read it differently.
pub(crate) fn firm_up(scan: &Scan) -> Result<(), OpenError> {
    let (first, from) = scan.unproven;
    let (last, end) = scan.end;
    for at in first..=last {
        let journal = &scan.files[at];
        let from = if at == first { from } else { FRAMES_AT };
        let to = if at == last { end } else { journal.capacity };
        let firm = || -> std::io::Result<()> {
            let mut buffer = vec![0; 1 << 16];
            let mut position = from;
            while position < to {
                let count = buffer.len().min((to - position) as usize);
                // Of a file that somebody has cut short, the padding behind the last frame may be missing.
                buffer[..count].fill(0);
                journal.file.read_full(&mut buffer[..count], position)?;
                journal.file.write_all_at(&buffer[..count], position)?;
                position += count as u64;
            }
            let mut wiped = false;
            if at == last && end + 8 <= journal.capacity {
                let mut magic = [0; 8];
                journal.file.read_full(&mut magic, end)?;
                wiped = magic != [0; 8];
                if wiped {
                    journal.file.write_all_at(&[0; 8], end)?;
                }
            }
            if from < to || wiped {
                journal.file.sync_data()?;
            }
            Ok(())
        };
        firm().map_err(IoFault::of("finish journal", &journal.path))?;
    }
    Ok(())
}
