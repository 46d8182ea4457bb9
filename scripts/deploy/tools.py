"""Shared by all steps: running tools, starting and stopping processes, waiting, HTTP."""

import hashlib
import hmac
import base64
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3

FUNCTIONS = [
    "event-types",
    "console",
    "subscriptions",
    "test-webhook",
    "delivery-history",
    "dispatch",
    "deliver",
    "retry",
    "cleanup",
]
# Servers on this machine have no region; the clients need one.
REGION = "us-east-1"
# The ids in the files of events/. The steps replace them with real ones.
SAMPLE_WEBHOOK = "wh_01KG9Z6QK00000000000000001"
SAMPLE_RECOVERY = "rec_01KG9Z6QK00000000000000003"
SAMPLE_DELIVERY = "dlv_01KG9Z6QK00000000000000002"
SAMPLE_MILLIS = "1769851800000"
SAMPLE_TIME = "2026-01-31T09:30:00.000Z"
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


# How often a tool that runs for long prints a line.
PROGRESS_SECONDS = 60


class Failed(Exception):
    """A check did not pass."""


def expect(condition, message):
    if not condition:
        raise Failed(message)


class Workspace:
    """The folders of a run, and the processes that it started."""

    def __init__(self, root, work, target, arm64):
        self.root, self.work, self.target, self.arm64 = root, work, target, arm64
        self.bin = Path(sys.prefix) / "bin"
        machine = platform.machine()
        self.machine = {"aarch64": "arm64", "arm64": "arm64"}.get(machine, "x86_64")
        self.processes, self.warnings = [], []
        # Overrides the credentials of the shell, so that no step reaches a real account.
        os.environ |= {
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN"):
            os.environ.pop(name, None)
        self.env = {
            **os.environ,
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
            "CARGO_TARGET_DIR": str(target),
            "SAM_CLI_TELEMETRY": "0",
        }

    def __enter__(self):
        # SIGTERM also stops the processes that this run started.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        return self

    def __exit__(self, *_):
        self.stop_all()

    def stop_all(self):
        for process in list(reversed(self.processes)):
            self.stop(process)

    def run(self, *command, env=None):
        """Runs a tool to its end and returns its output. Prints a line for each minute that it takes."""
        command = [str(part) for part in command]
        began = time.monotonic()
        with tempfile.TemporaryFile("w+", errors="replace") as output:
            tool = subprocess.Popen(
                command,
                cwd=self.root,
                env=env or self.env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self.processes.append(tool)
            while True:
                try:
                    status = tool.wait(PROGRESS_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    # The tool shares the file's offset, so this reads without moving it.
                    end = os.fstat(output.fileno()).st_size
                    tail = os.pread(output.fileno(), 300, max(0, end - 300))
                    last = tail.decode(errors="replace").strip().rpartition("\n")[2]
                    took = time.monotonic() - began
                    print(f"  {' '.join(command[:2])}: {took:.0f} s so far: {last}", flush=True)
            self.processes.remove(tool)
            output.seek(0)
            text = output.read()
        expect(status == 0, f"{' '.join(command)}\n{text}")
        return text

    def warn(self, message):
        """A finding that does not fail the run. The summary repeats it."""
        print(f"WARNING: {message}", flush=True)
        self.warnings.append(message)

    def start(self, *command, log, env, clean_env=False):
        """Starts a process in a group of its own; its output goes to a file."""
        with open(self.work / log, "wb") as out:
            process = subprocess.Popen(
                [str(part) for part in command],
                cwd=self.work,
                env=env if clean_env else {**self.env, **env},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def stop(self, process):
        """Ends a process and what it started."""
        for number, patience in [(signal.SIGTERM, 10), (signal.SIGKILL, 10)]:
            try:
                # The whole group: otherwise the emulator's function outlives the emulator.
                os.killpg(process.pid, number)
                process.wait(patience)
            except (ProcessLookupError, PermissionError):
                break
            except subprocess.TimeoutExpired:
                continue
        if process in self.processes:
            self.processes.remove(process)

    def binary(self, function):
        """The bootstrap of a function for this machine."""
        return self.work / "build" / self.machine / function / "bootstrap"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(what, check, seconds=30, process=None):
    """Waits until `check` returns something, and returns it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        expect(process is None or process.poll() is None, f"{what}: its process has ended")
        found = check()
        if found:
            return found
        time.sleep(0.05)
    raise Failed(f"{what}: did not happen within {seconds} s")


def http(method, url, body=None, headers=None, timeout=30):
    """Sends one request. Returns status and body, whatever the status."""
    data = body.encode() if isinstance(body, str) else body
    request = urllib.request.Request(url, data=data, method=method, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def client(service, url, **options):
    """A client for an endpoint on this machine, with the credentials that it expects."""
    keys = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}
    return boto3.client(service, endpoint_url=url, region_name=REGION, **keys, **options)


def answers(url):
    try:
        return http("GET", url, timeout=2)[0] == 200
    except OSError:
        return False


def ulid_time(millis):
    """The first ten characters of an id of this moment."""
    text = ""
    for _ in range(10):
        text = CROCKFORD[millis % 32] + text
        millis //= 32
    return text


def event(space, function, name, webhook=SAMPLE_WEBHOOK, millis=None, recovery=SAMPLE_RECOVERY):
    """A file of events/ with this webhook, moment and recovery in place of the samples."""
    text = (space.root / "events" / function / f"{name}.json").read_text()
    millis = millis or int(time.time() * 1000)
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(millis / 1000)) + ".000Z"
    delivery = f"dlv_{ulid_time(millis)}{SAMPLE_DELIVERY[-16:]}"
    for sample, real in [
        (SAMPLE_WEBHOOK, webhook),
        (SAMPLE_DELIVERY, delivery),
        (SAMPLE_RECOVERY, recovery),
        (SAMPLE_MILLIS, str(millis)),
        (SAMPLE_TIME, moment),
    ]:
        text = text.replace(sample, real)
    return json.loads(text)


class Receiver:
    """An endpoint that records the webhooks it receives. It answers with the statuses and headers of
    `script` in turn, then with 200."""

    def __init__(self):
        self.requests, self.script = [], []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                receiver.requests.append((time.time(), dict(self.headers.items()), body))
                status, answer = receiver.script.pop(0) if receiver.script else (200, {})
                self.send_response(status)
                for name, value in {**answer, "content-length": "0"}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def check_signatures(headers, body, secret):
    """Verifies both signatures of a webhook as docs/WEBHOOKS.md describes."""
    headers = {name.lower(): value for name, value in headers.items()}
    own = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    expect(headers["x-webhook-signature"] == f"sha256={own}", "X-Webhook-Signature is wrong")
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    standard = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    expect(f"v1,{standard}" in headers["webhook-signature"].split(), "webhook-signature is wrong")


def local_system(space, release=False):
    """Starts `cargo dev` on free ports. Returns the process and the answer of /_local/ready."""
    # The debug build is the one of `cargo test --workspace`.
    selection = ["--release", "--bin", "dev"] if release else ["--bin", "dev"]
    space.run("cargo", "build", "--locked", *selection)
    profile = "release" if release else "debug"
    ports = {name: free_port() for name in ["api", "sqs", "dynamodb", "receiver"]}
    flags = [part for name in ports for part in (f"--{name}-addr", f"127.0.0.1:{ports[name]}")]
    process = space.start(space.target / profile / "dev", *flags, log="dev.log", env={})
    url = f"http://127.0.0.1:{ports['api']}/_local/ready"
    wait_for("cargo dev", lambda: answers(url), 60, process)
    return process, json.loads(http("GET", url)[1])
