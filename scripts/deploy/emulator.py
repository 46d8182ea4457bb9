"""Every function under AWS's runtime emulator, against the endpoints of `cargo dev`.

The emulator comes with the SAM CLI. It does not measure the memory and the "Init Duration" that it
reports, so this step reads the init time from the emulator's log and the memory from the kernel.
"""

import json
import re
import statistics
import time
from pathlib import Path

import samcli

from . import memory
from .build import EMPTY, EMPTY_HTTP, MB, package
from .template import parsed
from .tools import (
    FUNCTIONS,
    Failed,
    Receiver,
    check_signatures,
    event,
    expect,
    free_port,
    http,
    local_system,
    wait_for,
)

# How often each function is started to measure its init. The functions take turns, so that other load
# on the machine slows all of them.
STARTS = 9
# The limit for the init time, as a multiple of the init time of an empty function.
INIT_RATIO_MAX = 2.0
# Above this share of time in which a runnable process waits for a processor, wall-clock times say more
# about the machine than about the functions: exceeding INIT_RATIO_MAX is then a warning.
BUSY_SHARE_MAX = 0.25
# The limit for the resident memory of an idle function, in bytes.
MEMORY_MAX = 32 * 1024 * 1024
# The functions on `lambda_http`.
# Variables that may be missing and have any value, and those that may be missing.
ANY_TEXT = ("OPERATIONAL_EVENT_BUS", "SECRETS_KEYS_VERSION", "OIDC_CLIENT_ID", "OIDC_SCOPE")
HAS_DEFAULT = (
    "DEFAULT_RETRY_SCHEDULE",
    "ENDPOINT_VERIFICATION",
    "OIDC_CONNECT_ORIGINS",
    "OIDC_ISSUER",
    "STRICT_EVENT_DATA",
    "PROBLEM_BASE_URL",
    "RETENTION_DAYS",
    "TARGET_POLICY",
)
API_FUNCTIONS = ("event-types", "console", "subscriptions", "delivery-history", "test-webhook")
INVOKE = "/2015-03-31/functions/function/invocations"


class Emulated:
    """A function that runs under the emulator."""

    def __init__(self, space, function, environment, timeout=60, data_mb=None):
        self.space, self.port = space, free_port()
        name = {"x86_64": "aws-lambda-rie-x86_64", "arm64": "aws-lambda-rie-arm64"}[space.machine]
        rie = space.work / name
        if not rie.exists():
            rie.write_bytes((Path(samcli.__file__).parent / "local/rapid" / name).read_bytes())
            rie.chmod(0o755)
        self.log = f"emulator-{function}.log"
        self.process = space.start(
            *(rie, "--runtime-interface-emulator-address", f"127.0.0.1:{self.port}"),
            # The emulator, too, reads LOG_LEVEL. Its own level stays.
            *("--log-level", "info", "--runtime-api-address", f"127.0.0.1:{free_port()}"),
            space.binary(function) if data_mb is None else self.limited(function, data_mb),
            log=self.log,
            # Without the variables of this shell.
            env={
                "PATH": "/usr/bin:/bin",
                "AWS_LAMBDA_FUNCTION_NAME": function,
                "AWS_LAMBDA_FUNCTION_TIMEOUT": str(timeout),
                **environment,
            },
            clean_env=True,
        )
        wait_for(f"the emulator of {function}", self.listens, 10, self.process)

    def limited(self, function, data_mb):
        """A program that runs the function with its data limited."""
        program = self.space.work / f"limited-{function}"
        program.write_text(f"#!/bin/sh\nulimit -d {data_mb * 1024} && exec {self.space.binary(function)}\n")
        program.chmod(0o755)
        return program

    def listens(self):
        try:
            http("GET", f"http://127.0.0.1:{self.port}/", timeout=2)
            return True
        except OSError:
            return False

    def invoke(self, payload, timeout=90):
        _, body = http("POST", f"http://127.0.0.1:{self.port}{INVOKE}", json.dumps(payload), timeout=timeout)
        try:
            return json.loads(body) if body else None
        except ValueError:
            raise Failed(f"the emulator answered {body[:300]}: {self.text()[-2000:]}") from None

    def text(self):
        return (self.space.work / self.log).read_text(errors="replace")

    def init_ms(self):
        found = re.search(r"INIT REPORT\(durationMs: ([0-9.]+)\)", self.text())
        expect(found, f"no init in the log of the emulator: {self.text()[-2000:]}")
        return float(found[1])

    def status(self, field):
        """A figure of the function's process, in bytes."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        # The emulator is written in Go and starts the function from any of its threads.
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        pids = [pid for task in tasks for pid in (task / "children").read_text().split()]
        expect(pids, f"no function runs under {children}")
        status = Path(f"/proc/{pids[0]}/status").read_text()
        return int(re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)[1]) * 1024

    def stop(self):
        self.space.stop(self.process)


def variables(space, function):
    """The names of the variables that the template gives a function."""
    resources = parsed(space)["Resources"].values()
    mine = next(
        r["Properties"]
        for r in resources
        if r["Type"] == "AWS::Serverless::Function" and r["Properties"]["CodeUri"] == f"functions/{function}"
    )
    return list(mine.get("Environment", {}).get("Variables", {}))


def environment(space, function, local):
    """The variables that the template gives a function, with values for the local system."""
    file = json.loads((space.root / "events/env.json").read_text())["Parameters"]
    values = {
        **file,
        "OIDC_ISSUER": "https://id.example.com/pool",
        "OIDC_CLIENT_ID": "console",
        "OIDC_SCOPE": "openid",
        "OIDC_CONNECT_ORIGINS": "",
        "DELIVERIES_QUEUE_URL": local["deliveries_queue_url"],
        "DELIVERIES_SLOW_QUEUE_URL": f"{local['deliveries_queue_url']}-slow",
        "EVENTS_DLQ_URL": f"{local['events_queue_url']}-dlq",
        "SUBSCRIPTIONS_TABLE": local["subscriptions_table"],
        "DELIVERIES_TABLE": local["deliveries_table"],
        "AWS_ENDPOINT_URL_DYNAMODB": local["dynamodb"],
        "AWS_ENDPOINT_URL_SQS": local["sqs"],
    }
    wanted = [*variables(space, function), *(name for name in values if name.startswith("AWS_"))]
    return {name: values[name] for name in wanted}


def check(space):
    # A release build, because a function that opens a connection at init waits for its answer.
    process, local = local_system(space, release=True)
    receiver = Receiver()
    answers = check_answers(space, local, receiver)
    print(f"{answers} events of events/ are answered as expected")
    check_bad_configuration(space, local)
    check_logs(space, local, receiver)
    table(space, local)
    memory.check(
        space, local, lambda f, size: Emulated(space, f, environment(space, f, local), timeout=300, data_mb=size)
    )
    space.stop(process)


def check_answers(space, local, receiver):
    """Invokes the functions with every file of events/, in an order in which each finds its rows."""
    running = {f: Emulated(space, f, environment(space, f, local)) for f in FUNCTIONS}

    def call(function, name, status=None, **about):
        seen.add((function, name))
        answer = running[function].invoke(event(space, function, name, **about))
        if status:
            expect(answer.get("statusCode") == status, f"{function}/{name}: {answer}")
            return json.loads(answer.get("body") or "null")
        return answer

    seen = set()
    expect(call("event-types", "list", 200)["total"] == 17, "the catalogue is incomplete")
    expect("/api/webhooks" in call("event-types", "open-api", 200)["paths"], "openapi.yaml lacks routes")
    for method in ("get", "head", "post", "put", "patch", "delete"):
        call("event-types", f"fallback-{method}", 405)
    for name, kind in [("page", "text/html"), ("file", "text/javascript")]:
        seen.add(("console", name))
        answer = running["console"].invoke(event(space, "console", name))
        found = answer["headers"]["content-type"]
        expect(answer["statusCode"] == 200 and found.startswith(kind), f"console/{name}: {answer}")
    creation = event(space, "subscriptions", "create")
    seen.add(("subscriptions", "create"))
    creation["body"] = json.dumps({**json.loads(creation["body"]), "url": receiver.url})
    created = running["subscriptions"].invoke(creation)
    expect(created["statusCode"] == 201, f"create: {created}")
    webhook = json.loads(created["body"])
    about = {"webhook": webhook["id"], "millis": int(time.time() * 1000) // 1000 * 1000}

    expect(len(call("subscriptions", "list", 200)["items"]) == 1, "the list does not have the webhook")
    expect(call("subscriptions", "get", 200, **about)["url"] == receiver.url, "the webhook differs from the created one")
    expect(call("subscriptions", "update", 200, **about)["retry_count"] == 5, "not updated")
    expect(call("test-webhook", "test", 200, **about)["success"], "the test failed")

    failures = call("dispatch", "events", **about)["batchItemFailures"]
    expect(failures == [], f"dispatch: {failures}")
    receiver.requests.clear()
    failures = call("deliver", "tasks", **about)["batchItemFailures"]
    expect(failures == [], f"deliver: {failures}")
    expect(receiver.requests, "deliver sent nothing")
    failures = call("deliver", "slow-tasks", **about)["batchItemFailures"]
    expect(failures == [], f"deliver, slow queue: {failures}")
    _, headers, body = receiver.requests[0]
    check_signatures(headers, body, webhook["secret"])

    expect(call("delivery-history", "list", 200, **about)["items"], "the history is empty")
    expect(call("delivery-history", "list-all", 200, **about)["items"], "the history of all webhooks is empty")
    call("subscriptions", "stats", 200, **about)
    call("test-webhook", "verify", 200, **about)
    expect(call("delivery-history", "get", 200, **about)["status"] == "success", "not a success")
    call("delivery-history", "redeliver", 202, **about)
    recovery = call("delivery-history", "recover", 202, **about)["id"]
    expect(len(call("delivery-history", "list-recoveries", 200, **about)["items"]) == 1, "no recovery is listed")
    call("delivery-history", "get-recovery", 200, **about, recovery=recovery)
    call("delivery-history", "cancel-recovery", 204, **about, recovery=recovery)
    rotated = call("subscriptions", "rotate-secret", 200, **about)
    expect(rotated["secret"] != webhook["secret"], "the secret did not change")
    expect(call("retry", "every-five-minutes")["refused"] == 0, "retries were refused")
    expect(call("cleanup", "daily")["finished"], "the cleanup did not finish")
    call("subscriptions", "delete", 204, **about)
    call("subscriptions", "delete-all", 202, **about)

    files = {(path.parent.name, path.stem) for path in (space.root / "events").glob("*/*.json")}
    expect(seen == files, f"not run: {sorted(files - seen)}")
    for emulated in running.values():
        emulated.stop()
    return len(seen)


def check_bad_configuration(space, local):
    """A missing or invalid variable ends the init with one line that names the variable."""
    cases = 0
    for function in FUNCTIONS:
        good = environment(space, function, local)
        bad = [("LOG_LEVEL", "loud")]
        for name in variables(space, function):
            # Any text is a bus, a version, an id or a scope, and none is needed. Only resealing reads the keys
            # in the cleanup.
            if name in ANY_TEXT or (function, name) == ("cleanup", "SECRETS_KEYS"):
                continue
            # A variable with a default may be missing, but not invalid.
            bad.append((name, "no such value" if name in HAS_DEFAULT else None))
        for name, value in bad:
            environ = {k: v for k, v in good.items() if k != name}
            if value is not None:
                environ[name] = value
            ran = run_alone(space, function, environ)
            lines = [line for line in ran.splitlines() if name in line]
            expect(len(lines) == 1, f"{function} without a good {name} says {ran!r}")
            cases += 1
    print(f"{cases} bad configurations end the init with one line that names the variable")


def check_logs(space, local, receiver):
    """At no level does a log line have a token, a signing secret or the data of an event."""
    token, data = "token-that-nobody-may-see", "data-that-nobody-may-see"
    creation = event(space, "subscriptions", "create")
    creation["headers"]["authorization"] = f"Bearer {token}"
    creation["body"] = json.dumps({**json.loads(creation["body"]), "url": receiver.url})
    events = event(space, "dispatch", "events")
    for record in events["Records"]:
        record["body"] = json.dumps({**json.loads(record["body"]), "data": {"text": data}})
    for level in ("off", "error", "warn", "info", "debug", "trace"):
        found = {}
        for function, payload in [("subscriptions", creation), ("dispatch", events)]:
            environ = {**environment(space, function, local), "LOG_LEVEL": level}
            emulated = Emulated(space, function, environ)
            found[function] = emulated.invoke(payload)
            secret = json.loads(found[function].get("body") or "{}").get("secret", token)
            text = emulated.text()
            emulated.stop()
            for hidden in (token, data, secret):
                expect(hidden not in text, f"{function} logs {hidden} at the level {level}")
            # So that the check does not pass because nothing is logged.
            has_line = "by a user" in text or "events dispatched" in text
            expect(has_line == (level in ("info", "debug", "trace")), f"{function} at {level}: {text}")
    print("no log line has a token, a secret or data, at any level")


def run_alone(space, function, environ):
    import subprocess

    # Without an emulator, because the function must end before it asks for an event. Nothing listens
    # on this port.
    ran = subprocess.run(
        [space.binary(function)],
        env={
            **environ,
            "AWS_LAMBDA_FUNCTION_NAME": function,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
            "AWS_LAMBDA_FUNCTION_VERSION": "1",
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{free_port()}",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=20,
        check=False,
    )
    expect(ran.returncode not in (0, 101), f"{function} ended with {ran.returncode}: {ran.stdout}")
    return ran.stdout


def measure(space, environments):
    """Median init time and largest resident memory of several starts of each function."""
    inits, resident = {function: [] for function in environments}, {}
    for _ in range(STARTS):
        for function, environ in environments.items():
            emulated = Emulated(space, function, environ)
            emulated.invoke({})
            inits[function].append(emulated.init_ms())
            resident[function] = max(emulated.status("VmRSS"), resident.get(function, 0))
            emulated.stop()
    return {function: statistics.median(times) for function, times in inits.items()}, resident


def processor_wait():
    """The seconds since boot in which at least one runnable process waited for a processor."""
    try:
        return int(re.search(r"total=(\d+)", Path("/proc/pressure/cpu").read_text())[1]) / 1_000_000
    except OSError:
        return 0.0


def table(space, local):
    environments = {EMPTY: {}, EMPTY_HTTP: {}, **{f: environment(space, f, local) for f in FUNCTIONS}}
    waited, began = processor_wait(), time.monotonic()
    inits, resident = measure(space, environments)
    busy = (processor_wait() - waited) / (time.monotonic() - began)
    print(f"init: median of {STARTS} starts; memory: the largest of them, after one event")
    print(f"a runnable process waited for a processor {busy:.0%} of the time")
    print(f"{'function':14} {'init ms':>8} {'of empty':>9} {'memory MB':>10} {'zipped MB':>10}")
    found = []
    for function in environments:
        empty = EMPTY_HTTP if function in API_FUNCTIONS else EMPTY
        ratio = inits[function] / inits[empty]
        size = package(space.binary(function).parent)
        print(
            f"{function:14} {inits[function]:8.1f} {ratio:9.2f}"
            f" {resident[function] / MB:10.1f} {size / MB:10.2f}",
            flush=True,
        )
        if ratio > INIT_RATIO_MAX:
            slow = f"the init of {function} takes {ratio:.2f} times that of an empty function"
            if busy > BUSY_SHARE_MAX:
                space.warn(f"{slow}, measured on a busy machine")
            else:
                found.append(slow)
        if resident[function] > MEMORY_MAX:
            found.append(f"{function} holds {resident[function] / MB:.1f} MB when idle")
    expect(not found, "; ".join(found))
