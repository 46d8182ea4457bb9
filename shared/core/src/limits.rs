//! Every limit of the service, by name, in one place.

/// How often one user may do something at one instance of a function: a token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// The requests per second in the long run.
    pub per_second: u32,
    /// The requests that may come together.
    pub burst: u32,
}

/// Requests of one user that read.
pub const API_READS: RateLimit = RateLimit { per_second: 100, burst: 1_000 };
/// Requests of one user that create, change or delete webhooks.
pub const API_CHANGES: RateLimit = RateLimit { per_second: 50, burst: 1_000 };
/// Requests of one user that test or verify a webhook.
pub const API_TESTS: RateLimit = RateLimit { per_second: 10, burst: 100 };
/// Requests of one user that have deliveries made again.
pub const API_REDELIVERIES: RateLimit = RateLimit { per_second: 20, burst: 500 };
/// The buckets in memory of one instance of a function, at most.
pub const RATE_LIMITED_USERS_MAX: usize = 10_000;
/// The redeliveries one user may ask for in one day (UTC).
pub const REDELIVERIES_PER_DAY: usize = 1_000;
/// How long an instance of a function keeps the list of blocked hosts in memory, in seconds.
pub const BLOCKED_HOSTS_SECONDS: u64 = 60;

/// A request body of the API, in bytes.
pub const API_BODY_BYTES: usize = 64 * 1024;
/// How deeply JSON may nest, in an API body and in an event's `data`.
pub const JSON_DEPTH: usize = 100;
/// A webhook's `url`, in characters.
pub const URL_CHARS: usize = 2_048;
/// A webhook's `description`, in characters.
pub const DESCRIPTION_CHARS: usize = 1_024;
/// A webhook's `filter`, in bytes of compact JSON.
pub const FILTER_BYTES: usize = 4 * 1024;
/// The event types one webhook may name.
pub const EVENT_TYPES_MAX: usize = 50;
/// The webhooks one user may have.
pub const WEBHOOKS_PER_USER: usize = 100;
/// The webhooks one user may create in one day (UTC), deleted ones included: each leaves rows behind
/// that only the daily cleanup removes.
pub const WEBHOOKS_CREATED_PER_DAY: usize = 300;
/// Items on one page of a list, at most.
pub const PAGE_MAX: usize = 100;
/// Items on one page of a list when the caller does not say.
pub const PAGE_DEFAULT: usize = 50;
/// The waits of a webhook's own `retry_schedule`, at most.
pub const SCHEDULE_WAITS_MAX: usize = 20;
/// The longest wait of a webhook's own `retry_schedule`, in seconds.
pub const SCHEDULE_WAIT_MAX_SECONDS: u64 = 86_400;
/// All the waits of a webhook's own `retry_schedule` together, in seconds: 7 days.
pub const SCHEDULE_TOTAL_MAX_SECONDS: u64 = 7 * 86_400;
/// A webhook's `rate_limit`, in deliveries per second, at most.
pub const RATE_LIMIT_MAX: u32 = 1_000;
/// The request headers one webhook may set.
pub const HEADERS_MAX: usize = 20;
/// The names and values of a webhook's request headers together, in bytes.
pub const HEADERS_BYTES: usize = 4 * 1024;
/// Retries after the first attempt, at most.
pub const RETRY_COUNT_MAX: u32 = 10;
/// Retries after the first attempt when the user does not say.
pub const RETRY_COUNT_DEFAULT: u32 = 3;
/// The longest a user may let one attempt take, in seconds.
pub const TIMEOUT_SECONDS_MAX: u32 = 60;
/// How long one attempt may take when the user does not say, in seconds.
pub const TIMEOUT_SECONDS_DEFAULT: u32 = 10;
/// The longest a test attempt may take, in seconds: the gateway cuts off at 30.
pub const TEST_TIMEOUT_SECONDS: u32 = 25;
/// An event's `data` as compact JSON, in bytes.
pub const EVENT_DATA_BYTES: usize = 256 * 1024;
/// An event id given by a publisher, in characters.
pub const EVENT_ID_CHARS: usize = 256;
/// A user id, in characters.
pub const USER_ID_CHARS: usize = 256;
/// How far before its acceptance an event may say it happened, in milliseconds.
pub const OCCURRED_AT_WINDOW_MS: i64 = 24 * 60 * 60 * 1000;
/// How far after its acceptance an event may say it happened, in milliseconds: clocks run ahead.
pub const OCCURRED_AT_AHEAD_MS: i64 = 60 * 1000;
/// How far before its redrive an event may have been accepted, in milliseconds: 15 days, because a queue
/// keeps a message for 14.
pub const REDRIVE_WINDOW_MS: i64 = 15 * 24 * 60 * 60 * 1000;
/// The most bytes of a receiver's response that are read.
pub const RESPONSE_READ_BYTES: usize = 64 * 1024;
/// The most bytes of a receiver's response that are kept.
pub const RESPONSE_KEEP_BYTES: usize = 4 * 1024;
/// Of one header's value, the bytes that are kept with an attempt.
pub const HEADER_VALUE_KEEP_BYTES: usize = 256;
/// Of the headers of a request or a response, the bytes that are kept with an attempt.
pub const HEADERS_KEEP_BYTES: usize = 2 * 1024;
/// Of an error's text, the bytes that are kept.
pub const ERROR_KEEP_BYTES: usize = 512;
/// The longest wait between two attempts before jitter, in seconds.
pub const BACKOFF_MAX_SECONDS: u64 = 900;
/// The longest `Retry-After` that is honoured, in seconds.
pub const RETRY_AFTER_MAX_SECONDS: u64 = 24 * 60 * 60;
/// The longest wait of a retry that stays in the fast deliveries queue, in seconds.
pub const FAST_WAIT_MAX_SECONDS: u64 = 60;
/// The longest delay of a message, in seconds (AWS quota). A longer wait is parked in the table.
pub const QUEUE_WAIT_MAX_SECONDS: u64 = 900;
/// The tasks that one owner may add to the fast deliveries queue in one invocation of dispatch.
pub const FAST_TASKS_PER_OWNER: usize = 20;
/// The tasks that one owner may add to the fast deliveries queue in one instance of dispatch in the
/// time after which an attempt is slow.
pub const FAST_TASKS_PER_PERIOD: usize = 50;
/// The attempts that one instance of deliver makes concurrently at one host for one owner.
pub const HOST_CONCURRENCY: usize = 20;
/// The longest timeout of a webhook whose deliveries use the fast queue, in seconds.
pub const FAST_TIMEOUT_SECONDS: u32 = TIMEOUT_SECONDS_DEFAULT;
/// First attempts of one event in one task. A batch has 10 tasks, and makes all of their attempts
/// concurrently.
pub const FIRST_ATTEMPTS_PER_TASK: usize = 10;
/// Their payloads, which one task has once but the attempts have each, in bytes.
pub const FIRST_ATTEMPTS_BYTES: usize = 64 * 1024;
/// Entries of one `SendMessageBatch` (AWS quota).
pub const QUEUE_BATCH_ENTRIES: usize = 10;
/// Bytes of one SQS message and of one `SendMessageBatch` in total (AWS quota).
pub const QUEUE_BATCH_BYTES: usize = 1_048_576;
/// Entries of one `PutEvents` (AWS quota).
pub const EVENT_BUS_ENTRIES: usize = 10;
/// The recoveries of one webhook that may be running.
pub const RECOVERIES_RUNNING_MAX: usize = 3;
/// The newest recoveries of one webhook that are listed.
pub const RECOVERIES_LISTED_MAX: usize = 100;
/// The redeliveries that a recovery sends per second to a webhook without a rate limit.
pub const RECOVERY_PER_SECOND_DEFAULT: u32 = 100;
/// The redeliveries that one page of a recovery sends, at most.
pub const RECOVERY_PAGE_MAX: usize = 250;
/// How long deliveries are kept when nothing else is configured, in days.
pub const RETENTION_DAYS_DEFAULT: u32 = 30;
/// The longest retention that can be asked for, in days.
pub const RETENTION_DAYS_MAX: u32 = 3_650;
/// Signing secrets that may be valid concurrently while a rotation overlaps.
pub const SECRETS_MAX: usize = 5;
/// Partitions of the due index, so that one busy minute does not meet one partition's write limit.
pub const DUE_SHARDS: u8 = 8;

/// The hours of statistics that are shown when the request names no start.
pub const STATS_HOURS_DEFAULT: u32 = 24;
/// The days of statistics that are shown when the request names no start.
pub const STATS_DAYS_DEFAULT: u32 = 30;
