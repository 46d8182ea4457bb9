//! Webhooks: create, list, show, change, delete, rotate the secret, test.

use std::io::IsTerminal as _;

use serde_json::value::to_raw_value;
use serde_json::{Map, Value, json};
use terminal::Term;

use crate::api::{Api, read};
use crate::args::{Create, Delete, Rotate, Settings, Test, Update};
use crate::error::Error;
use crate::output::{Output, Tone, plain, text};

/// More than a user can have.
const ALL: usize = 1_000;

pub(crate) async fn event_types(api: &Api, out: Output) -> Result<(), Error> {
    let answer = api.get(&["api", "webhooks", "event-types"], &[]).await?;
    if out.json {
        return out.line(answer);
    }
    let types = read::<Value>(&answer)?;
    let mut types = types["items"].as_array().into_iter().flatten();
    if out.quiet {
        return types.try_for_each(|item| out.line(text(&item["name"])));
    }
    let rows = types.map(|item| columns(item, &["name", "category", "description"])).collect();
    out.line(out.table(&["TYPE", "CATEGORY", "DESCRIPTION"], rows))
}

pub(crate) async fn create(api: &Api, create: Create, out: Output) -> Result<(), Error> {
    let mut body = Map::new();
    body.insert("url".to_owned(), create.url.into());
    body.insert("event_types".to_owned(), create.event_types.into());
    let headers = headers(&create.settings.header)?;
    if !headers.is_empty() {
        body.insert("headers".to_owned(), headers.into());
    }
    let body = with_settings(body, create.settings)?;
    let answer = api.post(&["api", "webhooks"], &body).await?;
    let webhook = print(&answer, out)?;
    if let Some(secret) = webhook["secret"].as_str() {
        remark_secret(secret, out)?;
    }
    Ok(())
}

pub(crate) async fn list(api: &Api, out: Output) -> Result<(), Error> {
    let page = api.list(&["api", "webhooks"], &[], ALL).await?;
    if out.json {
        return out.line(json!({"items": page.items, "next_cursor": page.next_cursor}));
    }
    let webhooks: Vec<Value> =
        page.items.iter().map(|item| read(item.get())).collect::<Result<_, _>>()?;
    if out.quiet {
        return webhooks.iter().try_for_each(|webhook| out.line(text(&webhook["id"])));
    }
    let rows = webhooks.iter().map(|webhook| {
        let mut row = columns(webhook, &["id"]);
        row.push(state(webhook));
        row.extend(columns(webhook, &["url", "event_types", "description"]));
        row
    });
    out.line(out.table(&["WEBHOOK", "STATE", "URL", "EVENT TYPES", "DESCRIPTION"], rows.collect()))
}

pub(crate) async fn show(api: &Api, id: &str, out: Output) -> Result<(), Error> {
    print(&api.get(&["api", "webhooks", id], &[]).await?, out).map(|_| ())
}

pub(crate) async fn update(api: &Api, update: Update, out: Output) -> Result<(), Error> {
    let Update { id, url, event_types, settings, remove_header } = update;
    let mut body = Map::new();
    body.extend(url.map(|url| ("url".to_owned(), url.into())));
    body.extend(event_types.map(|types| ("event_types".to_owned(), types.into())));
    let changed = headers(&settings.header)?;
    if !changed.is_empty() || !remove_header.is_empty() {
        let webhook: Value = read(&api.get(&["api", "webhooks", &id], &[]).await?)?;
        let headers = changed_headers(&webhook["headers"], changed, &remove_header)?;
        body.insert("headers".to_owned(), headers.into());
    }
    let body = with_settings(body, settings)?;
    if body == "{}" {
        return Err(Error::Usage(
            "nothing to change: `webhooks update --help` lists the flags".to_owned(),
        ));
    }
    print(&api.patch(&["api", "webhooks", &id], &body).await?, out).map(|_| ())
}

pub(crate) async fn set_active(
    api: &Api,
    id: &str,
    is_active: bool,
    out: Output,
) -> Result<(), Error> {
    let answer = api.patch(&["api", "webhooks", id], &json!({"is_active": is_active})).await?;
    print(&answer, out).map(|_| ())
}

pub(crate) async fn delete(api: &Api, delete: Delete, out: Output) -> Result<(), Error> {
    let what = delete.id.as_deref().unwrap_or("every webhook");
    if !delete.yes && std::io::stdin().is_terminal() && !confirmed(what)? {
        return Err(Error::Refused("nothing is deleted".to_owned()));
    }
    // A script that means all of them says so.
    if delete.all && !delete.yes && !std::io::stdin().is_terminal() {
        return Err(Error::Usage("--all needs --yes where nobody can be asked".to_owned()));
    }
    let answer = match &delete.id {
        Some(id) => {
            api.delete(&["api", "webhooks", id], &[]).await?;
            json!({"deleted": 1}).to_string()
        }
        None => api.delete(&["api", "webhooks"], &[("confirm", "all")]).await?,
    };
    if out.json {
        return out.line(answer);
    }
    let deleted: Value = read(&answer)?;
    out.note(format_args!("deleted: {}", deleted["deleted"]));
    Ok(())
}

fn confirmed(what: &str) -> Result<bool, Error> {
    let terminal = Term::stderr();
    terminal.write_str(&format!("Delete {what} and its history? [y/N] "))?;
    let answer = terminal.read_line()?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

pub(crate) async fn rotate(api: &Api, rotate: Rotate, out: Output) -> Result<(), Error> {
    let mut body = Map::new();
    body.extend(
        rotate.overlap_seconds.map(|overlap| ("overlap_seconds".to_owned(), overlap.into())),
    );
    let path = ["api", "webhooks", &rotate.id, "rotate-secret"];
    let webhook = print(&api.post(&path, &Value::Object(body)).await?, out)?;
    match webhook["secret"].as_str() {
        Some(secret) => remark_secret(secret, out),
        None => Ok(()),
    }
}

/// Exit code 1 if the attempt is no success.
pub(crate) async fn test(api: &Api, test: Test, out: Output) -> Result<(), Error> {
    let mut fields = Vec::new();
    fields.extend(test.event_type.map(|name| format!(r#""event_type":{}"#, Value::from(name))));
    fields.extend(test.data.map(|data| format!(r#""data":{}"#, data.0)));
    let body = format!("{{{}}}", fields.join(","));
    let answer = api.post(&["api", "webhooks", &test.id, "test"], &body).await?;
    let result: Value = read(&answer)?;
    if out.json {
        out.line(&answer)?;
    } else if out.quiet {
        out.line(text(&result["delivery_id"]))?;
    } else {
        let is_success = result["success"] == true;
        let (word, tone) = if is_success { ("success", Tone::Good) } else { ("failed", Tone::Bad) };
        out.line(out.toned(word, tone))?;
        let names = ["status_code", "duration_ms", "error", "delivery_id", "matched"];
        out.pairs(&names.map(|name| (name, text(&result[name]))))?;
    }
    // The result says it already.
    if result["success"] == true { Ok(()) } else { Err(Error::Failed(String::new())) }
}

/// Prints a webhook; returns it.
fn print(answer: &str, out: Output) -> Result<Value, Error> {
    let webhook: Value = read(answer)?;
    if out.json {
        out.line(answer)?;
    } else if out.quiet {
        out.line(text(&webhook["id"]))?;
    } else {
        let first = ["id", "url", "event_types", "description", "is_active", "disabled_reason"];
        let fields = webhook.as_object().into_iter().flatten();
        let rest = fields.map(|(name, _)| name.as_str()).filter(|name| {
            !first.contains(name) && !["secret", "statistics", "health"].contains(name)
        });
        let names = first.into_iter().chain(rest);
        let mut pairs: Vec<(&str, String)> =
            names.map(|name| (name, field_text(name, &webhook[name]))).collect();
        for group in ["health", "statistics"] {
            let fields = webhook[group].as_object().into_iter().flatten();
            pairs.extend(fields.map(|(name, value)| (name.as_str(), text(value))));
        }
        out.pairs(&pairs)?;
    }
    Ok(webhook)
}

fn field_text(name: &str, value: &Value) -> String {
    match (name, value) {
        // The values are not shown, so the names are all there is.
        ("headers", Value::Object(headers)) if !headers.is_empty() => {
            headers.keys().cloned().collect::<Vec<_>>().join(", ")
        }
        ("signing_secrets", Value::Array(secrets)) => secrets.len().to_string(),
        _ => text(value),
    }
}

/// The secret is the one thing that cannot be seen again.
fn remark_secret(secret: &str, out: Output) -> Result<(), Error> {
    if out.json || out.quiet {
        return Ok(());
    }
    out.line(format_args!("\nsecret  {secret}"))?;
    out.note("The secret is not shown again.");
    Ok(())
}

fn columns(item: &Value, names: &[&str]) -> Vec<(String, Tone)> {
    names.iter().map(|name| plain(text(&item[name]))).collect()
}

fn state(webhook: &Value) -> (String, Tone) {
    match (&webhook["is_active"], webhook["disabled_reason"].as_str()) {
        (Value::Bool(true), _) if webhook["health"]["breaker"] == "open" => {
            ("failing".to_owned(), Tone::Waiting)
        }
        (Value::Bool(true), _) => ("active".to_owned(), Tone::Good),
        (_, Some(reason)) => (reason.to_owned(), Tone::Bad),
        (_, None) => ("paused".to_owned(), Tone::Waiting),
    }
}

/// Adds the settings that were given; returns the body. A filter stays as it was written.
fn with_settings(mut body: Map<String, Value>, settings: Settings) -> Result<String, Error> {
    let mut set = |name: &str, value: Option<Value>| {
        body.extend(value.map(|value| (name.to_owned(), value)));
    };
    let text_or_none = |text: String| if text == "none" { Value::Null } else { text.into() };
    set("description", settings.description.map(text_or_none));
    set("retry_count", settings.retry_count.map(Into::into));
    set("retry_schedule", settings.retry_schedule.map(|text| schedule(&text)).transpose()?);
    set("timeout_seconds", settings.timeout_seconds.map(Into::into));
    set("rate_limit", settings.rate_limit.map(|text| rate_limit(&text)).transpose()?);
    set("while_inactive", settings.while_inactive.map(Into::into));
    set("auto_recover", settings.auto_recover.map(Into::into));
    set("signature", settings.signature.map(Into::into));
    set("keep_payload", settings.keep_payload.map(Into::into));
    let mut fields: Vec<String> = Vec::new();
    for (name, value) in &body {
        let value = to_raw_value(value).expect("a value is JSON");
        fields.push(format!("{}:{value}", Value::from(name.as_str())));
    }
    fields.extend(settings.filter.map(|filter| format!(r#""filter":{}"#, filter.0)));
    Ok(format!("{{{}}}", fields.join(",")))
}

fn schedule(text: &str) -> Result<Value, Error> {
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok(text.into());
    }
    let waits = text.split(',').map(|wait| wait.trim().parse::<u32>());
    let waits: Result<Vec<u32>, _> = waits.collect();
    waits.map(Into::into).map_err(|_| {
        Error::Usage(
            "--retry-schedule must be exponential, standard, or seconds such as 5,300,3600"
                .to_owned(),
        )
    })
}

fn rate_limit(text: &str) -> Result<Value, Error> {
    match text {
        "none" => Ok(Value::Null),
        number => number
            .parse::<u32>()
            .map(Into::into)
            .map_err(|_| Error::Usage("--rate-limit must be a whole number, or none".to_owned())),
    }
}

/// `Name: value` of each `--header`.
fn headers(given: &[String]) -> Result<Map<String, Value>, Error> {
    let split = |header: &String| {
        let (name, value) = header.split_once(':').ok_or_else(|| {
            Error::Usage(format!("--header must be `NAME: VALUE`, not `{header}`"))
        })?;
        Ok((name.trim().to_owned(), value.trim().into()))
    };
    given.iter().map(split).collect()
}

/// The headers of a webhook with some changed and some removed. Null keeps the value that is there.
fn changed_headers(
    now: &Value,
    changed: Map<String, Value>,
    removed: &[String],
) -> Result<Map<String, Value>, Error> {
    let mut headers = now.as_object().cloned().unwrap_or_default();
    for name in removed {
        let before = headers.len();
        headers.retain(|header, _| !header.eq_ignore_ascii_case(name));
        if headers.len() == before {
            return Err(Error::Usage(format!("--remove-header: there is no header {name}")));
        }
    }
    for (name, value) in changed {
        headers.retain(|header, _| !header.eq_ignore_ascii_case(&name));
        headers.insert(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedule_is_a_name_or_a_list() {
        assert_eq!(schedule("standard").unwrap(), json!("standard"));
        assert_eq!(schedule("5, 300").unwrap(), json!([5, 300]));
        assert!(schedule("5,x").unwrap_err().to_string().starts_with("--retry-schedule"));
    }

    #[test]
    fn other_headers_stay_when_one_is_changed() {
        let now = json!({"X-A": null, "X-B": null, "X-C": null});
        let changed = headers(&["x-b: new: value".to_owned()]).unwrap();
        let removed = ["x-c".to_owned()];
        let headers = changed_headers(&now, changed.clone(), &removed).unwrap();
        assert_eq!(Value::from(headers), json!({"X-A": null, "x-b": "new: value"}));
        let unknown = changed_headers(&now, changed, &["x-d".to_owned()]).unwrap_err();
        assert!(unknown.to_string().starts_with("--remove-header"));
    }
}
