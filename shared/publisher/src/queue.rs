//! The one call to SQS.

use std::error::Error;

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::BuildError;
use aws_sdk_sqs::operation::send_message_batch::SendMessageBatchOutput;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, MessageAttributeValue, SendMessageBatchRequestEntry,
};
use webhooks_core::traceparent::TRACEPARENT;

use crate::error::Reason;

/// What SQS says of one message: nothing, or why it was refused.
pub(crate) type EntryResult = Result<(), Reason>;

/// A queue that takes one batch at a time.
#[async_trait]
pub(crate) trait Queue: Send + Sync {
    /// Sends a batch; the responses are in its order. The error is that of the request as a whole.
    async fn send(&self, messages: &[Entry<'_>]) -> Result<Vec<EntryResult>, String>;
}

/// A message of a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) body: &'a str,
    pub(crate) group: &'a str,
    pub(crate) traceparent: Option<&'a str>,
}

/// A queue of SQS.
pub(crate) struct SqsQueue {
    pub(crate) client: Client,
    pub(crate) url: String,
}

#[async_trait]
impl Queue for SqsQueue {
    async fn send(&self, messages: &[Entry<'_>]) -> Result<Vec<EntryResult>, String> {
        let entries: Vec<_> = messages
            .iter()
            .enumerate()
            .map(|(index, message)| entry(index, *message))
            .collect::<Result<_, _>>()
            .map_err(|error| chain(&error))?;
        let request = self.client.send_message_batch().queue_url(&self.url);
        let output =
            request.set_entries(Some(entries)).send().await.map_err(|error| chain(&error))?;
        Ok(results(messages.len(), &output))
    }
}

fn entry(index: usize, message: Entry<'_>) -> Result<SendMessageBatchRequestEntry, BuildError> {
    let mut entry = SendMessageBatchRequestEntry::builder()
        .id(index.to_string())
        .message_body(message.body)
        .message_group_id(message.group);
    if let Some(traceparent) = message.traceparent {
        let value = MessageAttributeValue::builder().data_type("String").string_value(traceparent);
        entry = entry.message_attributes(TRACEPARENT, value.build()?);
    }
    entry.build()
}

/// The response to each of `count` entries, which are named by their index. An entry that SQS does
/// not mention counts as refused, because only a named success is one.
fn results(count: usize, output: &SendMessageBatchOutput) -> Vec<EntryResult> {
    let result = |index: usize| {
        let id = index.to_string();
        if output.successful().iter().any(|entry| entry.id() == id) {
            return Ok(());
        }
        let failed = output.failed().iter().find(|entry| entry.id() == id);
        Err(Reason::Refused {
            code: failed.map_or("NoResult", |entry| entry.code()).to_owned(),
            message: failed.and_then(|entry| entry.message()).unwrap_or_default().to_owned(),
            sender_fault: failed.is_some_and(BatchResultErrorEntry::sender_fault),
        })
    };
    (0..count).map(result).collect()
}

/// An error and what caused it. The SDK's errors say little by themselves, and some repeat their
/// cause.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_sqs::types::SendMessageBatchResultEntry;

    #[test]
    fn entry_has_the_traceparent_as_a_message_attribute() {
        let message = Entry { body: "{}", group: "u1", traceparent: Some("00-1") };
        let attributes = entry(0, message).unwrap().message_attributes.unwrap();
        assert_eq!(attributes["traceparent"].string_value(), Some("00-1"));
        let none = entry(0, Entry { traceparent: None, ..message }).unwrap();
        assert_eq!(none.message_attributes, None);
    }

    #[test]
    fn only_an_entry_that_is_named_as_a_success_is_one() {
        let success = SendMessageBatchResultEntry::builder()
            .id("2")
            .message_id("m")
            .md5_of_message_body("x")
            .build()
            .unwrap();
        let failure = BatchResultErrorEntry::builder()
            .id("0")
            .code("InternalError")
            .sender_fault(false)
            .build()
            .unwrap();
        let output =
            SendMessageBatchOutput::builder().successful(success).failed(failure).build().unwrap();
        let refused = |code: &str| {
            Err(Reason::Refused {
                code: code.to_owned(),
                message: String::new(),
                sender_fault: false,
            })
        };
        assert_eq!(results(3, &output), [refused("InternalError"), refused("NoResult"), Ok(())]);
    }
}
