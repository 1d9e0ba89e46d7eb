//! `flafka log repair`.

use flafka_log_store::{RepairReport, repair};
use serde_json::{Value, json};

use super::arguments::RepairArguments;
use super::{find_log, text};
use crate::exit::{Ending, Outcome, say};

pub(super) fn run(arguments: &RepairArguments) -> Outcome {
    let dir = find_log(&arguments.dir)?;
    let report = repair(&dir, arguments.yes)?;
    if arguments.json {
        say(&as_json(&report, arguments.yes).to_string())?;
        return Ok(Ending::Done);
    }
    for action in &report.actions {
        say(&format!(
            "{} at byte {}: {}",
            action.path.display(),
            action.position,
            action.what
        ))?;
    }
    for lost in &report.lost {
        let count = u64::try_from(lost.last.0 - lost.first.0 + 1).unwrap_or(0);
        say(&format!(
            "lost: offsets {}..={} of {}, {}{}",
            lost.first,
            lost.last,
            lost.stream,
            if lost.compacted { "at most " } else { "" },
            text::count(count, "record")
        ))?;
    }
    say(&match (report.actions.is_empty(), &report.kept_in) {
        (true, _) => format!("{} needs no repair", dir.display()),
        (false, Some(kept)) => format!("repaired; what was replaced is kept in {}", kept.display()),
        (false, None) => "nothing was changed: run it again with --yes to do this".to_owned(),
    })?;
    Ok(Ending::Done)
}

fn as_json(report: &RepairReport, applied: bool) -> Value {
    let actions: Vec<Value> = report
        .actions
        .iter()
        .map(|action| json!({"path": action.path, "position": action.position.0, "what": action.what}))
        .collect();
    let lost: Vec<Value> = report
        .lost
        .iter()
        .map(|lost| json!({"stream": lost.stream, "first": lost.first.0, "last": lost.last.0, "compacted": lost.compacted}))
        .collect();
    json!({"actions": actions, "lost": lost, "applied": applied && report.kept_in.is_some(), "kept_in": report.kept_in})
}
