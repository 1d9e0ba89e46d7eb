//! Query parameters as the servlet API gives them: percent-decoded, `+` for a blank, of a
//! repeated name the first value (Flume reference 2.2, http, BLOB handlers).

use flafka_flow::{Headers, HeadersBuilder};

/// Most parameters that are read; a request line is bounded, so this is far away.
const MOST_PARAMETERS: usize = 1000;

/// Adds the parameters of `encoded` (`a=1&b=2`) that are not set yet.
pub(super) fn add_parameters(encoded: &str, headers: &mut HeadersBuilder) {
    let parts = encoded.split('&').filter(|part| !part.is_empty());
    for part in parts.take(MOST_PARAMETERS) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let name = decode(name);
        if !headers.contains(&name) {
            headers.push_unchecked(&name, &decode(value));
        }
    }
}

/// The first of `mandatory` that is not among the headers.
pub(super) fn missing<'m>(mandatory: &'m [String], headers: &Headers) -> Option<&'m str> {
    mandatory
        .iter()
        .map(String::as_str)
        .find(|name| headers.get(name).is_none())
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'+' => out.push(b' '),
            b'%' => match bytes.get(at..at + 2).and_then(hex) {
                Some(value) => {
                    out.push(value);
                    at += 2;
                }
                None => out.push(b'%'),
            },
            other => out.push(*other),
        }
    }
    match String::from_utf8(out) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    }
}

fn hex(digits: &[u8]) -> Option<u8> {
    let high = char::from(*digits.first()?).to_digit(16)?;
    let low = char::from(*digits.get(1)?).to_digit(16)?;
    Some((high << 4 | low) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_the_first_of_a_name_counts() {
        let mut builder = HeadersBuilder::default();
        add_parameters("a=1&b=x+y%C3%A9&a=2&c&=v&&d=%zz%FF", &mut builder);
        let headers = builder.finish();
        let pairs: Vec<_> = headers.iter().collect();
        let expected = [
            ("a", "1"),
            ("b", "x yé"),
            ("c", ""),
            ("", "v"),
            ("d", "%zz\u{fffd}"),
        ];
        assert_eq!(pairs, expected);
        let mandatory = ["a".to_owned(), "z".to_owned()];
        assert_eq!(missing(&mandatory, &headers), Some("z"));
    }
}
