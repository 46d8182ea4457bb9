//! Operations on move tasks.

use serde_json::{Value, json};

use super::{in_range, required};
use crate::Sqs;
use crate::errors::{Code, SqsError};
use crate::moves::{MAX_TASKS_LISTED, MoveTask};

request!(StartMessageMoveTask {
    source_arn: String,
    destination_arn: String,
    max_number_of_messages_per_second: i64,
});

pub(crate) fn start_message_move_task(
    sqs: &Sqs,
    request: StartMessageMoveTask,
) -> Result<Value, SqsError> {
    let source = required(request.source_arn, "SourceArn")?;
    let destination = request.destination_arn;
    let rate = request.max_number_of_messages_per_second;
    let handle =
        sqs.transact(|state, now| state.start_move_task(source, destination, rate, now))?;
    Ok(json!({"TaskHandle": handle}))
}

request!(CancelMessageMoveTask { task_handle: String });

pub(crate) fn cancel_message_move_task(
    sqs: &Sqs,
    request: CancelMessageMoveTask,
) -> Result<Value, SqsError> {
    let handle = required(request.task_handle, "TaskHandle")?;
    let moved = sqs.transact(|state, _| state.cancel_move_task(&handle))?;
    Ok(json!({"ApproximateNumberOfMessagesMoved": moved}))
}

request!(ListMessageMoveTasks { source_arn: String, max_results: i64 });

pub(crate) fn list_message_move_tasks(
    sqs: &Sqs,
    request: ListMessageMoveTasks,
) -> Result<Value, SqsError> {
    let source = required(request.source_arn, "SourceArn")?;
    let most = u32::try_from(MAX_TASKS_LISTED).unwrap_or(u32::MAX);
    let most = in_range(request.max_results, "MaxResults", 1, most)?.unwrap_or(1);
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    sqs.transact(|state, _| {
        if state.queue_by_arn(&source).is_none() {
            return Err(SqsError::new(
                Code::ResourceNotFound,
                "The resource that you specified for the SourceArn parameter doesn't exist.",
            ));
        }
        let newest_first = state.tasks.iter().rev().filter(|task| task.source_arn == source);
        Ok(json!({"Results": newest_first.take(most).map(render).collect::<Vec<_>>()}))
    })
}

/// Absent values are left out; the handle is shown while the task can be cancelled.
fn render(task: &MoveTask) -> Value {
    let mut result = json!({
        "Status": task.status,
        "SourceArn": task.source_arn,
        "ApproximateNumberOfMessagesMoved": task.moved,
        "ApproximateNumberOfMessagesToMove": task.to_move,
        "StartedTimestamp": task.started_at,
    });
    if task.is_running() {
        result["TaskHandle"] = json!(task.handle);
    }
    if let Some(destination) = &task.destination_arn {
        result["DestinationArn"] = json!(destination);
    }
    if let Some(rate) = task.rate {
        result["MaxNumberOfMessagesPerSecond"] = json!(rate);
    }
    if let Some(failure) = &task.failure {
        result["FailureReason"] = json!(failure);
    }
    result
}
