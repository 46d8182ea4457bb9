//! One execution environment of Lambda: a process that runs a function's real bootstrap, and the
//! Runtime API that it asks for events
//! (<https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>).
//!
//! Deliberately absent: freezing between events, extensions, response streaming.

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use webhooks_aws::SystemClock;
use webhooks_core::ports::Clock as _;

use crate::lock;

/// The most bytes of a function's response (AWS quota).
const RESPONSE_BYTES: usize = 6 * 1024 * 1024;
const VERSION: &str = "2018-06-01";

/// A function as it is deployed.
#[derive(Clone, Debug)]
pub struct Program {
    /// The function's name.
    pub name: &'static str,
    /// Its bootstrap.
    pub path: PathBuf,
    /// Its variables.
    pub variables: HashMap<&'static str, String>,
    /// How long one invocation may take.
    pub timeout: Duration,
}

/// How an invocation ended without a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed {
    /// The function reported an error.
    Error(String),
    /// Its process ended by itself, or could not be started.
    Ended,
    /// We killed its process.
    Killed,
    /// It took too long, and its process was killed.
    TimedOut,
}

struct Job {
    event: Bytes,
    deadline_ms: i64,
    reply: Reply,
}

type Reply = oneshot::Sender<Result<Bytes, Failed>>;

/// A process. Dropping it kills it.
pub(crate) struct Environment {
    /// Its process id.
    pub(crate) pid: u32,
    kill: CancellationToken,
    ended: CancellationToken,
    jobs: mpsc::UnboundedSender<Job>,
}

impl Environment {
    /// Starts a process.
    pub(crate) async fn start(program: &Program) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let mut child = Command::new(&program.path)
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", listener.local_addr()?.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", program.name)
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", program.name)
            .env("AWS_LAMBDA_LOG_STREAM_NAME", program.name)
            .env("AWS_REGION", webhooks_local::queues::REGION)
            .env("AWS_ACCESS_KEY_ID", "local")
            .env("AWS_SECRET_ACCESS_KEY", "local")
            .envs(&program.variables)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().unwrap_or_default();
        let (jobs, inbox) = mpsc::unbounded_channel();
        let (kill, ended) = (CancellationToken::new(), CancellationToken::new());
        let api = Arc::new(RuntimeApi {
            function: program.name,
            inbox: tokio::sync::Mutex::new(inbox),
            current: Mutex::default(),
            requests: AtomicU64::new(0),
        });
        let serving = tokio::spawn(async move { axum::serve(listener, router(api)).await });
        let (killed, gone) = (kill.clone(), ended.clone());
        tokio::spawn(async move {
            wait_for_exit(&mut child, killed).await;
            gone.cancel();
            // With the API goes the reply that it holds.
            serving.abort();
        });
        Ok(Self { pid, kill, ended, jobs })
    }

    /// Whether the process has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Invokes it with one event.
    pub(crate) async fn invoke(&self, event: Bytes, timeout: Duration) -> Result<Bytes, Failed> {
        let (reply, response) = oneshot::channel();
        let deadline_ms = SystemClock.now().plus(timeout).millis();
        if self.jobs.send(Job { event, deadline_ms, reply }).is_err() {
            return Err(Failed::Ended);
        }
        tokio::select! {
            biased;
            Ok(result) = response => result,
            () = self.ended.cancelled() => Err(Failed::Ended),
            () = tokio::time::sleep(timeout) => {
                let _ = self.kill().await;
                Err(Failed::TimedOut)
            }
        }
    }

    /// Kills it (SIGKILL), and returns when it is dead.
    pub(crate) async fn kill(&self) -> Result<Bytes, Failed> {
        self.kill.cancel();
        self.ended.cancelled().await;
        Err(Failed::Killed)
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        self.kill.cancel();
    }
}

/// Returns when the process has ended, by itself or because it was killed (SIGKILL).
async fn wait_for_exit(child: &mut Child, kill: CancellationToken) {
    tokio::select! {
        _ = child.wait() => {}
        () = kill.cancelled() => {
            let _ = child.kill().await;
        }
    }
}

struct RuntimeApi {
    function: &'static str,
    inbox: tokio::sync::Mutex<mpsc::UnboundedReceiver<Job>>,
    current: Mutex<Option<(String, Reply)>>,
    requests: AtomicU64,
}

fn router(api: Arc<RuntimeApi>) -> Router {
    let path = |rest: &str| format!("/{VERSION}/runtime/{rest}");
    Router::new()
        .route(&path("invocation/next"), get(next))
        .route(&path("invocation/{id}/response"), post(response))
        .route(&path("invocation/{id}/error"), post(error))
        .route(&path("init/error"), post(init_error))
        .layer(axum::extract::DefaultBodyLimit::max(RESPONSE_BYTES))
        .with_state(api)
}

async fn next(State(api): State<Arc<RuntimeApi>>) -> Response {
    let Some(job) = api.inbox.lock().await.recv().await else {
        return StatusCode::GONE.into_response();
    };
    let number = api.requests.fetch_add(1, Ordering::Relaxed);
    let id = format!("00000000-0000-4000-8000-{number:012}");
    let arn = format!("arn:aws:lambda:us-east-1:000000000000:function:{}", api.function);
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("lambda-runtime-aws-request-id", id.clone()),
        ("lambda-runtime-deadline-ms", job.deadline_ms.to_string()),
        ("lambda-runtime-invoked-function-arn", arn),
        ("content-type", "application/json".to_owned()),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    *lock(&api.current) = Some((id, job.reply));
    (headers, job.event).into_response()
}

impl RuntimeApi {
    /// Ends the current invocation, if it is this one.
    fn end(&self, id: &str, how: Result<Bytes, Failed>) -> StatusCode {
        let Some((_, reply)) = lock(&self.current).take_if(|(current, _)| current == id) else {
            return StatusCode::BAD_REQUEST;
        };
        // Whoever waited may have given up.
        let _ = reply.send(how);
        StatusCode::ACCEPTED
    }
}

async fn response(
    State(api): State<Arc<RuntimeApi>>,
    Path(id): Path<String>,
    body: Bytes,
) -> StatusCode {
    api.end(&id, Ok(body))
}

async fn error(
    State(api): State<Arc<RuntimeApi>>,
    Path(id): Path<String>,
    body: Bytes,
) -> StatusCode {
    api.end(&id, Err(Failed::Error(String::from_utf8_lossy(&body).into_owned())))
}

/// The process ends after this.
async fn init_error(State(api): State<Arc<RuntimeApi>>, body: Bytes) -> StatusCode {
    let error = String::from_utf8_lossy(&body);
    tracing::error!(function = api.function, %error, "init failed");
    StatusCode::ACCEPTED
}
