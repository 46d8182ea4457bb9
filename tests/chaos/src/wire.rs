//! What DynamoDB and SQS say, in their JSON protocols.

use bytes::Bytes;
use hyper::Response;
use serde_json::{Map, Value, json};

use crate::relay::{Call, Service};

/// How the entries of a batch are called in a request, by its operation. Those of `BatchWriteItem`
/// are under their table.
fn entries_of(operation: &str) -> Option<&'static str> {
    match operation {
        "SendMessageBatch" | "ChangeMessageVisibilityBatch" | "DeleteMessageBatch" => {
            Some("Entries")
        }
        "BatchWriteItem" => Some("RequestItems"),
        _ => None,
    }
}

/// A batch in two parts.
pub(crate) struct Split {
    /// The request that is left; `None` if every entry is refused.
    pub(crate) passed: Option<Bytes>,
    /// What the response says of the others.
    pub(crate) refused: Map<String, Value>,
}

/// Takes the entries out of a batch that are to be refused; `None` if the call is no batch or
/// no entry is refused.
pub(crate) fn split(call: &Call, refuses: impl Fn(usize) -> bool) -> Option<Split> {
    let entries = entries_of(&call.operation)?;
    let mut request: Value = serde_json::from_slice(&call.body).ok()?;
    if call.service == Service::Sqs {
        let (refused, kept) = part(request[entries].as_array()?, &refuses);
        if refused.is_empty() {
            return None;
        }
        let failed = refused.iter().map(|entry| {
            json!({"Id": entry["Id"], "Code": "ServiceUnavailable", "SenderFault": false,
                "Message": "refused on purpose"})
        });
        let refused = [("Failed".to_owned(), failed.collect())].into_iter().collect();
        let passed = (!kept.is_empty()).then(|| {
            request[entries] = Value::Array(kept);
            Bytes::from(request.to_string())
        });
        return Some(Split { passed, refused });
    }
    let mut unprocessed = Map::new();
    let mut tables = Map::new();
    for (table, requests) in request[entries].as_object()? {
        let (refused, kept) = part(requests.as_array()?, &refuses);
        for (map, part) in [(&mut unprocessed, refused), (&mut tables, kept)] {
            if !part.is_empty() {
                map.insert(table.clone(), Value::Array(part));
            }
        }
    }
    if unprocessed.is_empty() {
        return None;
    }
    let passed = (!tables.is_empty()).then(|| {
        request[entries] = Value::Object(tables);
        Bytes::from(request.to_string())
    });
    let refused = [("UnprocessedItems".to_owned(), Value::Object(unprocessed))];
    Some(Split { passed, refused: refused.into_iter().collect() })
}

fn part(entries: &[Value], refuses: impl Fn(usize) -> bool) -> (Vec<Value>, Vec<Value>) {
    let numbered = entries.iter().cloned().enumerate();
    let (refused, kept): (Vec<_>, Vec<_>) = numbered.partition(|(index, _)| refuses(*index));
    let plain = |numbered: Vec<(usize, Value)>| numbered.into_iter().map(|(_, entry)| entry);
    (plain(refused).collect(), plain(kept).collect())
}

/// Adds the refused entries to a response, if it is one that says what was done.
pub(crate) fn refuse(response: Response<Bytes>, refused: &Map<String, Value>) -> Response<Bytes> {
    if !response.status().is_success() {
        return response;
    }
    response.map(|body| {
        let Ok(Value::Object(mut said)) = serde_json::from_slice(&body) else { return body };
        for (name, entries) in refused {
            match (said.get_mut(name), entries) {
                (Some(Value::Array(there)), Value::Array(more)) => there.extend_from_slice(more),
                (Some(Value::Object(there)), Value::Object(more)) => there.extend(more.clone()),
                _ => {
                    said.insert(name.clone(), entries.clone());
                }
            }
        }
        Bytes::from(Value::Object(said).to_string())
    })
}

/// The response to a batch of which nothing was carried out.
pub(crate) fn empty() -> Response<Bytes> {
    response(200, &json!({"Successful": []}))
}

/// A fault of the service's own.
pub(crate) fn server_error(service: Service, unavailable: bool) -> Response<Bytes> {
    let (status, name) = match (service, unavailable) {
        (Service::DynamoDb, false) => (500, "InternalServerError"),
        (Service::Sqs, false) => (500, "InternalFailure"),
        (_, true) => (503, "ServiceUnavailable"),
    };
    fault(service, status, name)
}

/// Too many calls. DynamoDB has one name for a table and one for an account.
pub(crate) fn throttle(service: Service, other: bool) -> Response<Bytes> {
    let name = match (service, other) {
        (Service::DynamoDb, false) => "ProvisionedThroughputExceededException",
        (Service::Sqs, false) => "RequestThrottled",
        (_, true) => "ThrottlingException",
    };
    fault(service, 400, name)
}

fn fault(service: Service, status: u16, name: &str) -> Response<Bytes> {
    let prefix = match service {
        Service::DynamoDb => "com.amazonaws.dynamodb.v20120810",
        Service::Sqs => "com.amazonaws.sqs",
    };
    let said = json!({"__type": format!("{prefix}#{name}"), "message": "on purpose"});
    response(status, &said)
}

fn response(status: u16, said: &Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(said.to_string()));
    *response.status_mut() = status.try_into().unwrap_or_default();
    let json = hyper::header::HeaderValue::from_static("application/x-amz-json-1.0");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, json);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(response: &Response<Bytes>) -> Value {
        serde_json::from_slice(response.body()).unwrap()
    }

    fn passed(split: &Split) -> Option<Value> {
        split.passed.as_ref().map(|body| serde_json::from_slice(body).unwrap())
    }

    #[test]
    fn partial_sqs_failure_lists_the_refused_entries() {
        let body = json!({"QueueUrl": "q", "Entries": [{"Id": "a"}, {"Id": "b"}, {"Id": "c"}]});
        let call = |operation| Call::new(Service::Sqs, operation, body.to_string());
        let split = |refuses: fn(usize) -> bool| split(&call("SendMessageBatch"), refuses);
        let some = split(|index| index == 1).unwrap();
        let expected = json!({"QueueUrl": "q", "Entries": [{"Id": "a"}, {"Id": "c"}]});
        assert_eq!(passed(&some), Some(expected));
        let done = response(200, &json!({"Successful": [{"Id": "a"}, {"Id": "c"}], "Failed": []}));
        let refused = said(&refuse(done, &some.refused));
        assert_eq!(refused["Failed"][0]["Id"], "b");
        assert_eq!(refused["Failed"][0]["SenderFault"], false);
        assert_eq!(refused["Successful"].as_array().unwrap().len(), 2);
        let failed = refuse(server_error(Service::Sqs, true), &some.refused);
        assert!(said(&failed).get("Failed").is_none(), "it was refused as a whole");

        let all = split(|_| true).unwrap();
        assert_eq!(passed(&all), None);
        assert_eq!(said(&refuse(empty(), &all.refused))["Failed"].as_array().unwrap().len(), 3);
        assert!(split(|_| false).is_none());
        assert!(super::split(&call("SendMessage"), |_| true).is_none());
    }

    #[test]
    fn partial_batch_write_lists_the_unprocessed_items() {
        let body = json!({"RequestItems": {"t": [{"n": 0}, {"n": 1}]}}).to_string();
        let call = Call::new(Service::DynamoDb, "BatchWriteItem", body);
        let split = split(&call, |index| index == 0).unwrap();
        assert_eq!(passed(&split), Some(json!({"RequestItems": {"t": [{"n": 1}]}})));
        let done = response(200, &json!({"UnprocessedItems": {}}));
        let expected = json!({"UnprocessedItems": {"t": [{"n": 0}]}});
        assert_eq!(said(&refuse(done, &split.refused)), expected);
    }
}
