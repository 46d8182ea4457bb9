"""The memory of the functions at the documented limits.

Each function runs under the runtime emulator with its data limited to its MemorySize, and handles the largest
input that the limits of docs/SEMANTICS.md allow. Its peak resident memory must be at most half of its MemorySize.
"""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .template import parsed
from .tools import client, expect, ulid_time
from .tools import event as sample

KB, MB = 1024, 1024 * 1024
# Of MemorySize.
SHARE_MAX = 0.5
WEBHOOKS = 100
OWNER = "user-with-much"
# The size of the largest `data` of an event and of the largest body of an API request.
DATA, BODY = 256 * KB, 64 * KB
ATTEMPTS = 21
DUE_ROWS = 5_000


class BadReceiver:
    """An endpoint that answers 500 with headers and a body that are larger than what is kept of them."""

    def __init__(self):
        body, header = b"x" * MB, "y" * (8 * KB)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                self.rfile.read(int(self.headers.get("content-length", 0)))
                self.send_response(500)
                for n in range(4):
                    self.send_header(f"x-large-{n}", header)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                try:
                    self.wfile.write(body)
                except OSError:
                    # The client reads no more than it needs.
                    self.close_connection = True

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def event(space, function, name, **about):
    """A file of events/ for a user of this check alone."""
    return json.loads(json.dumps(sample(space, function, name, **about)).replace("user-1", OWNER))


def memory_sizes(space):
    """The MemorySize of each function, in MB."""
    template = parsed(space)
    default = template["Globals"]["Function"].get("MemorySize")
    sizes = {}
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            properties = resource["Properties"]
            name = properties["CodeUri"].removeprefix("functions/")
            sizes[name] = properties.get("MemorySize", default)
    return sizes


def check(space, local, start):
    """`start` starts a function with a limit in MB under the emulator."""
    sizes, running = memory_sizes(space), {}

    def call(function, payload):
        if function not in running:
            running[function] = start(function, sizes[function])
        return running[function].invoke(payload, timeout=240)

    def api(function, name, status, body=None, **about):
        payload = event(space, function, name, **about)
        if body:
            payload.update({"body": json.dumps(body), "isBase64Encoded": False})
        if name == "list":
            payload.update({"rawQueryString": "limit=100", "queryStringParameters": {"limit": "100"}})
        answer = call(function, payload)
        expect(answer.get("statusCode") == status, f"{function}/{name}: {str(answer)[:500]}")
        return answer["body"]

    receiver = BadReceiver()
    webhooks = [json.loads(api("subscriptions", "create", 201, largest_webhook(receiver.url, n))) for n in range(WEBHOOKS)]
    size = len(api("subscriptions", "list", 200))
    about = {"webhook": webhooks[0]["id"], "millis": int(time.time() * 1000)}
    api("subscriptions", "update", 200, {"description": "d" * 1024}, **about)
    api("subscriptions", "stats", 200, **about)
    api("test-webhook", "test", 200, {"event_type": "email.received", "data": {"text": "t" * (BODY - 100)}}, **about)

    answer = call("deliver", largest_tasks(space, webhooks))
    expect("batchItemFailures" in answer, f"deliver: {str(answer)[:500]}")

    rows = fill_history(local, webhooks[1]["id"])
    answer = call("dispatch", largest_events(space))
    expect(answer == {"batchItemFailures": []}, f"dispatch: {str(answer)[:500]}")
    about = {**about, "webhook": webhooks[1]["id"]}
    # The page ends when it has read as much as it may, before it is full.
    largest = json.loads(api("delivery-history", "list", 200, **about))
    expect(largest["items"] and largest["next_cursor"], "the list has not read as much as it may")
    wait_many(local, webhooks[2]["id"], rows)
    call("retry", event(space, "retry", "every-five-minutes"))
    call("cleanup", event(space, "cleanup", "daily"))
    call("event-types", event(space, "event-types", "open-api"))
    call("console", event(space, "console", "file"))

    print(f"memory at the limits: {WEBHOOKS} webhooks in a list of {size / KB:.0f} KB, events and tasks of {DATA / KB:.0f} KB")
    print(f"{'function':18} {'peak MB':>8} {'MemorySize':>11} {'share':>6}")
    above = []
    for function, emulated in running.items():
        peak = emulated.status("VmHWM") / MB
        share = peak / sizes[function]
        print(f"{function:18} {peak:8.1f} {sizes[function]:11} {share:6.0%}", flush=True)
        if share > SHARE_MAX:
            above.append(f"{function} needs {peak:.0f} MB of {sizes[function]}")
        emulated.stop()
    expect(set(running) == set(sizes), f"not measured: {set(sizes) - set(running)}")
    expect(not above, "; ".join(above))


def largest_webhook(url, n):
    """Everything of a webhook that has a size, at its limit."""
    values = {f"x-own-{m}": "v" * 180 for m in range(20)}
    return {
        "url": f"{url}?{n}&{'u' * (2_040 - len(url) - len(str(n)))}",
        "event_types": ["*"],
        "description": "d" * 1024,
        "filter": {"text": [{"anything-but": "f" * (4 * KB - 100)}]},
        "headers": values,
        "retry_schedule": [86_400] * 7,
        "timeout_seconds": 60,
    }


def largest_events(space):
    payload = event(space, "dispatch", "events")
    first = payload["Records"][0]
    body = {"event_type": "email.received", "user_id": OWNER, "data": {"text": "d" * (DATA - 20)}}
    payload["Records"] = [
        {**first, "messageId": f"{n}", "body": json.dumps({**body, "event_id": f"evt_{n}"})} for n in range(10)
    ]
    return payload


def largest_tasks(space, webhooks):
    records = []
    for n, webhook in enumerate(webhooks[:10]):
        payload = event(space, "deliver", "tasks", webhook=webhook["id"])
        record = payload["Records"][0]
        body = json.loads(record["body"])
        body["first"].update({"data": {"text": "d" * (DATA - 20)}})
        # A task of the fast queue would only be moved, because the endpoints are new.
        arn = record["eventSourceARN"] + "-slow"
        records.append({**record, "messageId": f"{n}", "body": json.dumps(body), "eventSourceARN": arn})
    return {**payload, "Records": records}


def table(local):
    return client("dynamodb", local["dynamodb"]), local["deliveries_table"]


def fill_history(local, webhook):
    """More deliveries with the most attempts than a page can read, made from one that failed. Returns that one's
    row."""
    dynamodb, name = table(local)
    key = {":id": {"S": webhook}, ":low": {"S": "dlv_"}}
    pages = dynamodb.get_paginator("query").paginate(
        TableName=name,
        KeyConditionExpression="subscription_id = :id AND delivery_id > :low",
        ExpressionAttributeValues=key,
    )
    rows = (item for page in pages for item in page["Items"])
    row = next((item for item in rows if item.get("n", {}).get("N") == "1"), None)
    expect(row, "deliver wrote no record of a failed attempt")
    attempt = {
        "t": int(time.time() * 1000),
        "d": 60_000,
        "s": 500,
        "q": [],
        "h": [],
        "x": "x" * (4 * KB),
    }
    headers = [["x-large", "y" * (4 * KB)]]
    attempts = json.dumps([{**attempt, "q": headers, "h": headers}] * ATTEMPTS)
    millis = int(time.time() * 1000)
    for n in range(101):
        copy = {
            **{key: value for key, value in row.items() if not key.startswith("due_")},
            "delivery_id": {"S": f"dlv_{ulid_time(millis + n)}{row['delivery_id']['S'][-16:]}"},
            "s": {"S": "failed"},
            "n": {"N": str(ATTEMPTS)},
            "a": {"S": attempts},
        }
        copy.pop("x", None)
        dynamodb.put_item(TableName=name, Item=copy)
    return row


def wait_many(local, webhook, row):
    """Rows in the due index, all due."""
    dynamodb, name = table(local)
    millis = int(time.time() * 1000) - 86_400_000
    for first in range(0, DUE_ROWS, 25):
        puts = []
        for n in range(first, first + 25):
            item = {
                **row,
                "subscription_id": {"S": webhook},
                "delivery_id": {"S": f"dlv_{ulid_time(millis + n)}{row['delivery_id']['S'][-16:]}"},
                "due_shard": {"N": str(n % 4)},
                "due_at": {"N": str(millis + n)},
            }
            puts.append({"PutRequest": {"Item": item}})
        dynamodb.batch_write_item(RequestItems={name: puts})
