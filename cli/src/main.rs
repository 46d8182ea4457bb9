//! `webhooks`, the command line of the service.
//!
//! * A [`session::Session`] is a service and the right to use it: the URL of the API and a token.
//! * Each module of [`commands`] has the commands of one subject.
//! * [`output::Output`] prints, and [`error::Error`] says why a command failed and with which exit code.
//!
//! The program knows the service by its contract only: the API (`openapi.yaml`), the events queue
//! (`asyncapi.yaml`) and the signature of a delivery. Event types come from the API, so that one program
//! serves services with different catalogues.

mod api;
mod args;
mod commands;
mod diagnosis;
mod error;
mod input;
mod output;
mod saved_request;
mod session;
mod system;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use args::{Cli, Command};
use commands::{deliveries, listen, publish, recoveries, stats, verify, webhooks};
use error::Error;
use output::Output;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let out = Output::new(&cli.global);
    match run(cli, out).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The result was printed already, or nobody reads any more.
            let is_silent = matches!(&error, Error::OutputClosed) || error.to_string().is_empty();
            if !is_silent {
                let _ = writeln!(std::io::stderr().lock(), "error: {error}");
            }
            error.exit_code()
        }
    }
}

async fn run(cli: Cli, out: Output) -> Result<(), Error> {
    let Cli { global, command } = cli;
    let command = match command {
        Command::Login(login) => {
            return session::login(&global, login.service, login.queue_url, out).await;
        }
        Command::Verify(verify) => return verify::verify(verify, out),
        Command::Completions { shell } => {
            let mut completions = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "webhooks", &mut completions);
            return Ok(std::io::stdout().lock().write_all(&completions)?);
        }
        command => command,
    };
    let session = session::connect(&global).await?;
    let api = &session.api;
    match command {
        Command::EventTypes => webhooks::event_types(api, out).await,
        Command::Create(create) => webhooks::create(api, create, out).await,
        Command::List => webhooks::list(api, out).await,
        Command::Show(webhook) => webhooks::show(api, &webhook.id, out).await,
        Command::Update(update) => webhooks::update(api, update, out).await,
        Command::Pause(webhook) => webhooks::set_active(api, &webhook.id, false, out).await,
        Command::Resume(webhook) => webhooks::set_active(api, &webhook.id, true, out).await,
        Command::Delete(delete) => webhooks::delete(api, delete, out).await,
        Command::Rotate(rotate) => webhooks::rotate(api, rotate, out).await,
        Command::Test(test) => webhooks::test(api, test, out).await,
        Command::Deliveries(list) if list.follow => deliveries::follow(api, &list, out).await,
        Command::Deliveries(list) => deliveries::list(api, &list, out).await,
        Command::ShowDelivery(delivery) => deliveries::show(api, &delivery, out).await,
        Command::Redeliver(delivery) => deliveries::redeliver(api, &delivery, out).await,
        Command::Recover(recover) => recoveries::recover(api, recover, out).await,
        Command::Recoveries(recoveries) => recoveries::recoveries(api, recoveries, out).await,
        Command::Stats(stats) => stats::stats(api, stats, out).await,
        Command::Publish(publish) => publish::publish(&session, publish, out).await,
        Command::Trigger(trigger) => publish::trigger(&session, trigger, out).await,
        Command::Listen(listen) => listen::listen(api, listen, out).await,
        Command::Login(_) | Command::Verify(_) | Command::Completions { .. } => {
            unreachable!("these were handled above, because they need no login")
        }
    }
}
