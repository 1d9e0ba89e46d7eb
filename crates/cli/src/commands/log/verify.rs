//! `flafka log verify`.

use flafka_log_store::inspect::{Finding, Severity, VerifyStep, verify};
use serde_json::json;

use super::arguments::VerifyArguments;
use super::{find_log, text};
use crate::exit::{Ending, Outcome, say};

pub(super) fn run(arguments: &VerifyArguments) -> Outcome {
    let dir = find_log(&arguments.dir)?;
    // Whoever reads the output may be gone: then the check goes on, and the last line tells.
    let mut printed = Ok(());
    let verified = verify(&dir, &mut |step| {
        if let VerifyStep::Found(finding) = step
            && printed.is_ok()
        {
            printed = say(&match arguments.json {
                true => as_json(&finding),
                false => as_text(&finding),
            });
        }
    })?;
    printed?;
    if arguments.json {
        let counts = json!({
            "streams": verified.streams,
            "segments": verified.segments,
            "batches": verified.batches,
            "records": verified.records,
            "bytes": verified.bytes,
            "errors": verified.errors,
            "notes": verified.notes,
        });
        say(&counts.to_string())?;
    } else {
        say(&format!(
            "{}: {}, {}, {}, {}, {}: {}",
            dir.display(),
            text::count(verified.streams, "stream"),
            text::count(verified.segments, "segment"),
            text::bytes(verified.bytes),
            text::many(verified.batches, "batch", "batches"),
            text::count(verified.records, "record"),
            match verified.errors {
                0 => "sound".to_owned(),
                errors => text::count(errors, "error"),
            }
        ))?;
    }
    Ok(match verified.errors {
        0 => Ending::Done,
        _ => Ending::Failed,
    })
}

fn word(finding: &Finding) -> &'static str {
    match finding.severity {
        Severity::Note => "note",
        Severity::Error => "error",
    }
}

fn as_text(finding: &Finding) -> String {
    format!(
        "{}: {} at byte {}: {}",
        word(finding),
        finding.path.display(),
        finding.position,
        finding.what
    )
}

fn as_json(finding: &Finding) -> String {
    json!({
        "severity": word(finding),
        "path": finding.path,
        "position": finding.position.0,
        "what": finding.what,
    })
    .to_string()
}
