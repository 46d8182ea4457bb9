//! A request that somebody saved: raw HTTP, JSON with `headers` and `body`, or two files.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::error::Error;

/// Headers with their names in lower case, and the bytes of the body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SavedRequest {
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// The JSON of Lambda functions behind API Gateway, and of `GET /received` of the local receiver.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonRequest {
    headers: Headers,
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Headers {
    Map(std::collections::BTreeMap<String, String>),
    List(Vec<(String, String)>),
}

impl SavedRequest {
    /// The first value of a header; the name is in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// Reads raw HTTP, or JSON if that is what it is.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.trim_ascii_start().starts_with(b"{") {
            return Self::from_json(bytes);
        }
        // An editor may have turned CR LF into LF.
        let (head, body) =
            split_at(bytes, b"\r\n\r\n").or_else(|| split_at(bytes, b"\n\n")).ok_or_else(|| {
                Error::Usage("FILE has no empty line between headers and body".to_owned())
            })?;
        Self::from_parts(head, body.to_vec())
    }

    /// Reads the headers, one a line. A request line before them is skipped.
    pub(crate) fn from_parts(head: &[u8], body: Vec<u8>) -> Result<Self, Error> {
        let head = String::from_utf8_lossy(head);
        let mut lines = head.lines().map(str::trim_end).filter(|line| !line.is_empty()).peekable();
        lines.next_if(|line| is_request_line(line));
        let header = |line: &str| match line.split_once(':') {
            Some((name, value)) if !name.is_empty() && !name.contains(' ') => {
                Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
            }
            _ => Err(Error::Usage(format!("this line is no header: {line}"))),
        };
        let headers = lines.map(header).collect::<Result<_, _>>()?;
        Ok(Self { headers, body })
    }

    fn from_json(bytes: &[u8]) -> Result<Self, Error> {
        let usage = |reason: String| Error::Usage(format!("FILE is no request as JSON: {reason}"));
        let JsonRequest { headers, body, is_base64_encoded } =
            serde_json::from_slice(bytes).map_err(|error| usage(error.to_string()))?;
        let headers = match headers {
            Headers::Map(map) => map.into_iter().collect(),
            Headers::List(list) => list,
        };
        let body = body.unwrap_or_default();
        let body = if is_base64_encoded {
            STANDARD.decode(&body).map_err(|error| usage(format!("body is not Base64: {error}")))?
        } else {
            body.into_bytes()
        };
        let headers = headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value));
        Ok(Self { headers: headers.collect(), body })
    }
}

fn split_at<'a>(bytes: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(separator.len()).position(|window| window == separator)?;
    Some((&bytes[..at], &bytes[at + separator.len()..]))
}

/// `POST /path HTTP/1.1`, or without the version.
fn is_request_line(line: &str) -> bool {
    line.split_once(' ').is_some_and(|(method, rest)| {
        !method.is_empty()
            && method.bytes().all(|byte| byte.is_ascii_uppercase())
            && (rest.starts_with('/') || rest.starts_with("http"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_request_is_read() {
        let expected = SavedRequest {
            headers: vec![("webhook-id".to_owned(), "dlv_1".to_owned())],
            body: b"{\"a\":\"\n\n\"}".to_vec(),
        };
        for text in [
            "POST /hook HTTP/1.1\r\nWebhook-Id: dlv_1\r\n\r\n{\"a\":\"\n\n\"}",
            "POST /hook HTTP/1.1\nWebhook-Id:dlv_1\n\n{\"a\":\"\n\n\"}",
            "webhook-id: dlv_1\n\n{\"a\":\"\n\n\"}",
            r#"{"headers": {"Webhook-Id": "dlv_1"}, "body": "{\"a\":\"\n\n\"}"}"#,
            r#"{"headers": [["webhook-id", "dlv_1"]], "body": "eyJhIjoiCgoifQ==", "isBase64Encoded": true}"#,
        ] {
            assert_eq!(SavedRequest::parse(text.as_bytes()).unwrap(), expected, "{text}");
        }
        let parts = SavedRequest::from_parts(b"Webhook-Id: dlv_1\n", expected.body.clone());
        assert_eq!(parts.unwrap(), expected);
    }

    #[test]
    fn what_is_no_request_is_refused_with_the_reason() {
        for (text, reason) in [
            ("webhook-id: dlv_1", "no empty line"),
            ("hello\n\nbody", "no header: hello"),
            ("{}", "headers"),
            (r#"{"headers": {}, "body": "%", "isBase64Encoded": true}"#, "Base64"),
        ] {
            let error = SavedRequest::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
