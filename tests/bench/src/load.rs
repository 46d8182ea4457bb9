//! How much the local system carries, and what it takes for that: the `dev` program as a process, so that
//! its processor time and its memory are its own.

use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};
use test_support::receiver::Reply;
use test_support::{FakeReceiver, UNCHECKED_SIGNATURE};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use webhooks_aws::SystemClock;
use webhooks_core::ports::Clock as _;
use webhooks_local::table::lay_out;
use webhooks_local::terminal::say;
use webhooks_local::{http, token};

use crate::Outcome;
use crate::faults::beside;
use crate::harness::{EVENT_TYPE, text};
use crate::report::{Latencies, number};

/// Events in flight in a closed loop.
const IN_FLIGHT: u32 = 32;
/// Endpoints of an event in the fan-out.
const FAN_OUT: u32 = 20;
/// How long events are published in an open loop.
const OPEN_SECONDS: u32 = 10;
/// A type of which no event is published.
const OTHER_TYPE: &str = "email.sent";
/// Bytes of the filler in `data`, so that a payload has about 1 KB.
const FILLER: usize = 850;
/// Events before it counts, so that every connection is open.
const WARM_UP: usize = 200;
/// How long the last webhook may take after the last event was published.
const PATIENCE: Duration = Duration::from_mins(1);
/// `/proc/<pid>/stat` counts processor time in hundredths of a second (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// One kind of load.
#[derive(Clone)]
pub(crate) struct Load {
    pub(crate) name: String,
    /// Whose events come in turn.
    pub(crate) users: u32,
    /// Webhooks of each user.
    pub(crate) fan_out: u32,
    /// Webhooks of each user that want another type.
    pub(crate) others: u32,
    /// Earlier deliveries of the first webhook.
    pub(crate) history: usize,
    /// Events a second; none when the next event waits for an earlier one.
    pub(crate) rate: Option<u32>,
    /// Deliveries.
    pub(crate) deliveries: usize,
}

/// What a load needed.
pub(crate) struct Figures {
    pub(crate) per_second: f64,
    pub(crate) cpu: f64,
    pub(crate) latencies: Latencies,
    pub(crate) pss_mb: f64,
}

/// Runs each load in a system of its own; `keeps` says whether it keeps its data on the disk.
pub(crate) async fn run(deliveries: usize, keeps: bool) -> Outcome<bool> {
    let closed =
        |name: &str, fan_out| Load { name: name.to_owned(), fan_out, ..Load::closed(deliveries) };
    let open = |rate: u32, users| Load {
        name: format!("open loop, {rate}/s, users: {users}"),
        users,
        rate: Some(rate),
        ..Load::closed(deliveries.min((OPEN_SECONDS * rate) as usize))
    };
    let loads = [
        closed("closed loop, 32 in flight", 1),
        closed("closed loop, fan-out 20", FAN_OUT),
        open(50, 1),
        open(200, 1),
        open(500, 1),
        open(1_000, 1),
        open(100, 20),
    ];
    let mut rows = Vec::new();
    for load in loads {
        let Figures { per_second, cpu, latencies, pss_mb } = load.run(keeps).await?;
        let mut row = vec![load.name.clone(), format!("{per_second:.0}"), format!("{cpu:.2}")];
        row.extend([500, 990, 999].map(|share| format!("{:.1}", latencies.per_mille(share))));
        row.push(format!("{pss_mb:.0}"));
        rows.push(row);
    }
    let header = ["load", "deliveries/s", "CPU s/1,000", "p50 ms", "p99 ms", "p99.9 ms", "PSS MB"];
    say(lay_out(&header, &rows, &[1, 2, 3, 4, 5, 6]));
    Ok(true)
}

impl Load {
    /// A closed loop of one user with one webhook.
    pub(crate) fn closed(deliveries: usize) -> Self {
        let name = String::new();
        Self { name, users: 1, fan_out: 1, others: 0, history: 0, rate: None, deliveries }
    }

    pub(crate) async fn run(&self, keeps: bool) -> Outcome<Figures> {
        let directory = tempfile::tempdir().map_err(text)?;
        let system = Dev::start(keeps.then(|| directory.path())).await?;
        let receiver = FakeReceiver::start().await.map_err(text)?;
        let arrivals = Arc::new(Arrivals::new(self.fan_out));
        let noting = Arc::clone(&arrivals);
        receiver.by_rule(move |request| {
            noting.note(&request.body, request.at);
            Reply::status(200)
        });
        for user in 0..self.users {
            for number in 0..self.fan_out {
                let url = receiver.url(&format!("/{user}/{number}"));
                system.subscribe(user, &url, EVENT_TYPE).await?;
            }
            for number in 0..self.others {
                let url = receiver.url(&format!("/{user}/other/{number}"));
                system.subscribe(user, &url, OTHER_TYPE).await?;
            }
        }
        self.publish(&system, &arrivals, 0, WARM_UP, None).await?;
        system.repeat_history(self.history).await?;
        let events = self.deliveries / self.fan_out as usize;
        let (began, cpu) = (Instant::now(), system.cpu_seconds()?);
        let latencies = self.publish(&system, &arrivals, WARM_UP, events, self.rate).await?;
        let (took, cpu) = (began.elapsed(), system.cpu_seconds()? - cpu);
        let deliveries = number(events * self.fan_out as usize);
        Ok(Figures {
            per_second: deliveries / took.as_secs_f64(),
            cpu: cpu / deliveries * 1_000.0,
            latencies: Latencies::new(latencies),
            pss_mb: system.pss_mb()?,
        })
    }

    /// Publishes events and waits for all of their webhooks; returns how long each event took.
    async fn publish(
        &self,
        system: &Dev,
        arrivals: &Arc<Arrivals>,
        first: usize,
        events: usize,
        rate: Option<u32>,
    ) -> Outcome<Vec<Duration>> {
        arrivals.expect(first + events);
        let next = Arc::new(AtomicUsize::new(first));
        let mut publishers = JoinSet::new();
        let began = Instant::now();
        for _ in 0..IN_FLIGHT {
            let (next, arrivals) = (Arc::clone(&next), Arc::clone(arrivals));
            let mut client = Client::connect(&system.queue_url, &[]).await?;
            let (room, users) = (self.fan_out, self.users as usize);
            publishers.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= first + events {
                        return Ok::<_, String>(());
                    }
                    match rate {
                        Some(rate) => {
                            let seconds = crate::report::number(number - first) / f64::from(rate);
                            let due = Duration::from_secs_f64(seconds);
                            tokio::time::sleep_until((began + due).into()).await;
                        }
                        None => arrivals.room.acquire_many(room).await.map_err(text)?.forget(),
                    }
                    arrivals.began(number);
                    client.publish(number, number % users).await?;
                }
            });
        }
        publishers.join_all().await.into_iter().collect::<Outcome<Vec<()>>>()?;
        let end = Instant::now() + PATIENCE;
        while arrivals.missing(first) > 0 {
            if Instant::now() > end {
                return Err(format!("{} events did not arrive", arrivals.missing(first)));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(arrivals.latencies(first))
    }
}

/// When each event was published, and when its webhooks came.
struct Arrivals {
    /// The webhooks that may be on their way.
    room: Semaphore,
    fan_out: u32,
    events: Mutex<Vec<Event>>,
}

#[derive(Clone, Default)]
struct Event {
    began: Option<Instant>,
    came: u32,
    last: Option<Instant>,
}

#[derive(Deserialize)]
struct Payload<'a> {
    event_id: &'a str,
}

impl Arrivals {
    fn new(fan_out: u32) -> Self {
        let room = Semaphore::new((IN_FLIGHT * fan_out) as usize);
        Self { room, fan_out, events: Mutex::default() }
    }

    fn events(&self) -> std::sync::MutexGuard<'_, Vec<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn expect(&self, events: usize) {
        self.events().resize(events, Event::default());
    }

    fn began(&self, number: usize) {
        self.events()[number].began = Some(Instant::now());
    }

    /// A webhook that comes twice counts once too often, but only in its event.
    fn note(&self, body: &[u8], at: Instant) {
        let Ok(Payload { event_id }) = serde_json::from_slice(body) else { return };
        let number = event_id.rsplit('-').next().and_then(|number| number.parse::<usize>().ok());
        let mut events = self.events();
        let Some(event) = number.and_then(|number| events.get_mut(number)) else { return };
        event.came += 1;
        event.last = Some(at);
        self.room.add_permits(1);
    }

    fn missing(&self, first: usize) -> usize {
        self.events()[first..].iter().filter(|event| event.came < self.fan_out).count()
    }

    /// From the publication of each event to its last webhook.
    fn latencies(&self, first: usize) -> Vec<Duration> {
        let events = self.events();
        let took = |event: &Event| Some(event.last?.duration_since(event.began?));
        events[first..].iter().filter_map(took).collect()
    }
}

/// The running program.
struct Dev {
    child: Child,
    api: std::net::SocketAddr,
    dynamodb: String,
    deliveries_table: String,
    queue_url: String,
}

#[derive(Deserialize)]
struct Started {
    api: String,
    dynamodb: String,
    deliveries_table: String,
    events_queue_url: String,
}

/// Entries of one `BatchWriteItem` (AWS quota).
const WRITTEN_TOGETHER: usize = 25;

impl Dev {
    async fn start(data_dir: Option<&std::path::Path>) -> Outcome<Self> {
        let mut command = Command::new(beside("dev")?);
        for flag in ["--api-addr", "--sqs-addr", "--dynamodb-addr", "--receiver-addr"] {
            command.args([flag, "127.0.0.1:0"]);
        }
        if let Some(directory) = data_dir {
            command.arg("--data-dir").arg(directory);
        }
        let command = command.arg("--json").kill_on_drop(true).stdout(Stdio::piped());
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().map_err(text)?;
        let stdout = child.stdout.take().ok_or("the program has no output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).await.map_err(text)?;
        let started: Started = serde_json::from_str(&line).map_err(text)?;
        let api = started.api.trim_start_matches("http://").parse().map_err(text)?;
        let Started { dynamodb, deliveries_table, events_queue_url: queue_url, .. } = started;
        Ok(Self { child, api, dynamodb, deliveries_table, queue_url })
    }

    async fn subscribe(&self, user: u32, url: &str, event_type: &str) -> Outcome<()> {
        let user = format!("load-{user}").parse().map_err(|_| "no user id")?;
        let token = token::issue(&user, SystemClock.now()).map_err(text)?;
        let body = json!({"url": url, "event_types": [event_type]});
        let path = "/api/webhooks";
        let response = http::call(self.api, "POST", path, Some(&token), Some(&body)).await?;
        if response.0 == 201 { Ok(()) } else { Err(format!("no webhook: {response:?}")) }
    }

    /// Writes so many copies of a delivery, which differ in the random part of their ids.
    async fn repeat_history(&self, count: usize) -> Outcome<()> {
        let mut client = Client::connect(&self.dynamodb, &UNCHECKED_SIGNATURE).await?;
        let table = &self.deliveries_table;
        let scan = json!({"TableName": table, "FilterExpression": "attribute_exists(u)"});
        let found = client.call("DynamoDB_20120810.Scan", &scan).await?;
        let mut row = found["Items"][0].clone();
        let id = row["delivery_id"]["S"].as_str().ok_or("there is no delivery")?.to_owned();
        for first in (0..count).step_by(WRITTEN_TOGETHER) {
            let puts = (first..count).take(WRITTEN_TOGETHER).map(|number| {
                let kept = &id[..id.len() - 8];
                row["delivery_id"]["S"] = format!("{kept}{number:08}").into();
                json!({"PutRequest": {"Item": row}})
            });
            let items = json!({"RequestItems": {table: puts.collect::<Vec<_>>()}});
            client.call("DynamoDB_20120810.BatchWriteItem", &items).await?;
        }
        Ok(())
    }

    /// Processor time so far, of user and system.
    fn cpu_seconds(&self) -> Outcome<f64> {
        let stat = self.read("stat")?;
        // The second field is the name of the program, which may contain spaces.
        let (_, fields) = stat.rsplit_once(") ").ok_or("the process has no statistics")?;
        let ticks = |field: &str| field.parse::<f64>().map_err(text);
        let mut fields = fields.split(' ').skip(11);
        let mut next = || fields.next().ok_or("the process has no statistics".to_owned());
        Ok((ticks(next()?)? + ticks(next()?)?) / TICKS_PER_SECOND)
    }

    /// Memory, with its share of what other processes use too.
    fn pss_mb(&self) -> Outcome<f64> {
        let rollup = self.read("smaps_rollup")?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        kilobytes
            .map(|kilobytes: f64| kilobytes / 1024.0)
            .ok_or("the process has no PSS".to_owned())
    }

    fn read(&self, file: &str) -> Outcome<String> {
        let id = self.child.id().ok_or("the program has ended")?;
        std::fs::read_to_string(format!("/proc/{id}/{file}")).map_err(text)
    }
}

/// Publishes with as little work as possible, because it shares the processors with the system.
struct Client {
    stream: BufReader<TcpStream>,
    host: String,
    url: String,
    /// The lines of further headers.
    headers: String,
}

impl Client {
    async fn connect(url: &str, headers: &[(&str, &str)]) -> Outcome<Self> {
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let host = url.trim_start_matches("http://");
        let host = host.split('/').next().unwrap_or_default().to_owned();
        let stream = TcpStream::connect(&host).await.map_err(text)?;
        stream.set_nodelay(true).map_err(text)?;
        Ok(Self {
            stream: BufReader::new(stream),
            host,
            url: url.to_owned(),
            headers: headers.concat(),
        })
    }

    async fn publish(&mut self, number: usize, user: usize) -> Outcome<()> {
        let event = json!({
            "event_id": format!("load-{number}"),
            "event_type": EVENT_TYPE,
            "user_id": format!("load-{user}"),
            "data": {"task_id": format!("task-{number}"), "title": "x".repeat(FILLER)},
        });
        let message = json!({"QueueUrl": self.url, "MessageBody": event.to_string()});
        self.call("AmazonSQS.SendMessage", &message).await.map(drop)
    }

    async fn call(&mut self, operation: &str, body: &Value) -> Outcome<Value> {
        let (message, host, headers) = (body.to_string(), &self.host, &self.headers);
        let request = format!(
            "POST / HTTP/1.1\r\nhost: {host}\r\nx-amz-target: {operation}\r\n{headers}\
             content-type: application/x-amz-json-1.0\r\ncontent-length: {}\r\n\r\n{message}",
            message.len()
        );
        self.stream.write_all(request.as_bytes()).await.map_err(text)?;
        let (mut line, mut status, mut length) = (String::new(), String::new(), 0);
        loop {
            line.clear();
            self.stream.read_line(&mut line).await.map_err(text)?;
            if status.is_empty() {
                status.clone_from(&line);
            }
            if line.trim_end().is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim_end().parse().map_err(text)?;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await.map_err(text)?;
        if status.starts_with("HTTP/1.1 200") {
            serde_json::from_slice(&body).map_err(text)
        } else {
            Err(format!("{operation}: {status}"))
        }
    }
}
