mod verify;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;

struct App {
    secret: String,
    done: Mutex<HashSet<String>>, // In production: a table with webhook-id as its key.
}

async fn webhook(State(app): State<Arc<App>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    let signatures = header("webhook-signature");
    if !verify::verify_standard(&app.secret, id, timestamp, signatures, &body, now) {
        return StatusCode::UNAUTHORIZED;
    }
    if app.done.lock().unwrap().insert(id.to_owned()) {
        let event: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        println!("{} {}", event["event_type"], event["data"]); // In production: put it on a queue.
    }
    StatusCode::NO_CONTENT
}

#[tokio::main]
async fn main() {
    let secret = std::env::var("WEBHOOK_SECRET").expect("WEBHOOK_SECRET is the webhook's secret");
    let app = Arc::new(App { secret, done: Mutex::default() });
    let router = Router::new()
        .route("/webhook", post(webhook))
        .layer(DefaultBodyLimit::max(2 * 1024 * 1024))
        .with_state(app);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await.expect("port 8080 is free");
    axum::serve(listener, router).await.expect("the listener accepts connections");
}
