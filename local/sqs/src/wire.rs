//! The JSON protocol of SQS over HTTP: a `POST` whose `x-amz-target` names the operation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{Request, Response, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::errors::{Code, SqsError};
use crate::ops;
use crate::state::make_id;
use crate::{ACCOUNT, Sqs};

/// The largest request body: a full batch with each character escaped as `\uXXXX`, and some room.
const MAX_REQUEST_BYTES: usize = 8 * 1_048_576;
const TARGET_PREFIX: &str = "AmazonSQS.";
const CONTENT_TYPE: &str = "application/x-amz-json-1.0";

/// The HTTP interface of an engine. The caller binds the port.
///
/// A long poll keeps its connection busy for up to 20 seconds, so a caller that stops immediately
/// drops the server instead of waiting for a graceful shutdown.
pub fn router(sqs: Arc<Sqs>) -> Router {
    Router::new().fallback(serve).with_state(sqs)
}

pub(crate) async fn serve(State(sqs): State<Arc<Sqs>>, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let Some(target) = parts.headers.get("x-amz-target") else {
        return refuse_query_protocol();
    };
    let target = String::from_utf8_lossy(target.as_bytes());
    let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    match to_bytes(body, MAX_REQUEST_BYTES).await {
        Ok(body) => respond(call(&sqs, &target, host.unwrap_or("localhost"), &body).await),
        Err(_) => respond(Reply::of_error(&SqsError::new(
            Code::RequestEntityTooLarge,
            format!("The request is longer than {MAX_REQUEST_BYTES} bytes or was cut off."),
        ))),
    }
}

/// The response to a request.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The value of the header `x-amzn-query-error`, which an error has.
    pub query_error: Option<String>,
    /// The body, in JSON.
    pub body: String,
}

/// Runs the request of a client in this process: the value of its header `x-amz-target`, its host and
/// its body.
pub async fn call(sqs: &Sqs, target: &str, host: &str, body: &[u8]) -> Reply {
    let base = format!("http://{host}/{ACCOUNT}");
    match dispatch(sqs, target, &base, body).await {
        Ok(result) => Reply { status: 200, query_error: None, body: result.to_string() },
        Err(error) => Reply::of_error(&error),
    }
}

impl Reply {
    fn of_error(error: &SqsError) -> Self {
        if !error.code.is_sender_fault() {
            tracing::error!(error = %error, "request failed");
        }
        let fault = if error.code.is_sender_fault() { "Sender" } else { "Receiver" };
        Self {
            status: error.code.status(),
            query_error: Some(format!("{};{fault}", error.code.query_code())),
            body: json!({"__type": error.code.shape(), "message": error.message}).to_string(),
        }
    }
}

fn respond(reply: Reply) -> Response<Body> {
    let mut response = Response::builder()
        .status(reply.status)
        .header(header::CONTENT_TYPE, CONTENT_TYPE)
        .header("x-amzn-requestid", request_id());
    if let Some(query_error) = reply.query_error {
        response = response.header("x-amzn-query-error", query_error);
    }
    response.body(Body::from(reply.body)).unwrap_or_default()
}

/// Clients show it in their errors; nothing is stored under it.
fn request_id() -> String {
    static LAST: AtomicU64 = AtomicU64::new(0);
    make_id(&[0; 16], LAST.fetch_add(1, Ordering::Relaxed))
}

/// Refuses a client of the query protocol in XML, so that it can show the error.
fn refuse_query_protocol() -> Response<Body> {
    let body = "<ErrorResponse><Error><Type>Sender</Type><Code>UnsupportedProtocol</Code>\
                <Message>This local SQS speaks the JSON protocol only (x-amz-target: \
                AmazonSQS.OPERATION). Use an AWS SDK or CLI from 2024 or later.</Message></Error>\
                </ErrorResponse>";
    Response::builder()
        .status(StatusCode::BAD_REQUEST)
        .header(header::CONTENT_TYPE, "text/xml")
        .body(Body::from(body))
        .unwrap_or_default()
}

/// Runs one operation and returns the JSON of its response.
pub(crate) async fn dispatch(
    sqs: &Sqs,
    target: &str,
    base: &str,
    body: &[u8],
) -> Result<Value, SqsError> {
    match target.strip_prefix(TARGET_PREFIX).unwrap_or_default() {
        "CancelMessageMoveTask" => ops::cancel_message_move_task(sqs, parse(body)?),
        "ChangeMessageVisibility" => ops::change_message_visibility(sqs, parse(body)?),
        "ChangeMessageVisibilityBatch" => ops::change_message_visibility_batch(sqs, parse(body)?),
        "CreateQueue" => ops::create_queue_request(sqs, base, parse(body)?),
        "DeleteMessage" => ops::delete_message(sqs, parse(body)?),
        "DeleteMessageBatch" => ops::delete_message_batch(sqs, parse(body)?),
        "DeleteQueue" => ops::delete_queue(sqs, parse(body)?),
        "GetQueueAttributes" => ops::get_queue_attributes(sqs, parse(body)?),
        "GetQueueUrl" => ops::get_queue_url(sqs, base, parse(body)?),
        "ListMessageMoveTasks" => ops::list_message_move_tasks(sqs, parse(body)?),
        "ListQueueTags" => ops::list_queue_tags(sqs, parse(body)?),
        "ListQueues" => ops::list_queues(sqs, base, parse(body)?),
        "PurgeQueue" => ops::purge_queue(sqs, parse(body)?),
        "ReceiveMessage" => ops::receive_message(sqs, parse(body)?).await,
        "SendMessage" => ops::send_message(sqs, parse(body)?),
        "SendMessageBatch" => ops::send_message_batch(sqs, parse(body)?),
        "SetQueueAttributes" => ops::set_queue_attributes(sqs, parse(body)?),
        "StartMessageMoveTask" => ops::start_message_move_task(sqs, parse(body)?),
        "TagQueue" => ops::tag_queue(sqs, parse(body)?),
        "UntagQueue" => ops::untag_queue(sqs, parse(body)?),
        _ => Err(SqsError::new(
            Code::UnknownOperation,
            format!("This local SQS does not know the operation {target:?}."),
        )),
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, SqsError> {
    // A request without parameters may come without a body.
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body)
        .map_err(|error| SqsError::new(Code::Serialization, error.to_string()))
}
