"""scripts/smoke_test.py and scripts/redrive.py against `cargo dev`."""

import json
import sys

from .tools import client, expect, http, local_system, wait_for

USER = "smoke"


def check(space):
    process, local = local_system(space)
    token = space.run(space.target / "debug/dev", "token", USER).strip()
    command = [sys.executable, space.root / "scripts/smoke_test.py", "--url", local["api"]]
    print(
        space.run(
            *(*command, "--token", token),
            *("--queue-url", local["events_queue_url"], "--endpoint-url", local["sqs"]),
        ).rstrip()
    )
    check_redrive(space, local, token)
    expect(process.poll() is None, "cargo dev has ended")
    space.stop(process)


def check_redrive(space, local, token):
    """A redriven event keeps the id and the time with which it was accepted."""

    def api(method, path, body=None):
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        status, answer = http(method, local["api"] + path, json.dumps(body) if body else None, headers)
        expect(status < 300, f"{method} {path}: {status} {answer}")
        return json.loads(answer)

    webhook = {"url": "https://webhooks-smoke-test.example/hook", "event_types": ["email.received"]}
    webhook = api("POST", "/api/webhooks", {**webhook, "retry_count": 0})
    sqs = client("sqs", local["sqs"])
    queue = local["events_queue_url"]
    event = json.dumps({"event_type": "email.received", "user_id": USER, "data": {}})
    message_id = sqs.send_message(QueueUrl=f"{queue}-dlq", MessageBody=event)["MessageId"]
    output = space.run(
        *(sys.executable, space.root / "scripts/redrive.py", "--endpoint-url", local["sqs"]),
        *("--from-url", f"{queue}-dlq", "--to-url", queue),
    )
    expect("1 messages sent, 0 left" in output, output)

    def delivered():
        page = api("GET", f"/api/webhooks/{webhook['id']}/deliveries")
        return [delivery["event_id"] for delivery in page["items"]]

    found = wait_for("the redriven event", delivered, 60)
    expect(found == [message_id], f"the event {message_id} became {found}")
    print("a redriven event has the id of its acceptance")
