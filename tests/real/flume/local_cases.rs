//! The comparisons that need no topic.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use flafka_tests::real::python;

use crate::differential::Comparison;
use crate::drivers::{
    append, event, lines_with_answers, post_events, request, send_and_note_all, write_file,
};
use crate::outcome::{Outcome, files_of, header_lines_of, headers_of, lines_of, names_of};
use crate::scene::Scene;

pub(crate) fn all() -> Vec<Comparison> {
    vec![
        Comparison {
            name: "netcat_memory_file_roll",
            conf: include_str!("cases/netcat_memory_file_roll.conf"),
            prepare: |_| Ok(()),
            drive: drive_netcat,
            taken: 303,
            outcome: lines_in_out,
        },
        Comparison {
            name: "netcat_no_ack",
            conf: include_str!("cases/netcat_no_ack.conf"),
            prepare: |_| Ok(()),
            drive: |scene| {
                send_and_note_all(
                    scene,
                    b"gr\xfc\xdfe aus latin-1\nsecond\r\n\nlast without end",
                )?;
                send_and_note_all(
                    scene,
                    b"fits\n0123456789012345678901234567890123456789 too long\nnever\n",
                )
            },
            taken: 4,
            outcome: lines_in_out,
        },
        Comparison {
            name: "spooldir_rename",
            conf: include_str!("cases/spooldir_rename.conf"),
            prepare: prepare_spool,
            drive: |_| Ok(()),
            taken: 28,
            outcome: |scene| {
                let mut outcome = header_lines(scene)?;
                outcome.add("names in the spool directory", names_of(scene, "in")?);
                Ok(outcome)
            },
        },
        Comparison {
            name: "spooldir_delete_long_lines",
            conf: include_str!("cases/spooldir_delete_long_lines.conf"),
            prepare: |scene| {
                let text =
                    "short\nexactly 16 chars\nthis line is longer than sixteen characters\nend\n";
                write_file(
                    scene,
                    "in/long.txt",
                    text.as_bytes(),
                    Duration::from_secs(60),
                )
            },
            drive: |_| Ok(()),
            taken: 7,
            outcome: |scene| {
                let mut outcome = lines_in_out(scene)?;
                outcome.add("names in the spool directory", names_of(scene, "in")?);
                Ok(outcome)
            },
        },
        Comparison {
            name: "taildir_file_channel",
            conf: include_str!("cases/taildir_file_channel.conf"),
            prepare: prepare_tail,
            drive: drive_tail,
            taken: 215,
            outcome: lines_by_path,
        },
        Comparison {
            name: "exec_command",
            conf: include_str!("cases/exec_command.conf"),
            prepare: |scene| {
                let lines: String = (0..100).map(|n| format!("line {n}\n")).collect();
                write_file(
                    scene,
                    "in/lines.txt",
                    format!("{lines}\nafter\ra gap").as_bytes(),
                    Duration::ZERO,
                )
            },
            drive: |_| Ok(()),
            taken: 107,
            outcome: lines_in_three,
        },
        Comparison {
            name: "http_json",
            conf: include_str!("cases/http_json.conf"),
            prepare: |_| Ok(()),
            drive: drive_http,
            taken: 14,
            outcome: header_lines,
        },
        Comparison {
            name: "http_blob",
            conf: include_str!("cases/http_blob.conf"),
            prepare: |_| Ok(()),
            drive: |scene| {
                request(
                    scene,
                    "good",
                    "POST",
                    "/?name=a&other=b%20c",
                    &[],
                    b"one body\x00\xff",
                )?;
                request(scene, "no name", "POST", "/?other=b", &[], b"lost")?;
                request(scene, "empty", "POST", "/any/path?name=x", &[], b"")
            },
            taken: 2,
            outcome: header_lines,
        },
        Comparison {
            name: "http_morphline_blob",
            conf: include_str!("cases/http_morphline_blob.conf"),
            prepare: |_| Ok(()),
            drive: |scene| {
                let text = ("Content-Type", "text/x-log; charset=utf-8");
                request(scene, "short", "POST", "/?a=1&b=x%20y", &[text], b"short")?;
                request(scene, "fits", "POST", "/any/path", &[], b"0123456789")?;
                request(scene, "long", "POST", "/?c=3", &[], b"0123456789 too long")?;
                request(scene, "empty", "POST", "/?d=", &[], b"")
            },
            taken: 4,
            outcome: header_lines,
        },
        Comparison {
            name: "multiplexing",
            conf: include_str!("cases/multiplexing.conf"),
            prepare: |_| Ok(()),
            drive: |scene| {
                let levels = ["error", "audit", "info", "Error", "audit", ""];
                let mut events: Vec<_> = levels
                    .iter()
                    .map(|level| event(&[("level", level)], level))
                    .collect();
                events.push(event(&[], "no header"));
                post_events(scene, &events)
            },
            taken: 9,
            outcome: lines_in_three,
        },
        Comparison {
            name: "replicating_optional",
            conf: include_str!("cases/replicating_optional.conf"),
            prepare: |_| Ok(()),
            drive: |scene| lines_with_answers(scene, &numbered(60)),
            taken: 120,
            outcome: lines_in_three,
        },
        Comparison {
            name: "interceptors",
            conf: include_str!("cases/interceptors.conf"),
            prepare: |_| Ok(()),
            drive: |scene| {
                let names = ["timestamp", "seen", "host", "machine", "site", "kept"];
                let full: Vec<_> = names.iter().map(|name| (*name, "old")).collect();
                post_events(
                    scene,
                    &[
                        event(&full, "has all"),
                        event(&[], "has none"),
                        event(&[("x", "y")], "other"),
                    ],
                )
            },
            taken: 3,
            outcome: header_lines,
        },
        Comparison {
            name: "uuid_interceptor",
            conf: include_str!("cases/uuid_interceptor.conf"),
            prepare: |_| Ok(()),
            drive: |scene| {
                post_events(
                    scene,
                    &[
                        event(&[("id", "old"), ("key", "old")], "has both"),
                        event(&[], "has none"),
                        event(&[("x", "y")], "other"),
                    ],
                )
            },
            taken: 3,
            outcome: lines_with_uuids,
        },
        Comparison {
            name: "avro_event",
            conf: include_str!("cases/avro_event.conf"),
            prepare: |_| Ok(()),
            drive: |scene| {
                let events: Vec<_> = (0..40)
                    .map(|n| event(&[("n", &n.to_string()), ("k", "ü")], &format!("body {n} é")))
                    .collect();
                post_events(scene, &events)?;
                post_events(scene, &[event(&[], "")])
            },
            taken: 82,
            outcome: avro_files,
        },
        Comparison {
            name: "seq_file_channel",
            conf: include_str!("cases/seq_file_channel.conf"),
            prepare: |_| Ok(()),
            drive: |_| Ok(()),
            taken: 500,
            outcome: lines_in_out,
        },
        Comparison {
            name: "spillable_memory",
            conf: include_str!("cases/spillable_memory.conf"),
            prepare: |_| Ok(()),
            drive: |_| Ok(()),
            taken: 500,
            outcome: lines_in_out,
        },
        Comparison {
            name: "spillable_overflow",
            conf: include_str!("cases/spillable_overflow.conf"),
            prepare: |_| Ok(()),
            drive: |_| Ok(()),
            taken: 500,
            outcome: lines_in_out,
        },
        Comparison {
            name: "spillable_disk_only",
            conf: include_str!("cases/spillable_disk_only.conf"),
            prepare: |_| Ok(()),
            drive: |_| Ok(()),
            taken: 500,
            outcome: lines_in_out,
        },
    ]
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("line {n}")).collect()
}

fn drive_netcat(scene: &Scene) -> Result<()> {
    lines_with_answers(scene, &numbered(300))?;
    let too_long = [b"before\n".to_vec(), vec![b'x'; 600], b"\nafter\n".to_vec()].concat();
    send_and_note_all(scene, &too_long)?;
    send_and_note_all(
        scene,
        "with a return\r\nUmläute\nlost at the end".as_bytes(),
    )
}

fn prepare_spool(scene: &Scene) -> Result<()> {
    let seconds = Duration::from_secs;
    let many: String = (0..20).map(|n| format!("many {n}\n")).collect();
    write_file(
        scene,
        "in/oldest.log",
        b"one\r\ntwo\n\nfour without end",
        seconds(400),
    )?;
    write_file(scene, "in/older.log", many.as_bytes(), seconds(300))?;
    write_file(
        scene,
        "in/bytes.log",
        b"bad \xff\xc3( bytes\nTr\xc3\xbcmmer\n",
        seconds(200),
    )?;
    write_file(scene, "in/empty.log", b"", seconds(100))?;
    write_file(scene, "in/later.log", b"last\n", seconds(50))?;
    write_file(scene, "in/ignored.tmp", b"never\n", seconds(500))?;
    write_file(scene, "in/.hidden", b"never\n", seconds(500))
}

fn prepare_tail(scene: &Scene) -> Result<()> {
    let web: String = (0..150).map(|n| format!("GET /{n}\n")).collect();
    write_file(
        scene,
        "in/web-1.log",
        web.as_bytes(),
        Duration::from_secs(60),
    )?;
    write_file(
        scene,
        "in/web-2.log",
        b"one\r\ntwo\r\r\n\n\xff bytes\n",
        Duration::from_secs(30),
    )?;
    write_file(scene, "in/db.log", b"start\n", Duration::from_secs(10))?;
    write_file(
        scene,
        "in/db.log.1",
        b"not in any group\n",
        Duration::from_secs(10),
    )
}

fn drive_tail(scene: &Scene) -> Result<()> {
    let rows: String = (0..50).map(|n| format!("row {n}\n")).collect();
    append(scene, "in/db.log", rows.as_bytes())?;
    append(scene, "in/web-2.log", b"in two ")?;
    append(scene, "in/web-2.log", b"parts\n")?;
    write_file(
        scene,
        "in/web-3.log",
        b"1\n2\n3\n4\n5\n6\n7\n8\n9\n",
        Duration::ZERO,
    )
}

fn drive_http(scene: &Scene) -> Result<()> {
    let json = [("Content-Type", "application/json; charset=UTF-8")];
    let five: Vec<_> = (0..5)
        .map(|n| {
            event(
                &[("n", &n.to_string()), ("Größe", "ß")],
                &format!("body {n} ü"),
            )
        })
        .collect();
    post_events(scene, &five)?;
    request(scene, "no events", "POST", "/", &json, b"[]")?;
    request(scene, "broken JSON", "POST", "/", &json, b"[{\"body\": ")?;
    request(
        scene,
        "only a body",
        "POST",
        "/",
        &json,
        b"[{\"body\":\"alone\"}]",
    )?;
    request(
        scene,
        "only headers",
        "POST",
        "/",
        &json,
        b"[{\"headers\":{\"a\":\"b\"}}]",
    )?;
    request(
        scene,
        "unknown field",
        "POST",
        "/",
        &json,
        b"[{\"body\":\"x\",\"more\":[1,{}]}]",
    )?;
    request(
        scene,
        "number as body",
        "POST",
        "/",
        &json,
        b"[{\"headers\":{\"n\":1.50,\"t\":true},\"body\":12}]",
    )?;
    request(
        scene,
        "object as body",
        "POST",
        "/",
        &json,
        b"[{\"body\":{\"a\":1}}]",
    )?;
    request(
        scene,
        "an object, no array",
        "POST",
        "/",
        &json,
        b"{\"body\":\"x\"}",
    )?;
    request(scene, "null", "POST", "/", &json, b"null")?;
    request(scene, "null in the array", "POST", "/", &json, b"[null]")?;
    request(scene, "nothing", "POST", "/", &json, b"")?;
    request(
        scene,
        "data after the array",
        "POST",
        "/",
        &json,
        b"[{\"body\":\"x\"}] more",
    )?;
    let eleven: Vec<_> = (0..11).map(|n| event(&[], &n.to_string())).collect();
    let eleven = serde_json::to_vec(&eleven).context("write JSON")?;
    request(
        scene,
        "more than a transaction holds",
        "POST",
        "/",
        &json,
        &eleven,
    )?;
    let latin = [("Content-Type", "application/json; charset=ISO-8859-1")];
    request(scene, "latin-1", "POST", "/", &latin, b"[{\"body\":\"x\"}]")?;
    let wide: Vec<u8> = "[{\"body\":\"wide ü\"}]"
        .encode_utf16()
        .flat_map(u16::to_be_bytes)
        .collect();
    let utf_16 = [("Content-Type", "application/json; charset=UTF-16")];
    request(scene, "utf-16", "POST", "/", &utf_16, &wide)?;
    request(
        scene,
        "no content type",
        "POST",
        "/some/path",
        &[],
        b"[{\"body\":\"untyped\"}]",
    )?;
    request(scene, "GET", "GET", "/", &json, b"[{\"body\":\"got\"}]")?;
    request(scene, "PUT", "PUT", "/", &json, b"[{\"body\":\"put\"}]")?;
    request(scene, "TRACE", "TRACE", "/", &[], b"")?;
    request(scene, "OPTIONS", "OPTIONS", "/", &[], b"")?;
    request(
        scene,
        "lenient",
        "POST",
        "/",
        &json,
        b"[{headers:{a:b},body:'single quotes'}]",
    )?;
    post_events(scene, &[event(&[("last", "yes")], "the end")])
}

fn lines_in_out(scene: &Scene) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    outcome.add("out", lines_of(scene, "out")?);
    outcome.add("names in out", names_of(scene, "out")?);
    Ok(outcome)
}

fn lines_in_three(scene: &Scene) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for folder in ["out", "out2", "out3"] {
        outcome.add(folder, lines_of(scene, folder)?);
    }
    Ok(outcome)
}

fn header_lines(scene: &Scene) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    outcome.add("out", header_lines_of(scene, "out")?);
    Ok(outcome)
}

/// Random UUIDs are shown by their form only, and how many different ones there are.
fn lines_with_uuids(scene: &Scene) -> Result<Outcome> {
    let (mut lines, mut seen) = (Vec::new(), BTreeSet::new());
    for mut line in header_lines_of(scene, "out")? {
        while let Some((start, uuid)) = random_uuid(&line) {
            line.replace_range(start..start + uuid.len(), "<random uuid>");
            seen.insert(uuid);
        }
        lines.push(line);
    }
    let mut outcome = Outcome::default();
    outcome.add("out", lines);
    outcome.add("different", [seen.len().to_string()]);
    Ok(outcome)
}

/// The first UUID of version 4 in a line, and where it starts.
fn random_uuid(line: &str) -> Option<(usize, String)> {
    const FORM: &[u8] = b"xxxxxxxx-xxxx-4xxx-vxxx-xxxxxxxxxxxx";
    let fits = |(found, form): (&u8, &u8)| match form {
        b'x' => found.is_ascii_digit() || (b'a'..=b'f').contains(found),
        b'v' => b"89ab".contains(found),
        fixed => found == fixed,
    };
    let mut windows = line.as_bytes().windows(FORM.len());
    let start = windows.position(|window| window.iter().zip(FORM).all(fits))?;
    Some((start, line[start..start + FORM.len()].to_owned()))
}

/// The lines of each tailed file in their order; the order of the files among each other is a matter of timing.
fn lines_by_path(scene: &Scene) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let lines = lines_of(scene, "out")?;
    for (line, sorted) in lines.iter().zip(header_lines_of(scene, "out")?) {
        let headers = headers_of(line)?;
        outcome.add(headers.get("path").cloned().unwrap_or_default(), [sorted]);
    }
    Ok(outcome)
}

fn avro_files(scene: &Scene) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for folder in ["out", "out2"] {
        let files: Vec<String> = files_of(scene, folder)?
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        outcome.add(
            folder,
            python("avro_dump.py", &files, b"")?
                .lines()
                .map(str::to_owned),
        );
        outcome.add(format!("names in {folder}"), names_of(scene, folder)?);
    }
    Ok(outcome)
}
