#!/usr/bin/env python3
"""Sends the messages of the events dead-letter queue back to the events queue.

    python3 scripts/redrive.py --from-url https://sqs…-events-dlq --to-url https://sqs…-events

SQS gives a message that it moves back another id and another time, and the ids of deliveries derive from
them. This script adds the id and the time with which the event was accepted, as the message attributes
`message_id` and `sent_timestamp`. So the deliveries have the same ids as before, and what was delivered
is not delivered again. dispatch uses them for up to 15 days.

A message is deleted after it was sent. If the script is stopped, start it again: what was sent twice is
delivered once. Needs boto3, or the AWS CLI (version 1 or 2).
"""

import argparse
import json
import os
import subprocess
import sys
import time

# How long a message that was received is hidden, in seconds. It also decides when a message that was
# not redriven can be received again.
HIDDEN_SECONDS = 120


class Sqs:
    """Calls operations with the AWS SDK for Python if it is installed, else with the AWS CLI."""

    def __init__(self, endpoint_url):
        self.endpoint_url = endpoint_url
        try:
            import boto3
        except ImportError:
            self.client = None
        else:
            # boto3 itself reads AWS_DEFAULT_REGION only.
            self.client = boto3.client("sqs", endpoint_url=endpoint_url, region_name=os.environ.get("AWS_REGION"))

    def call(self, operation, **request):
        if self.client:
            return getattr(self.client, operation.replace("-", "_"))(**request)
        command = ["aws", "sqs", operation, "--output", "json", "--cli-input-json", json.dumps(request)]
        command += ["--endpoint-url", self.endpoint_url] if self.endpoint_url else []
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        return json.loads(output) if output.strip() else {}


def text(value):
    return {"DataType": "String", "StringValue": value}


def redriven(message):
    """The message to send, or None if its body was cut."""
    attributes = dict(message.get("MessageAttributes", {}))
    if "body_bytes" in attributes:
        return None
    # Those of a rejected event belong to the message that was accepted, not to this one.
    attributes.setdefault("message_id", text(message["MessageId"]))
    attributes.setdefault("sent_timestamp", text(message["Attributes"]["SentTimestamp"]))
    for name in ("reason", "detail"):
        attributes.pop(name, None)
    # The SDK returns these fields for lists, and does not take them.
    fields = ("DataType", "StringValue", "BinaryValue")
    kept = {
        name: {field: value[field] for field in fields if field in value}
        for name, value in attributes.items()
    }
    sent = {"MessageBody": message["Body"], "MessageAttributes": kept}
    if "MessageGroupId" in message["Attributes"]:
        sent["MessageGroupId"] = message["Attributes"]["MessageGroupId"]
    return sent


def reason(message):
    return message.get("MessageAttributes", {}).get("reason", {}).get("StringValue")


def redrive(sqs, options):
    """Returns the numbers of messages sent and left."""
    seen, sent, left = set(), 0, 0
    while True:
        found = sqs.call(
            "receive-message",
            QueueUrl=options.from_url,
            MaxNumberOfMessages=10,
            VisibilityTimeout=HIDDEN_SECONDS,
            WaitTimeSeconds=2,
            AttributeNames=["All"],
            MessageAttributeNames=["All"],
        ).get("Messages", [])
        new = [message for message in found if message["MessageId"] not in seen]
        if not new:
            return sent, left
        for message in new:
            seen.add(message["MessageId"])
            request = redriven(message)
            is_wanted = options.reason in (None, reason(message))
            if request is None:
                print(f"left: {message['MessageId']}: its body was cut, publish the event again")
            if request is None or not is_wanted or options.dry_run:
                left += 1
                continue
            sqs.call("send-message", QueueUrl=options.to_url, **request)
            sqs.call("delete-message", QueueUrl=options.from_url, ReceiptHandle=message["ReceiptHandle"])
            sent += 1
            time.sleep(1 / options.rate)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from-url", required=True, help="output EventsDlqUrl")
    parser.add_argument("--to-url", required=True, help="output EventsQueueUrl")
    parser.add_argument("--reason", help="only rejected events with this reason")
    parser.add_argument("--rate", type=float, default=50, help="messages per second, at most (default 50)")
    parser.add_argument("--dry-run", action="store_true", help="only count the messages")
    parser.add_argument("--endpoint-url", help="the SQS endpoint, for example that of cargo dev")
    options = parser.parse_args()
    if options.rate <= 0:
        parser.error("--rate must be positive")
    sent, left = redrive(Sqs(options.endpoint_url), options)
    print(f"{sent} messages sent, {left} left")
    return 0


if __name__ == "__main__":
    sys.exit(main())
