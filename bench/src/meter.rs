//! What AWS would bill for requests, added up.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

/// SQS bills each 64 KiB of a request's payload as a request.
const CHUNK_BYTES: usize = 64 * 1024;
/// What reads.
const READS: [&str; 5] = ["GetItem", "BatchGetItem", "TransactGetItems", "Query", "Scan"];
/// What writes.
const WRITES: [&str; 5] =
    ["PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems"];

/// Adds up what passes a [`crate::proxy`].
#[derive(Debug, Default)]
pub(crate) struct Meter(Mutex<Bill>);

/// What was billed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bill {
    /// SQS requests by operation.
    pub(crate) sqs: BTreeMap<String, usize>,
    /// DynamoDB units by what they were spent on.
    pub(crate) dynamodb: BTreeMap<Spent, f64>,
    /// Requests that were answered with an error: what they cost is not known.
    pub(crate) refused: usize,
}

/// What DynamoDB units were spent on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Spent {
    /// Read units, else write units.
    pub(crate) reads: bool,
    pub(crate) table: String,
    pub(crate) index: Option<String>,
    pub(crate) operation: String,
}

/// Whether DynamoDB tells what this operation costs.
pub(crate) fn is_told(operation: &str) -> bool {
    READS.contains(&operation) || WRITES.contains(&operation)
}

impl Meter {
    /// The bill so far.
    pub(crate) fn bill(&self) -> Bill {
        self.lock().clone()
    }

    /// Counts a request to SQS. The bodies are a little longer than the payload in them, so that the
    /// count is never too low. A receive that found nothing is the poller's, not the event's.
    pub(crate) fn sqs(&self, operation: &str, request: &[u8], ok: bool, answer: &[u8]) {
        if operation == "ReceiveMessage" && is_empty(answer) {
            return;
        }
        let chunks = request.len().max(answer.len()).div_ceil(CHUNK_BYTES);
        let mut bill = self.lock();
        *bill.sqs.entry(operation.to_owned()).or_default() += chunks;
        bill.refused += usize::from(!ok);
    }

    /// Counts a request to DynamoDB by what it says that it consumed.
    pub(crate) fn dynamodb(&self, operation: &str, ok: bool, answer: &[u8]) {
        let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
        let consumed = match &answer["ConsumedCapacity"] {
            Value::Array(tables) => tables.as_slice(),
            Value::Null => &[],
            table => std::slice::from_ref(table),
        };
        let mut bill = self.lock();
        // What does not say what it costs counts as refused, or it would seem to be free.
        bill.refused += usize::from(!ok || consumed.is_empty());
        for table in consumed {
            bill.spend(operation, table);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Bill> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bill {
    /// The units of one table and its indexes.
    fn spend(&mut self, operation: &str, consumed: &Value) {
        let table = consumed["TableName"].as_str().unwrap_or_default();
        let mut add = |index: Option<&String>, units: f64| {
            let spent = Spent {
                reads: READS.contains(&operation),
                table: table.to_owned(),
                index: index.cloned(),
                operation: operation.to_owned(),
            };
            *self.dynamodb.entry(spent).or_default() += units;
        };
        let mut own = units(consumed);
        for (index, of_index) in consumed["GlobalSecondaryIndexes"].as_object().into_iter().flatten()
        {
            own -= units(of_index);
            add(Some(index), units(of_index));
        }
        add(None, own);
    }

    /// All SQS requests.
    pub(crate) fn sqs_requests(&self) -> usize {
        self.sqs.values().sum()
    }

    /// The units of everything that `counts`.
    pub(crate) fn units(&self, counts: impl Fn(&Spent) -> bool) -> f64 {
        self.dynamodb.iter().filter(|(spent, _)| counts(spent)).map(|(_, units)| units).sum()
    }
}

fn units(consumed: &Value) -> f64 {
    consumed["CapacityUnits"].as_f64().unwrap_or(f64::NAN)
}

fn is_empty(answer: &[u8]) -> bool {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    answer["Messages"].as_array().is_none_or(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn units_are_told_apart_by_index() {
        let meter = Meter::default();
        let consumed = json!({"TableName": "t", "CapacityUnits": 3.0, "Table": {"CapacityUnits": 1.0},
            "GlobalSecondaryIndexes": {"due": {"CapacityUnits": 2.0}}});
        for answer in [json!({"ConsumedCapacity": consumed}), json!({"ConsumedCapacity": [consumed]})]
        {
            meter.dynamodb("PutItem", true, answer.to_string().as_bytes());
        }
        let bill = meter.bill();
        assert_eq!(bill.units(|spent| spent.index.is_none() && !spent.reads), 2.0);
        assert_eq!(bill.units(|spent| spent.index.as_deref() == Some("due")), 4.0);
        assert_eq!((bill.units(|spent| spent.reads), bill.refused), (0.0, 0));
    }

    #[test]
    fn what_does_not_tell_its_cost_is_refused() {
        let meter = Meter::default();
        meter.dynamodb("PutItem", false, b"{}");
        meter.dynamodb("GetItem", true, b"{}");
        assert_eq!(meter.bill().refused, 2);
    }

    #[test]
    fn each_64_kib_is_a_request_and_an_empty_receive_is_none() {
        let meter = Meter::default();
        meter.sqs("SendMessageBatch", &[0; CHUNK_BYTES + 1], true, b"{}");
        meter.sqs("ReceiveMessage", b"{}", true, b"{}");
        meter.sqs("ReceiveMessage", b"{}", true, br#"{"Messages":[{}]}"#);
        let bill = meter.bill();
        assert_eq!(bill.sqs["SendMessageBatch"], 2);
        assert_eq!((bill.sqs["ReceiveMessage"], bill.sqs_requests()), (1, 3));
    }
}
