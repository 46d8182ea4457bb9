//! Move tasks, which return messages of a dead-letter queue to their source queue.
//!
//! A moved message is a new message: new id, new retention period, receive count from zero.
//! (AWS documents the first two; with its old count it would be dead-lettered immediately.)
//! Messages in flight when the task begins stay in the dead-letter queue.

use serde::{Deserialize, Serialize};

use crate::errors::{Code, SqsError};
use crate::message::{Message, Place};
use crate::state::{Change, State};

/// How many tasks are remembered for each dead-letter queue, as `ListMessageMoveTasks` shows.
pub(crate) const MAX_TASKS_LISTED: usize = 10;
/// Most messages a second that a caller may ask for.
const MAX_RATE: u32 = 500;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum TaskStatus {
    Running,
    Completed,
    Cancelled,
    Failed,
}

/// A move task. Times are milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MoveTask {
    pub(crate) handle: String,
    /// ARN of the dead-letter queue.
    pub(crate) source_arn: String,
    /// ARN of the queue to move to; each message's own source if there is none.
    pub(crate) destination_arn: Option<String>,
    /// Messages a second; as fast as can be if there is none.
    pub(crate) rate: Option<u32>,
    pub(crate) status: TaskStatus,
    pub(crate) to_move: usize,
    pub(crate) moved: usize,
    pub(crate) started_at: u64,
    pub(crate) failure: Option<String>,
    /// When the next second's worth of messages may go.
    pub(crate) step_at: u64,
}

impl MoveTask {
    pub(crate) fn is_running(&self) -> bool {
        self.status == TaskStatus::Running
    }

    /// When the task has something to do.
    pub(crate) fn next_step(&self) -> Option<u64> {
        self.is_running().then_some(self.step_at)
    }

    /// How many messages may have moved by now: the rate immediately, and again each second.
    fn allowance(&self, now: u64) -> usize {
        let Some(rate) = self.rate else { return usize::MAX };
        let seconds = 1 + now.saturating_sub(self.started_at) / 1_000;
        usize::try_from(seconds.saturating_mul(u64::from(rate))).unwrap_or(usize::MAX)
    }

    fn fail(&mut self, reason: &str) {
        self.status = TaskStatus::Failed;
        self.failure = Some(reason.to_owned());
    }
}

impl Message {
    /// The same content as a new message.
    pub(crate) fn into_new(self, seq: u64, id: String, at: u64) -> Self {
        Self {
            seq,
            id,
            sent_at: at,
            first_received_at: None,
            received_at: 0,
            receive_count: 0,
            visible_at: at,
            place: Place::Visible,
            source_arn: None,
            ..self
        }
    }
}

fn not_found(what: &str) -> SqsError {
    SqsError::new(Code::ResourceNotFound, what)
}

impl State {
    pub(crate) fn start_move_task(
        &mut self,
        source_arn: String,
        destination_arn: Option<String>,
        rate: Option<i64>,
        now: u64,
    ) -> Result<String, SqsError> {
        let missing = |parameter: &str| {
            not_found(&format!(
                "The resource that you specified for the {parameter} parameter doesn't exist."
            ))
        };
        let rate = rate.map(check_rate).transpose()?;
        let source = self.queue_by_arn(&source_arn).ok_or_else(|| missing("SourceArn"))?;
        if self.dead_letter_sources(&source_arn).next().is_none() {
            return Err(SqsError::invalid(
                "Source queue must be configured as a Dead Letter Queue.",
            ));
        }
        let to_move = self.queue(source)?.depth().visible;
        if let Some(arn) = &destination_arn {
            let to = self.queue_by_arn(arn).ok_or_else(|| missing("DestinationArn"))?;
            if to == source {
                return Err(SqsError::invalid("Source and destination queue must differ."));
            }
        }
        if self.tasks.iter().any(|task| task.is_running() && task.source_arn == source_arn) {
            return Err(SqsError::invalid(
                "There is already a task running. Only one active task is allowed for a source \
                 queue arn at a given time.",
            ));
        }
        let (_, handle) = self.next_id();
        self.record(Change::Task(MoveTask {
            handle: handle.clone(),
            source_arn,
            destination_arn,
            rate,
            status: TaskStatus::Running,
            to_move,
            moved: 0,
            started_at: now,
            failure: None,
            step_at: now,
        }))?;
        self.run_move_tasks(now)?;
        Ok(handle)
    }

    /// Stops a running task; what it moved stays moved.
    pub(crate) fn cancel_move_task(&mut self, handle: &str) -> Result<usize, SqsError> {
        let task = self.tasks.iter().find(|task| task.handle == handle && task.is_running());
        let mut task = task.cloned().ok_or_else(|| not_found("Task does not exist."))?;
        task.status = TaskStatus::Cancelled;
        let moved = task.moved;
        self.record(Change::Task(task))?;
        Ok(moved)
    }

    /// Names of the queues whose dead-letter queue this is.
    pub(crate) fn dead_letter_sources<'a>(
        &'a self,
        dead_letter_arn: &'a str,
    ) -> impl Iterator<Item = &'a str> {
        let targets =
            move |redrive: &crate::attributes::Redrive| redrive.target_arn == dead_letter_arn;
        self.queues
            .values()
            .filter(move |queue| queue.config.attributes.redrive.as_ref().is_some_and(targets))
            .map(|queue| queue.config.name.as_str())
    }

    pub(crate) fn run_move_tasks(&mut self, now: u64) -> Result<(), SqsError> {
        let due = |task: &&MoveTask| task.next_step().is_some_and(|at| at <= now);
        let due: Vec<MoveTask> = self.tasks.iter().filter(due).cloned().collect();
        for task in due {
            let task = self.run_move_task(task, now)?;
            self.record(Change::Task(task))?;
        }
        Ok(())
    }

    /// Moves what the task may move now and returns the task as it is then.
    fn run_move_task(&mut self, mut task: MoveTask, now: u64) -> Result<MoveTask, SqsError> {
        let allowance = task.allowance(now);
        while task.moved < task.to_move {
            let Some(from) = self.queue_by_arn(&task.source_arn).map(str::to_owned) else {
                task.fail("AWS.SimpleQueueService.NonExistentQueue");
                return Ok(task);
            };
            let Some(message) = self.queue(&from)?.next_visible() else { break };
            if task.moved >= allowance {
                task.step_at = task.started_at + (now - task.started_at) / 1_000 * 1_000 + 1_000;
                return Ok(task);
            }
            let seq = message.seq;
            let Some(to) = task.destination_arn.as_ref().or(message.source_arn.as_ref()) else {
                task.fail("CouldNotDetermineMessageSource");
                return Ok(task);
            };
            let Some(to) = self.queue_by_arn(to).map(str::to_owned) else {
                task.fail("AWS.SimpleQueueService.NonExistentQueue");
                return Ok(task);
            };
            let (new_seq, new_id) = self.next_id();
            self.record(Change::Redriven { from, to, seq, new_seq, new_id, at: now })?;
            task.moved += 1;
        }
        task.status = TaskStatus::Completed;
        Ok(task)
    }

    /// Adds or replaces a task, and drops the oldest one of a source that has too many.
    pub(crate) fn put_task(&mut self, task: MoveTask) {
        if let Some(known) = self.tasks.iter_mut().find(|known| known.handle == task.handle) {
            *known = task;
            return;
        }
        let same_source = |known: &MoveTask| known.source_arn == task.source_arn;
        if self.tasks.iter().filter(|known| same_source(known)).count() >= MAX_TASKS_LISTED
            && let Some(oldest) = self.tasks.iter().position(same_source)
        {
            self.tasks.remove(oldest);
        }
        self.tasks.push(task);
    }
}

fn check_rate(rate: i64) -> Result<u32, SqsError> {
    let valid = u32::try_from(rate).ok().filter(|rate| (1..=MAX_RATE).contains(rate));
    valid.ok_or_else(|| {
        SqsError::parameter(
            rate,
            "MaxNumberOfMessagesPerSecond",
            format!("Must be between 1 and {MAX_RATE}, if provided."),
        )
    })
}
