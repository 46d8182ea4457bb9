//! Recoveries: ask for one and watch it, list them, cancel one.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::api::{Api, read};
use crate::args::{Recover, Recoveries};
use crate::error::Error;
use crate::output::{Output, plain, text, tone};
use crate::system;

/// How often the progress is asked for.
const INTERVAL: Duration = Duration::from_millis(500);

#[derive(Deserialize)]
struct Progress {
    id: String,
    status: String,
    matched: u64,
    sent: u64,
    succeeded: u64,
    failed: u64,
}

/// The response to a dry run.
#[derive(Deserialize)]
struct Counted {
    matched: u64,
}

impl Progress {
    /// Whether nothing changes any more: everything is sent, and each redelivery has ended.
    fn has_ended(&self) -> bool {
        self.status != "running" && self.succeeded + self.failed >= self.sent
    }
}

pub(crate) async fn recover(api: &Api, recover: Recover, out: Output) -> Result<(), Error> {
    let now = system::now();
    let mut body = Map::new();
    body.insert("since".to_owned(), recover.since.at(now).to_string().into());
    body.extend(recover.until.map(|until| ("until".to_owned(), until.at(now).to_string().into())));
    body.extend(recover.status.map(|status| ("status".to_owned(), status.into())));
    body.extend(recover.event_types.map(|types| ("event_types".to_owned(), types.into())));
    let path = ["api", "webhooks", &recover.id, "recoveries"];
    let has_bar = !(recover.dry_run || recover.no_wait || out.json || out.quiet)
        && std::io::stderr().is_terminal();
    let mut total = 0;
    if recover.dry_run || has_bar {
        let counted = body.clone().into_iter().chain([("dry_run".to_owned(), true.into())]);
        let answer = api.post(&path, &counted.collect::<Value>()).await?;
        if recover.dry_run && out.json {
            return out.line(answer);
        }
        total = read::<Counted>(&answer)?.matched;
        if recover.dry_run {
            return out.line(format_args!("{total} to redeliver"));
        }
    }
    let answer = api.post(&path, &Value::Object(body)).await?;
    let started: Progress = read(&answer)?;
    if recover.no_wait {
        return if out.json { out.line(answer) } else { out.line(&started.id) };
    }
    let bar = if has_bar { ProgressBar::new(total) } else { ProgressBar::hidden() };
    let (progress, answer) = wait(api, &recover.id, started, answer, &bar, out).await?;
    match out {
        Output { json: true, .. } => out.line(answer),
        Output { quiet: true, .. } => out.line(&progress.id),
        _ => out.line(format_args!(
            "{} {}: {} redelivered, {} succeeded, {} failed",
            progress.id, progress.status, progress.sent, progress.succeeded, progress.failed
        )),
    }
}

/// Waits with a progress bar, whose length is the number of deliveries that were counted before.
async fn wait(
    api: &Api,
    webhook: &str,
    mut progress: Progress,
    mut answer: String,
    bar: &ProgressBar,
    out: Output,
) -> Result<(Progress, String), Error> {
    let total = bar.length().unwrap_or(0);
    let style = ProgressStyle::with_template("[{bar:40}] {pos}/{len} {msg} {elapsed}");
    bar.set_style(style.expect("the template is valid").progress_chars("=> "));
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    while !progress.has_ended() {
        bar.set_length(total.max(progress.matched));
        bar.set_position(progress.succeeded + progress.failed);
        bar.set_message(format!("{} succeeded, {} failed", progress.succeeded, progress.failed));
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            _ = &mut interrupted => {
                bar.finish_and_clear();
                out.note(format_args!(
                    "{id} continues; `webhooks recoveries {webhook} --cancel {id}` cancels it",
                    id = progress.id
                ));
                break;
            }
        }
        answer = api.get(&["api", "webhooks", webhook, "recoveries", &progress.id], &[]).await?;
        progress = read(&answer)?;
    }
    bar.finish_and_clear();
    Ok((progress, answer))
}

pub(crate) async fn recoveries(
    api: &Api,
    recoveries: Recoveries,
    out: Output,
) -> Result<(), Error> {
    let Recoveries { id, cancel } = recoveries;
    if let Some(recovery) = cancel {
        api.delete(&["api", "webhooks", &id, "recoveries", &recovery], &[]).await?;
        let answer = api.get(&["api", "webhooks", &id, "recoveries", &recovery], &[]).await?;
        let shown: Value = read(&answer)?;
        return match out {
            Output { json: true, .. } => out.line(answer),
            Output { quiet: true, .. } => out.line(recovery),
            _ => out.line(format_args!(
                "{recovery} {}: {} redelivered",
                text(&shown["status"]),
                shown["sent"]
            )),
        };
    }
    let answer = api.get(&["api", "webhooks", &id, "recoveries"], &[]).await?;
    if out.json {
        return out.line(answer);
    }
    let list: Value = read(&answer)?;
    let mut items = list["items"].as_array().into_iter().flatten();
    if out.quiet {
        return items.try_for_each(|item| out.line(text(&item["id"])));
    }
    let row = |item: &Value| {
        let status = text(&item["status"]);
        let tone = tone(&status);
        let rest = ["since", "until", "matched", "sent"].map(|name| plain(text(&item[name])));
        let begun_by = if item["automatic"] == true { "service" } else { "owner" };
        let mut row = vec![plain(text(&item["id"])), (status, tone), plain(begun_by.to_owned())];
        row.extend(rest);
        row
    };
    out.line(out.table(
        &["RECOVERY", "STATUS", "BEGUN BY", "SINCE", "UNTIL", "MATCHED", "SENT"],
        items.map(row).collect(),
    ))
}
