#!/usr/bin/env python3
"""Checks a deployment in ten steps.

    python3 scripts/smoke_test.py --url https://… --token TOKEN --queue-url https://sqs…

Needs Python, and the AWS CLI or boto3 to send to the queue. Creates a webhook for a host that does not exist
(RFC 2606), and deletes it at the end.
"""

import argparse
import base64
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

TARGET = "https://webhooks-smoke-test.example/hook"


class Api:
    def __init__(self, url, token):
        self.url, self.token = url.rstrip("/"), token

    def call(self, method, path, body=None, token=None):
        headers = {"content-type": "application/json"}
        token = self.token if token is None else token
        if token:
            headers["authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=35) as answer:
                text, status = answer.read().decode(), answer.status
        except urllib.error.HTTPError as error:
            text, status = error.read().decode(), error.code
        return status, json.loads(text) if text else None


def user_of(token):
    """The `sub` of a JWT, which is the user."""
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["sub"]


def send(queue_url, body, endpoint_url, region):
    """Sends a message with the AWS SDK for Python if it is installed, else with the AWS CLI."""
    try:
        import boto3
    except ImportError:
        command = ["aws", "sqs", "send-message", "--queue-url", queue_url, "--message-body", body]
        command += ["--endpoint-url", endpoint_url] if endpoint_url else []
        command += ["--region", region] if region else []
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    else:
        client = boto3.client("sqs", endpoint_url=endpoint_url, region_name=region)
        client.send_message(QueueUrl=queue_url, MessageBody=body)


class Smoke:
    def __init__(self, api, user, queue_url, endpoint_url, region):
        self.api, self.user, self.queue_url = api, user, queue_url
        self.endpoint_url, self.region = endpoint_url, region
        self.webhook, self.event_type, self.event_id = None, None, f"smoke-{uuid.uuid4()}"

    def checks(self):
        return [
            ("a request without a token is refused", self.no_token),
            ("a request with a bad token is refused", self.bad_token),
            ("every event type of the catalogue is listed", self.catalogue),
            ("an invalid webhook is refused and both fields are named", self.bad_webhook),
            ("a webhook is created, with a secret", self.create),
            ("the list has the webhook, without its secret", self.listed),
            ("a test is attempted and recorded", self.test),
            ("an event on the queue becomes a delivery", self.deliver),
            ("another user's webhook returns 404", self.foreign),
            ("the webhook is deleted", self.delete),
        ]

    def no_token(self):
        return self.api.call("GET", "/api/webhooks", token="")[0] == 401

    def bad_token(self):
        return self.api.call("GET", "/api/webhooks", token="no.such.token")[0] in (401, 403)

    def catalogue(self):
        status, body = self.api.call("GET", "/api/webhooks/event-types")
        self.event_type = body["items"][0]
        files = (Path(__file__).parent.parent / "catalogue").glob("*.json")
        return status == 200 and {item["name"] for item in body["items"]} == {file.stem for file in files}

    def bad_webhook(self):
        status, body = self.api.call("POST", "/api/webhooks", {"url": "ftp://x", "event_types": []})
        return status == 422 and len(body["errors"]) == 2

    def create(self):
        types = [self.event_type["name"]]
        webhook = {"url": TARGET, "event_types": types, "retry_count": 0, "timeout_seconds": 5}
        status, self.webhook = self.api.call("POST", "/api/webhooks", webhook)
        return status == 201 and self.webhook["secret"].startswith("whsec_")

    def path(self, rest=""):
        return f"/api/webhooks/{self.webhook['id']}{rest}"

    def listed(self):
        status, body = self.api.call("GET", "/api/webhooks?limit=100")
        mine = [webhook for webhook in body["items"] if webhook["id"] == self.webhook["id"]]
        return status == 200 and len(mine) == 1 and "secret" not in mine[0]

    def test(self):
        status, body = self.api.call("POST", self.path("/test"))
        # The attempt fails because the host does not exist. This checks that it was made.
        return status == 200 and body["success"] is False and bool(body["delivery_id"])

    def deliver(self):
        event = {
            "event_type": self.event_type["name"],
            "user_id": self.user,
            "event_id": self.event_id,
            "data": self.event_type["example"],
        }
        send(self.queue_url, json.dumps(event), self.endpoint_url, self.region)
        for _ in range(60):
            _, body = self.api.call("GET", self.path("/deliveries"))
            found = [d for d in body["items"] if d["event_id"] == self.event_id]
            if found and found[0]["status"] == "failed":
                return True
            time.sleep(1)
        return False

    def foreign(self):
        return self.api.call("GET", "/api/webhooks/wh_01KG9Z6QK00000000000000001")[0] == 404

    def delete(self):
        status, _ = self.api.call("DELETE", self.path())
        return status == 204 and self.api.call("GET", self.path())[0] == 404


def run(smoke):
    """Runs all checks. Returns the number of failures."""
    failed = 0
    for number, (what, check) in enumerate(smoke.checks(), 1):
        try:
            passed = check()
        except Exception as error:  # Counts as a failure; the other checks still run.
            passed, what = False, f"{what} ({error!r})"
        failed += not passed
        print(f"{'ok  ' if passed else 'FAIL'} {number:2} {what}", flush=True)
    print(f"{10 - failed} of 10 passed", flush=True)
    return failed


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", required=True, help="output ApiUrl")
    parser.add_argument("--token", required=True, help="a bearer token")
    parser.add_argument("--queue-url", required=True, help="output EventsQueueUrl")
    parser.add_argument("--endpoint-url", help="the SQS endpoint, for example that of cargo dev")
    parser.add_argument("--region", help="the region of the queue; by default AWS_REGION")
    options = parser.parse_args()
    # The AWS CLI 1 and boto3 read only AWS_DEFAULT_REGION.
    region = options.region or os.environ.get("AWS_REGION")
    user = user_of(options.token)
    smoke = Smoke(Api(options.url, options.token), user, options.queue_url, options.endpoint_url, region)
    return 1 if run(smoke) else 0


if __name__ == "__main__":
    sys.exit(main())
