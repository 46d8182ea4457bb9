//! A proxy between an SDK client and a service, which adds up what AWS would bill.
//!
//! It has each DynamoDB request ask what it costs. The requests' signatures do not cover that, but
//! no local endpoint looks at them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::Response;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use crate::receiver::serve;

/// More than any body of either service.
const BODY_BYTES: usize = 32 * 1024 * 1024;
/// SQS bills each 64 KiB of a request's payload as a request.
const CHUNK_BYTES: usize = 64 * 1024;
const READS: [&str; 5] = ["GetItem", "BatchGetItem", "TransactGetItems", "Query", "Scan"];

/// What was billed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bill {
    /// SQS requests by operation.
    pub(crate) sqs: BTreeMap<String, usize>,
    /// DynamoDB units by the table (and index) and the operation.
    pub(crate) units: BTreeMap<(String, String), f64>,
    /// Requests that were answered with an error, or did not say what they cost.
    pub(crate) unknown: usize,
}

/// A bill that grows.
pub(crate) type Meter = Arc<Mutex<Bill>>;

struct Proxy {
    upstream: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
    meter: Meter,
}

/// Starts one in front of this endpoint, and says where it listens.
pub(crate) async fn start(upstream: SocketAddr, meter: Meter) -> std::io::Result<SocketAddr> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let proxy = Arc::new(Proxy { upstream, client, meter });
    serve(Router::new().fallback(pass).with_state(proxy)).await
}

async fn pass(State(proxy): State<Arc<Proxy>>, request: Request) -> Result<Response, StatusCode> {
    proxy.pass(request).await.ok_or(StatusCode::BAD_GATEWAY)
}

impl Proxy {
    async fn pass(&self, request: Request) -> Option<Response> {
        let (mut head, body) = request.into_parts();
        let target = head.headers.get("x-amz-target")?.to_str().ok()?.to_owned();
        let (service, operation) = target.split_once('.')?;
        let mut body = to_bytes(body, BODY_BYTES).await.ok()?;
        if service != "AmazonSQS" {
            let mut request: Value = serde_json::from_slice(&body).ok()?;
            request["ReturnConsumedCapacity"] = json!("INDEXES");
            body = Bytes::from(request.to_string());
        }
        let sent = body.len();
        head.uri = Uri::try_from(format!("http://{}{}", self.upstream, head.uri.path())).ok()?;
        head.headers.remove(header::CONTENT_LENGTH);
        let request = Request::from_parts(head, Full::new(body));
        let (head, answer) = self.client.request(request).await.ok()?.into_parts();
        let answer = to_bytes(Body::new(answer), BODY_BYTES).await.ok()?;
        let mut bill = self.meter.lock().unwrap_or_else(PoisonError::into_inner);
        if !head.status.is_success() {
            bill.unknown += 1;
        } else if service == "AmazonSQS" {
            bill.add_request(operation, sent, &answer);
        } else {
            bill.add_units(operation, &answer);
        }
        drop(bill);
        Some(Response::from_parts(head, Body::from(answer)))
    }
}

/// Whether the operation is billed in read units.
pub(crate) fn is_read(operation: &str) -> bool {
    READS.contains(&operation)
}

impl Bill {
    /// Bodies are a little longer than the payload in them, so that this is never too low. A
    /// receive that found nothing is the poller's, not the event's.
    fn add_request(&mut self, operation: &str, sent: usize, answer: &[u8]) {
        let value: Value = serde_json::from_slice(answer).unwrap_or_default();
        if operation != "ReceiveMessage" || value["Messages"][0].is_object() {
            let chunks = sent.max(answer.len()).div_ceil(CHUNK_BYTES);
            *self.sqs.entry(operation.to_owned()).or_default() += chunks;
        }
    }

    /// The units of each table, and apart from them those of its indexes.
    fn add_units(&mut self, operation: &str, answer: &[u8]) {
        let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
        let consumed = &answer["ConsumedCapacity"];
        let tables = consumed.as_array().map_or(std::slice::from_ref(consumed), Vec::as_slice);
        for consumed in tables {
            let (Some(table), Some(mut own)) = (consumed["TableName"].as_str(), units(consumed))
            else {
                self.unknown += 1;
                continue;
            };
            let indexes = consumed["GlobalSecondaryIndexes"].as_object().into_iter().flatten();
            for (index, of_index) in indexes {
                let spent = units(of_index).unwrap_or_default();
                own -= spent;
                self.add(format!("{table}, index {index}"), operation, spent);
            }
            self.add(table.to_owned(), operation, own);
        }
    }

    fn add(&mut self, what: String, operation: &str, units: f64) {
        *self.units.entry((what, operation.to_owned())).or_default() += units;
    }
}

fn units(consumed: &Value) -> Option<f64> {
    consumed["CapacityUnits"].as_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_indexes_are_told_apart_and_what_tells_no_units_is_unknown() {
        let mut bill = Bill::default();
        let consumed = json!({"TableName": "t", "CapacityUnits": 3.0,
            "GlobalSecondaryIndexes": {"due": {"CapacityUnits": 2.0}}});
        for consumed in [consumed.clone(), json!([consumed]), Value::Null] {
            let answer = json!({"ConsumedCapacity": consumed}).to_string();
            bill.add_units("PutItem", answer.as_bytes());
        }
        let units: Vec<_> = bill.units.iter().map(|((what, _), units)| (&**what, *units)).collect();
        assert_eq!((units, bill.unknown), (vec![("t", 2.0), ("t, index due", 4.0)], 1));
    }

    #[test]
    fn each_64_kib_is_a_request_and_an_empty_receive_is_none() {
        let mut bill = Bill::default();
        bill.add_request("SendMessageBatch", CHUNK_BYTES + 1, b"{}");
        bill.add_request("ReceiveMessage", 2, b"{}");
        bill.add_request("ReceiveMessage", 2, br#"{"Messages":[{}]}"#);
        assert_eq!((bill.sqs["SendMessageBatch"], bill.sqs["ReceiveMessage"]), (2, 1));
    }
}
