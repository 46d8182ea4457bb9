import json
import uuid
from datetime import datetime, timezone

import boto3

sqs = boto3.client("sqs")


def publish(queue_url, event_type, user_id, data, traceparent=None):
    """Publishes one event and returns its id. `traceparent` places it in a trace (W3C)."""
    event = {
        "event_type": event_type,
        "user_id": user_id,
        "event_id": f"evt_{uuid.uuid4().hex}",
        "occurred_at": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        "data": data,
    }
    attributes = {}
    if traceparent:
        attributes["traceparent"] = {"DataType": "String", "StringValue": traceparent}
    sqs.send_message(
        QueueUrl=queue_url,
        MessageGroupId=user_id,
        MessageBody=json.dumps(event),
        MessageAttributes=attributes,
    )
    return event["event_id"]
