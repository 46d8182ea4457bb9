//! The program itself, against a local system in this process.

#![expect(clippy::unwrap_used, reason = "what does not go as planned fails the test")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use webhooks_local::system::{Options, System, start};

const DOCUMENT: &str = include_str!("../../docs/CLI.md");
/// A secret that no webhook has.
const OTHER_SECRET: &str = "whsec_CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=";

/// A running system and the home of its user.
struct Fixture {
    system: System,
    home: TempDir,
}

impl Fixture {
    async fn start() -> Self {
        let system = start(Options::on_free_ports()).await.unwrap();
        Self { system, home: tempfile::tempdir().unwrap() }
    }

    fn api(&self) -> String {
        format!("http://{}", self.system.addresses().api)
    }

    fn receiver(&self, path: &str) -> String {
        format!("http://{}{path}", self.system.addresses().receiver)
    }

    /// The program, without the login and the settings of whoever runs the test.
    fn program(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", path_with_program())
            .env("HOME", self.home.path())
            .current_dir(self.home.path())
            .stdin(Stdio::null());
        command
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(env!("CARGO_BIN_EXE_webhooks"));
        command.args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What a command prints that must succeed.
    fn stdout(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout).trim_end().to_owned()
    }

    /// The one line of JSON of a command that must succeed.
    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.stdout(&[arguments, &["--json"]].concat())).unwrap()
    }

    fn login(&self) {
        self.stdout(&["login", &self.api()]);
    }

    fn create(&self, path: &str) -> String {
        let types = ["--event-types", "task.created", "--retry-count", "0", "--quiet"];
        self.stdout(&[&["create", "--url", &self.receiver(path)][..], &types].concat())
    }

    /// Waits until a webhook has a delivery that has ended; returns its id.
    fn ended(&self, webhook: &str, status: &str) -> String {
        for _ in 0..200 {
            let ids = self.stdout(&["deliveries", webhook, "--status", status, "--quiet"]);
            if let Some(id) = ids.lines().next() {
                return id.to_owned();
            }
        }
        panic!("no delivery of {webhook} becomes {status}");
    }
}

fn path_with_program() -> String {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_webhooks"));
    format!("{}:/usr/local/bin:/usr/bin:/bin", program.parent().unwrap().display())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn interrupt(child: &mut Child) -> Option<i32> {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    child.wait().unwrap().code()
}

/// The blocks of the document that run, as one script.
fn script(api: &str, receiver: &str) -> String {
    let blocks = DOCUMENT.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let script: String = std::iter::once("set -eu\n").chain(blocks).collect();
    let script = script.replace("webhooks login\n", &format!("webhooks login {api}\n"));
    script.replace("http://127.0.0.1:4000", receiver)
}

#[tokio::test(flavor = "multi_thread")]
async fn examples_of_the_document_run() {
    let fixture = Fixture::start().await;
    let script = script(&fixture.api(), &fixture.receiver(""));
    let output = fixture.program("sh").args(["-c", &script]).output().unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    assert!(stdout.contains("signature ✓  → 200"), "{stdout}");
    assert!(stdout.contains("reserialised_body: "), "{stdout}");
    assert!(!stdout.contains('\x1b') && !stderr.contains('\x1b'));
    assert_eq!(fixture.stdout(&["list", "--quiet"]), "", "webhooks are left");
    let received = fixture.system.receiver().received();
    assert!(
        received
            .iter()
            .any(|one| one.path == "/app" && one.event_type.as_deref() == Some("email.received"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn document_and_help_have_every_command() {
    let fixture = Fixture::start().await;
    let help = fixture.stdout(&["--help"]);
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    let (commands, _) = commands.split_once("\n\n").unwrap();
    let names: Vec<&str> =
        commands.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.len() > 20 && names.contains(&"listen"), "{names:?}");
    let script = script("API", "RECEIVER");
    for name in names.into_iter().filter(|name| *name != "help") {
        assert!(script.contains(&format!("webhooks {name}")), "{name} has no example that runs");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_the_api_has_a_flag() {
    let fixture = Fixture::start().await;
    let openapi = include_str!("../../openapi.yaml");
    for (schema, command) in [("NewWebhook", "create"), ("WebhookPatch", "update")] {
        let (_, rest) = openapi.split_once(&format!("\n    {schema}:\n")).unwrap();
        let (_, rest) = rest.split_once("\n      properties:\n").unwrap();
        let fields = rest.lines().map_while(|line| line.strip_prefix("        "));
        let fields: Vec<_> = fields
            // `pause` and `resume` set it.
            .filter(|line| !line.contains("Read-only") && !line.starts_with("is_active:"))
            .map(|line| line.split(':').next().unwrap())
            .collect();
        assert!(fields.len() > 10, "{fields:?}");
        let help = fixture.stdout(&[command, "--help"]);
        for field in fields {
            let flag = match field {
                "headers" => "--header".to_owned(),
                field => format!("--{}", field.replace('_', "-")),
            };
            assert!(help.contains(&format!("{flag} ")), "{command} has no {flag}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_tell_what_kind_of_error_it_is() {
    let fixture = Fixture::start().await;
    let code = |arguments: &[&str]| {
        let output = fixture.run(arguments);
        assert!(output.stdout.is_empty() || output.status.code() == Some(1), "{arguments:?}");
        (output.status.code().unwrap(), text(&output.stderr))
    };
    let (exit, error) = code(&["list"]);
    assert!(exit == 2 && error.contains("not logged in"), "{error}");
    fixture.login();
    let id = fixture.create("/status/500");
    let cases: [(&[&str], i32, &str); 9] = [
        (&["list", "--no-such-flag"], 2, "--no-such-flag"),
        (&["update", &id, "--retry-count", "11"], 2, "--retry-count"),
        (&["update", &id, "--header", "host: x"], 2, "--header"),
        (&["publish", "task.eaten", "--data", "{}"], 2, "TYPE"),
        (&["publish", "task.created", "--data", "[]"], 2, "--data"),
        (&["show", "wh_1"], 3, "404"),
        (&["show-delivery", "dlv_1"], 3, "dlv_1"),
        (&["list", "--token", "x"], 4, "401"),
        (&["list", "--api-url", "http://127.0.0.1:1"], 5, "http://127.0.0.1:1"),
    ];
    for (arguments, expected, word) in cases {
        let (exit, error) = code(arguments);
        assert!(exit == expected && error.contains(word), "{arguments:?}: {exit} {error}");
    }
    assert_eq!(code(&["test", &id]).0, 1);
    fixture.stdout(&["pause", &id]);
    assert_eq!(code(&["recover", &id, "--since", "1h"]).0, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn json_of_every_list_is_that_of_the_api() {
    let fixture = Fixture::start().await;
    fixture.login();
    let id = fixture.create("/status/500");
    assert_eq!(fixture.json(&["list"])["items"][0]["id"], id.as_str());
    assert_eq!(fixture.json(&["show", &id])["retry_count"], 0);
    let published = fixture.json(&["trigger", "task.created"]);
    let delivery = fixture.ended(&id, "failed");
    let shown = fixture.json(&["show-delivery", &delivery]);
    assert_eq!(shown["event_id"], published["event_id"]);
    assert_eq!(shown["attempts"][0]["response_status"], 500);
    fixture.create("/");
    let event = published["event_id"].as_str().unwrap();
    for list in [
        &["deliveries"][..],
        &["deliveries", &id, "--failed"],
        &["deliveries", "--event-id", event, "--failed"],
    ] {
        assert_eq!(fixture.json(list)["items"][0]["id"], delivery.as_str(), "{list:?}");
    }
    fixture.stdout(&["update", &id, "--url", &fixture.receiver("/")]);
    assert_eq!(fixture.json(&["recover", &id, "--since", "1h", "--dry-run"])["matched"], 1);
    let recovery = fixture.json(&["recover", &id, "--since", "1h"]);
    assert_eq!((&recovery["status"], &recovery["succeeded"]), (&"done".into(), &1.into()));
    assert_eq!(fixture.json(&["recoveries", &id])["items"][0]["id"], recovery["id"]);
    assert!(fixture.json(&["stats", &id])["items"].is_array());
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_pipe_ends_quietly_and_colours_are_for_terminals() {
    let fixture = Fixture::start().await;
    fixture.login();
    let script =
        "webhooks event-types | true; webhooks completions zsh | true; webhooks event-types";
    let output = fixture.program("bash").args(["-o", "pipefail", "-ec", script]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    assert!(!text(&output.stdout).contains('\x1b'));
}

#[tokio::test(flavor = "multi_thread")]
async fn followed_deliveries_are_printed_as_they_happen() {
    let fixture = Fixture::start().await;
    fixture.login();
    let id = fixture.create("/");
    let mut child = fixture
        .command(&["deliveries", &id, "--follow", "-q"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    fixture.stdout(&["trigger", "task.created"]);
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("dlv_"), "{line}");
    assert_eq!(interrupt(&mut child), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn listener_deletes_its_webhook_when_it_is_interrupted() {
    let fixture = Fixture::start().await;
    fixture.login();
    let mut child = fixture.command(&["listen"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("listening as webhook wh_"), "{line}");
    assert_ne!(fixture.stdout(&["list", "-q"]), "");
    assert_eq!(interrupt(&mut child), Some(0));
    assert_eq!(fixture.stdout(&["list", "-q"]), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_forwarded_with_a_valid_signature() {
    let fixture = Fixture::start().await;
    fixture.login();
    let id = fixture.create("/");
    let target = fixture.receiver("/from-history");
    let arguments = ["listen", "--from-history", &id, "--secret", OTHER_SECRET, "--count", "1"];
    let arguments = [&arguments[..], &["--forward-to", &target, "--json"]].concat();
    let mut child = fixture.command(&arguments).stdout(Stdio::piped()).spawn().unwrap();
    // A delivery is forwarded if it is new to the listener, which may start later than the first.
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || {
        stdout.read_line(&mut line).unwrap();
        line
    });
    while !reader.is_finished() {
        fixture.stdout(&["trigger", "task.created"]);
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    assert!(child.wait().unwrap().success());
    let line = reader.join().unwrap();
    let forwarded: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(forwarded["forward_status"], 200);
    let received = fixture.system.receiver().received();
    let received = received.iter().find(|one| one.path == "/from-history").unwrap();
    let saved = fixture.home.path().join("request.json");
    fs::write(&saved, serde_json::to_vec(received).unwrap()).unwrap();
    let verify =
        |secret: &str| fixture.run(&["verify", saved.to_str().unwrap(), "--secret", secret]);
    assert_eq!(text(&verify(OTHER_SECRET).stdout).lines().next(), Some("valid"));
    let wrong = verify("whsec_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=");
    assert_eq!(wrong.status.code(), Some(1));
    assert!(text(&wrong.stdout).contains("wrong_secret"));
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn login_is_saved_for_its_user_only_and_holds_no_local_token() {
    use std::os::unix::fs::PermissionsExt as _;
    let fixture = Fixture::start().await;
    fixture.login();
    let file = fixture.home.path().join(".config/webhooks/login.json");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!fs::read_to_string(&file).unwrap().contains("token"));
}
