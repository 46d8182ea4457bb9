"""What a delivery, an event and an API request take: instructions, processor time, log bytes.

The functions run as they are deployed, over a runtime API that gives them one event after the other,
against the endpoints of `cargo dev`. What a second half of events adds to a first half is counted, so
that the init does not count. Instructions are counted by Valgrind and do not depend on the machine's
load; a difference of more than 5 % from tests/bench/work.json is a warning. Times and log bytes are for `bench cost` and are not
compared. A run writes its figures to work.json in the working folder: copy that over the recorded file
when a change of the figures is wanted.
"""

import json
import platform
import re
import resource
import shutil
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .emulator import environment
from .tools import Receiver, event, expect, local_system, ulid_time

FIGURES = "tests/bench/work.json"
DATA = "shared/aws/tests/data/payload-1kb.json"
# A figure may differ from the recorded one by this share.
BOUND = 0.05
# Invocations of each half.
HALF = 20


class Runtime:
    """Lambda's runtime API: gives a function these events, then nothing more."""

    def __init__(self, events):
        self.events, self.answers, self.done = list(events), [], threading.Event()
        runtime = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                if not runtime.events:
                    runtime.done.set()
                    time.sleep(600)
                    return
                self.answer(200, runtime.events.pop(0))

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                runtime.answers.append((self.path.rpartition("/")[2], json.loads(body)))
                self.answer(202, {})

            def answer(self, status, body):
                body = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("lambda-runtime-aws-request-id", str(len(runtime.answers)))
                deadline = int(time.time() * 1000) + 60_000
                self.send_header("lambda-runtime-deadline-ms", str(deadline))
                self.send_header("lambda-runtime-invoked-function-arn", "arn:aws:lambda:::function:f")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def start(space, local, function, runtime, before=()):
    return space.start(
        *before,
        space.binary(function),
        log=f"work-{function}.log",
        env={
            "PATH": "/usr/bin:/bin",
            "AWS_LAMBDA_FUNCTION_NAME": function,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
            "AWS_LAMBDA_FUNCTION_VERSION": "1",
            "AWS_LAMBDA_RUNTIME_API": runtime.address,
            **environment(space, function, local),
        },
        clean_env=True,
    )


def run(space, local, function, events, counted):
    """Has a function handle the events. Returns instructions or processor time in ms, and log bytes."""
    runtime, out = Runtime(events), space.work / "callgrind.out"
    valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"] if counted else []
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = start(space, local, function, runtime, valgrind)
    finished = runtime.done.wait(300)
    space.stop(process)
    runtime.stop()
    text = (space.work / f"work-{function}.log").read_text(errors="replace")
    expect(finished, f"{function} did not finish: {text[-2000:]}")
    for path, answer in runtime.answers:
        good = path == "response" and not answer.get("batchItemFailures")
        expect(good and answer.get("statusCode", 200) == 200, f"{function} answered {answer}")
    logs = sum(len(line) + 1 for line in text.splitlines() if line.startswith("{"))
    if counted:
        return int(re.search(r"^(?:totals|summary): (\d+)", out.read_text(), re.MULTILINE)[1]), logs
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds * 1000, logs


class Works:
    """The events of each kind of work. Every delivery is a new one."""

    def __init__(self, space, local):
        self.space, self.number = space, 0
        self.data = json.loads((space.root / DATA).read_text())
        receiver = Receiver()
        runtime = Runtime([self.api("subscriptions", "create", {"url": receiver.url})])
        process = start(space, local, "subscriptions", runtime)
        runtime.done.wait(60)
        space.stop(process)
        runtime.stop()
        expect(runtime.answers, "no webhook was created")
        self.webhook = json.loads(runtime.answers[0][1]["body"])["id"]

    def api(self, function, name, body=None, **about):
        request = event(self.space, function, name, **about)
        if body:
            request["body"] = json.dumps({**json.loads(request["body"]), **body})
        return request

    def get_webhook(self, _):
        return self.api("subscriptions", "get", webhook=self.webhook)

    def list_deliveries(self, _):
        return self.api("delivery-history", "list", webhook=self.webhook)

    def messages(self, function, name, fill, body):
        batch = event(self.space, function, name, webhook=self.webhook)
        template, batch["Records"] = batch["Records"][0], []
        for _ in range(fill):
            self.number += 1
            millis = int(time.time() * 1000)
            record = json.loads(json.dumps(template))
            task = json.loads(record["body"])
            body(task, f"{self.number:016}", millis)
            record["body"] = json.dumps(task)
            record["messageId"] = f"m{self.number}"
            record["receiptHandle"] = f"r{self.number}"
            batch["Records"].append(record)
        return batch

    def tasks(self, fill):
        def body(task, number, millis):
            task["delivery_id"] = f"dlv_{ulid_time(millis)}{number}"
            task["first"] |= {"event_id": f"e{number}", "data": self.data}

        return self.messages("deliver", "tasks", fill, body)

    def events(self, fill):
        def body(published, number, _):
            published |= {"event_id": f"e{number}", "data": self.data}

        return self.messages("dispatch", "events", fill, body)


def measure(space, local, function, make, fill):
    """Instructions, processor ms and log bytes of one unit."""

    def difference(counted):
        halves = [[make(fill) for _ in range(HALF * times)] for times in (1, 2)]
        first, both = (run(space, local, function, events, counted) for events in halves)
        return [(more - less) / (HALF * fill) for less, more in zip(first, both)]

    count, logs = difference(counted=True)
    cpu, _ = difference(counted=False)
    return count, cpu, logs


def check(space):
    if shutil.which("valgrind") is None or platform.machine() != "x86_64":
        space.warn("instructions are not counted: that needs Valgrind on x86-64")
        return
    recorded = json.loads((space.root / FIGURES).read_text())
    process, local = local_system(space, release=True)
    works = Works(space, local)
    kinds = {
        "delivery, batches of 10": ("deliver", works.tasks, 10),
        "delivery, batches of 1": ("deliver", works.tasks, 1),
        "event, batches of 10": ("dispatch", works.events, 10),
        "event, batches of 1": ("dispatch", works.events, 1),
        "GET a webhook": ("subscriptions", works.get_webhook, 1),
        "GET its deliveries": ("delivery-history", works.list_deliveries, 1),
    }
    print(f"{'unit':24} {'instructions':>13} {'recorded':>10} {'CPU ms':>8} {'log bytes':>10}")
    found, units = [], {}
    for kind, (function, make, fill) in kinds.items():
        count, cpu, logs = measure(space, local, function, make, fill)
        before = recorded["units"].get(kind, {}).get("instructions", 0)
        print(f"{kind:24} {count:13.0f} {before:10} {cpu:8.3f} {logs:10.0f}", flush=True)
        units[kind] = {"instructions": round(count), "cpu_ms": round(cpu, 3), "log_bytes": round(logs)}
        if abs(count - before) > BOUND * before:
            found.append(f"{kind}: {count:.0f} instructions, {before} are recorded in {FIGURES}")
    space.stop(process)
    measured = {**recorded, "measured": time.strftime("%Y-%m-%d"), "units": units}
    (space.work / "work.json").write_text(json.dumps(measured, indent=2) + "\n")
    for difference in found:
        space.warn(difference)
