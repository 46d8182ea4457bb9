//! `webhooks verify`: whether the signature of a saved request is valid, and if not, why.

use serde_json::to_string;

use crate::args::Verify;
use crate::diagnosis::{Key, diagnose};
use crate::error::Error;
use crate::input::read_file;
use crate::output::{Output, Tone};
use crate::saved_request::SavedRequest;
use crate::system;

/// Exit code 1 if the signature is not valid.
pub(crate) fn verify(verify: Verify, out: Output) -> Result<(), Error> {
    if verify.secret.is_empty() && verify.public_key.is_empty() {
        return Err(Error::Usage("give --secret, WEBHOOKS_SECRET or --public-key".to_owned()));
    }
    if verify.secret.iter().any(String::is_empty) {
        return Err(Error::Usage("--secret is empty".to_owned()));
    }
    let mut keys: Vec<Key> = verify.secret.into_iter().map(Key::Secret).collect();
    for text in &verify.public_key {
        let key =
            Key::public(text).map_err(|error| Error::Usage(format!("--public-key {error}")))?;
        keys.push(key);
    }
    let request = match (&verify.request, &verify.headers, &verify.body) {
        (Some(file), ..) => SavedRequest::parse(&read_file(file)?)?,
        (None, Some(headers), Some(body)) => {
            SavedRequest::from_parts(&read_file(headers)?, read_file(body)?)?
        }
        _ => return Err(Error::Usage("give FILE, or --headers and --body".to_owned())),
    };
    let now = system::now();
    let received_at = verify.received_at.map_or(now, |moment| moment.at(now));
    let diagnosis = diagnose(&request, &keys, received_at);
    if out.json {
        out.line(to_string(&diagnosis).expect("texts and numbers are JSON"))?;
    } else {
        let (word, tone) =
            if diagnosis.valid { ("valid", Tone::Good) } else { ("not valid", Tone::Bad) };
        out.line(out.toned(word, tone))?;
        for signature in &diagnosis.signatures {
            let (made, tone) = match signature.key {
                Some(number) => (format!("made by key {number}"), Tone::Good),
                None => ("made by no given key".to_owned(), Tone::Bad),
            };
            out.line(format_args!(
                "{:<46}  {}",
                signature.scheme.describe(),
                out.toned(&made, tone)
            ))?;
        }
        for reason in &diagnosis.reasons {
            let code = to_string(&reason.code).expect("a code is a text");
            let likely = if reason.is_certain { "" } else { " (a guess)" };
            out.line(format_args!("{}{likely}: {}", code.trim_matches('"'), reason.detail))?;
        }
    }
    // The output says it already.
    if diagnosis.valid { Ok(()) } else { Err(Error::Failed(String::new())) }
}
