//! The serializers `TEXT` and `HEADER_AND_TEXT`.

use flafka_flow::Batch;

use super::{EventSerializer, SerializeError, write_java_map};

flafka_flow::settings! {
    /// Writes the body of each event, and a newline.
    pub struct TextConfig {
        /// Whether a newline follows each body.
        "appendNewline" => append_newline: bool = true,
    }
}

flafka_flow::settings! {
    /// Writes the headers of each event as `{name=value, other=value}`, a blank, its body, and a
    /// newline.
    pub struct HeaderAndTextConfig {
        /// Whether a newline follows each body.
        "appendNewline" => append_newline: bool = true,
    }
}

pub(super) struct TextSerializer {
    append_newline: bool,
}

impl TextSerializer {
    pub(super) fn new(config: &TextConfig) -> Self {
        Self {
            append_newline: config.append_newline,
        }
    }
}

impl EventSerializer for TextSerializer {
    fn begin(&mut self, _out: &mut Vec<u8>) -> Result<(), SerializeError> {
        Ok(())
    }

    fn write(&mut self, batch: &Batch, out: &mut Vec<u8>) -> Result<(), SerializeError> {
        for event in batch.iter() {
            out.extend_from_slice(event.body);
            if self.append_newline {
                out.push(b'\n');
            }
        }
        Ok(())
    }

    fn end(&mut self, _out: &mut Vec<u8>) -> Result<(), SerializeError> {
        Ok(())
    }
}

pub(super) struct HeaderAndTextSerializer {
    append_newline: bool,
}

impl HeaderAndTextSerializer {
    pub(super) fn new(config: &HeaderAndTextConfig) -> Self {
        Self {
            append_newline: config.append_newline,
        }
    }
}

impl EventSerializer for HeaderAndTextSerializer {
    fn begin(&mut self, _out: &mut Vec<u8>) -> Result<(), SerializeError> {
        Ok(())
    }

    fn write(&mut self, batch: &Batch, out: &mut Vec<u8>) -> Result<(), SerializeError> {
        let mut printed = String::new();
        let mut printed_set = None;
        for (index, event) in batch.iter().enumerate() {
            let set = batch.header_set(index);
            if printed_set != Some(set) {
                printed.clear();
                write_java_map(event.headers, &mut printed);
                printed.push(' ');
                printed_set = Some(set);
            }
            out.extend_from_slice(printed.as_bytes());
            out.extend_from_slice(event.body);
            if self.append_newline {
                out.push(b'\n');
            }
        }
        Ok(())
    }

    fn end(&mut self, _out: &mut Vec<u8>) -> Result<(), SerializeError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use flafka_flow::{Event, Headers};

    use super::*;

    fn written(serializer: &mut dyn EventSerializer) -> String {
        let batch = Batch::from_events([
            Event::new("one"),
            Event {
                headers: [("timestamp", "1"), ("host", "h")]
                    .into_iter()
                    .collect::<Headers>(),
                body: "two\r".into(),
            },
            Event::new(""),
        ]);
        let mut out = Vec::new();
        serializer.begin(&mut out).expect("begins");
        serializer.write(&batch, &mut out).expect("writes");
        serializer.end(&mut out).expect("ends");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn text_is_bodies_and_newlines() {
        let config = |append_newline| TextConfig { append_newline };
        let plain = written(&mut TextSerializer::new(&config(true)));
        assert_eq!(plain, "one\ntwo\r\n\n");
        let joined = written(&mut TextSerializer::new(&config(false)));
        assert_eq!(joined, "onetwo\r");
    }

    #[test]
    fn header_and_text_prints_a_java_map() {
        let config = |append_newline| HeaderAndTextConfig { append_newline };
        let plain = written(&mut HeaderAndTextSerializer::new(&config(true)));
        assert_eq!(plain, "{} one\n{host=h, timestamp=1} two\r\n{} \n");
        let joined = written(&mut HeaderAndTextSerializer::new(&config(false)));
        assert_eq!(joined, "{} one{host=h, timestamp=1} two\r{} ");
    }
}
