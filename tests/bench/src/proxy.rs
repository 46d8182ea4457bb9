//! A proxy between an SDK client and a service, which adds up what AWS would bill.
//!
//! It has each DynamoDB request ask what it costs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ::chaos::relay::{self, Between, Call, Reaction, Service, Upstream};
use serde_json::{Value, json};

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
    /// Requests whose response was an error, or did not say what they cost.
    pub(crate) unknown: usize,
}

/// A bill that grows.
pub(crate) type Meter = Arc<Mutex<Bill>>;

struct Metered(Meter);

/// Starts one in front of this endpoint, and says where it listens.
pub(crate) async fn start(upstream: SocketAddr, meter: Meter) -> std::io::Result<SocketAddr> {
    relay::serve(upstream, Arc::new(Metered(meter))).await
}

impl Between for Metered {
    async fn call(&self, mut call: Call, upstream: &Upstream) -> Reaction {
        if call.service == Service::DynamoDb
            && let Ok(mut request) = serde_json::from_slice::<Value>(&call.body)
        {
            request["ReturnConsumedCapacity"] = json!("INDEXES");
            call.body = request.to_string().into();
        }
        let (service, operation, sent) = (call.service, call.operation.clone(), call.body.len());
        let Some(response) = upstream.pass(call).await else { return Reaction::Reset };
        let mut bill = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match service {
            _ if !response.status().is_success() => bill.unknown += 1,
            Service::Sqs => bill.add_request(&operation, sent, response.body()),
            Service::DynamoDb => bill.add_units(&operation, response.body()),
        }
        Reaction::Response(response)
    }
}

/// Whether the operation is billed in read units.
pub(crate) fn is_read(operation: &str) -> bool {
    READS.contains(&operation)
}

impl Bill {
    /// Bodies are a little longer than the payload in them, so that this is never too low. A
    /// receive that found nothing is the poller's, not the event's.
    fn add_request(&mut self, operation: &str, sent: usize, response: &[u8]) {
        let value: Value = serde_json::from_slice(response).unwrap_or_default();
        if operation != "ReceiveMessage" || value["Messages"][0].is_object() {
            let chunks = sent.max(response.len()).div_ceil(CHUNK_BYTES);
            *self.sqs.entry(operation.to_owned()).or_default() += chunks;
        }
    }

    /// The units of each table, and apart from them those of its indexes.
    fn add_units(&mut self, operation: &str, response: &[u8]) {
        let response: Value = serde_json::from_slice(response).unwrap_or_default();
        let consumed = &response["ConsumedCapacity"];
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
    fn index_units_are_separate_and_missing_units_are_unknown() {
        let mut bill = Bill::default();
        let consumed = json!({"TableName": "t", "CapacityUnits": 3.0,
            "GlobalSecondaryIndexes": {"due": {"CapacityUnits": 2.0}}});
        for consumed in [consumed.clone(), json!([consumed]), Value::Null] {
            let response = json!({"ConsumedCapacity": consumed}).to_string();
            bill.add_units("PutItem", response.as_bytes());
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
