//! Deliveries: list, watch, show, redeliver.

use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use terminal::Term;

use crate::api::{Api, Page, read};
use crate::args::{Deliveries, OneDelivery};
use crate::error::Error;
use crate::output::{Output, Tone, plain, printable, text, tone};
use crate::system;

/// How often a list is asked for while it is watched.
const INTERVAL: Duration = Duration::from_secs(2);
/// Lines that are left for the header, the prompt, and a line that wraps.
const OTHER_LINES: u16 = 4;
/// More than a user can have.
const WEBHOOKS: usize = 1_000;

const HEADERS: [&str; 8] =
    ["TIME", "DELIVERY", "EVENT TYPE", "STATUS", "ATTEMPTS", "RESPONSE", "MS", "ERROR"];

/// What the table shows of a delivery.
#[derive(Deserialize)]
struct Row {
    id: String,
    event_type: String,
    status: String,
    trigger: String,
    attempt_count: u32,
    response_status: Option<u16>,
    duration_ms: Option<u64>,
    error: Option<String>,
    created_at: String,
    updated_at: String,
}

pub(crate) async fn list(api: &Api, list: &Deliveries, out: Output) -> Result<(), Error> {
    let page = page(api, list).await?;
    if out.json {
        return out.line(json!({"items": page.items, "next_cursor": page.next_cursor}));
    }
    let rows = rows(&page)?;
    if out.quiet {
        return rows.iter().try_for_each(|row| out.line(&row.id));
    }
    out.line(table(&rows, out))
}

/// Draws the list again and again on a terminal; elsewhere prints each delivery that is new or has
/// changed.
pub(crate) async fn follow(api: &Api, list: &Deliveries, out: Output) -> Result<(), Error> {
    let mut seen: HashMap<String, String> = HashMap::new();
    let mut drawn = 0;
    let mut is_first = true;
    loop {
        let page = page(api, list).await?;
        let rows = rows(&page)?;
        if out.redraws() {
            drawn = redraw(&rows, drawn, out)?;
        } else {
            for (row, item) in rows.iter().zip(&page.items).rev() {
                let is_new = seen.insert(row.id.clone(), row.updated_at.clone()).as_ref()
                    != Some(&row.updated_at);
                if is_new {
                    print_one(row, item, is_first, out)?;
                    is_first = false;
                }
            }
            // What the list has no longer does not come back.
            seen.retain(|id, _| rows.iter().any(|row| row.id == *id));
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            result = tokio::signal::ctrl_c() => return result.map_err(|error| Error::Failed(error.to_string())),
        }
    }
}

fn print_one(row: &Row, item: &RawValue, with_headers: bool, out: Output) -> Result<(), Error> {
    if out.json {
        return out.line(item);
    }
    if out.quiet {
        return out.line(&row.id);
    }
    let table = table(std::slice::from_ref(row), out);
    let line =
        if with_headers { &table } else { table.split_once('\n').map_or("", |(_, line)| line) };
    out.line(line)
}

/// Replaces the lines that were drawn before; returns how many there are then.
fn redraw(rows: &[Row], drawn: usize, out: Output) -> Result<usize, Error> {
    let terminal = Term::stdout();
    let (height, width) = terminal.size();
    let most = usize::from(height.saturating_sub(OTHER_LINES)).max(1);
    let shown = &rows[..rows.len().min(most)];
    let text = table(shown, out);
    let time = system::now().to_string();
    // A line that wraps would take two.
    let lines = text.lines().map(|line| terminal::truncate_str(line, width.into(), "…"));
    let lines: Vec<_> = lines.collect();
    terminal.clear_last_lines(drawn)?;
    for line in &lines {
        out.line(line)?;
    }
    out.line(format_args!("{}  Ctrl-C ends", &time[11..19]))?;
    Ok(lines.len() + 1)
}

fn table(rows: &[Row], out: Output) -> String {
    let row = |row: &Row| {
        let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |n| n.to_string());
        let event_type = match row.trigger.as_str() {
            "event" => row.event_type.clone(),
            trigger => format!("{} ({trigger})", row.event_type),
        };
        vec![
            plain(row.created_at.get(..19).unwrap_or(&row.created_at).replace('T', " ")),
            plain(&row.id),
            plain(event_type),
            (row.status.clone(), tone(&row.status)),
            plain(row.attempt_count.to_string()),
            plain(number(row.response_status.map(Into::into))),
            plain(number(row.duration_ms)),
            plain(row.error.as_deref().unwrap_or("-")),
        ]
    };
    out.table(&HEADERS, rows.iter().map(row).collect())
}

fn rows(page: &Page) -> Result<Vec<Row>, Error> {
    page.items.iter().map(|item| read(item.get())).collect()
}

/// The newest deliveries of one webhook, or of all.
async fn page(api: &Api, list: &Deliveries) -> Result<Page, Error> {
    let now = system::now();
    let time = |moment: crate::input::Moment| moment.at(now).to_string();
    let (since, until) = (list.since.map(time), list.until.map(time));
    let status = if list.failed { Some("failed") } else { list.status.as_deref() };
    let filters = [
        ("event_id", list.event_id.as_deref()),
        ("status", status),
        ("event_type", list.event_type.as_deref()),
        ("since", since.as_deref()),
        ("until", until.as_deref()),
    ];
    let query: Vec<(&str, &str)> =
        filters.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let limit = usize::try_from(list.limit).unwrap_or(usize::MAX);
    newest(api, list.id.as_deref(), &query, limit).await
}

/// The newest deliveries of one webhook, or of all.
pub(crate) async fn newest(
    api: &Api,
    webhook: Option<&str>,
    query: &[(&str, &str)],
    limit: usize,
) -> Result<Page, Error> {
    let of_webhook = webhook.map(|id| ("webhook_id", id));
    let query: Vec<_> = query.iter().copied().chain(of_webhook).collect();
    api.list(&["api", "deliveries"], &query, limit).await
}

async fn webhook_ids(api: &Api) -> Result<Vec<String>, Error> {
    let webhooks = api.list(&["api", "webhooks"], &[], WEBHOOKS).await?;
    let ids = webhooks.items.iter().map(|item| Ok(text(&read::<Value>(item.get())?["id"])));
    ids.collect()
}

pub(crate) async fn show(api: &Api, delivery: &OneDelivery, out: Output) -> Result<(), Error> {
    let (_, answer) = find(api, delivery).await?;
    if out.json {
        return out.line(answer);
    }
    let shown: Value = read(&answer)?;
    if out.quiet {
        return out.line(text(&shown["id"]));
    }
    print(&shown, &answer, out)
}

pub(crate) async fn redeliver(api: &Api, delivery: &OneDelivery, out: Output) -> Result<(), Error> {
    let webhook = match &delivery.webhook {
        Some(webhook) => webhook.clone(),
        None => find(api, delivery).await?.0,
    };
    let path = ["api", "webhooks", &webhook, "deliveries", &delivery.id, "redeliver"];
    let answer = api.post(&path, &"{}").await?;
    if out.json {
        return out.line(answer);
    }
    let new: Value = read(&answer)?;
    out.line(text(&new["id"]))?;
    out.note(format_args!(
        "`webhooks show-delivery {}` shows what becomes of it",
        text(&new["id"])
    ));
    Ok(())
}

/// A delivery and the id of its webhook.
async fn find(api: &Api, delivery: &OneDelivery) -> Result<(String, String), Error> {
    let webhooks = match &delivery.webhook {
        Some(webhook) => vec![webhook.clone()],
        None => webhook_ids(api).await?,
    };
    for webhook in webhooks {
        match api.get(&["api", "webhooks", &webhook, "deliveries", &delivery.id], &[]).await {
            Err(Error::NotFound(_)) => {}
            result => return Ok((webhook, result?)),
        }
    }
    Err(Error::NotFound(format!("there is no delivery {}", delivery.id)))
}

fn print(shown: &Value, answer: &str, out: Output) -> Result<(), Error> {
    #[derive(Deserialize)]
    struct WithPayload {
        payload: Option<Box<RawValue>>,
    }
    let names = [
        "id",
        "webhook_id",
        "event_id",
        "event_type",
        "trigger",
        "redelivery_of",
        "created_at",
        "updated_at",
        "next_retry_at",
    ];
    let status = text(&shown["status"]);
    out.line(out.toned(&printable(&status), tone(&status)))?;
    out.pairs(&names.map(|name| (name, text(&shown[name]))))?;
    for attempt in shown["attempts"].as_array().into_iter().flatten() {
        let response = match &attempt["response_status"] {
            Value::Null => "no response".to_owned(),
            status => format!("HTTP {status}"),
        };
        let tone = if attempt["failure"].is_null() { Tone::Good } else { Tone::Bad };
        out.line(format_args!(
            "\nattempt {}  {}  {}  {} ms",
            attempt["number"],
            printable(&text(&attempt["started_at"])),
            out.toned(&response, tone),
            attempt["duration_ms"],
        ))?;
        for name in ["failure", "error", "advice", "response_excerpt"] {
            let value = attempt[name].as_str().unwrap_or_default();
            if !value.is_empty() {
                out.line(format_args!("  {name}  {}", printable(value)))?;
            }
        }
    }
    let payload = read::<WithPayload>(answer)?.payload;
    let payload = payload.as_deref().map_or("not kept", RawValue::get);
    out.line(format_args!("\npayload\n{payload}"))
}
