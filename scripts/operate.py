#!/usr/bin/env python3
"""What an operator does to one user, one host or one event, in the tables of a stack.

    python3 scripts/operate.py --stack webhooks-prod block-user USER --reason "abuse report 17"

  block-user USER        events of the user make no deliveries, changes through the API return 403, and
                         the user's webhooks become inactive, which ends waiting deliveries as failed
  unblock-user USER      undoes block-user; the webhooks that it made inactive become active
  block-host HOST        nothing more is sent to the host and its subdomains, after at most a minute
  unblock-host HOST      undoes block-host
  erase-user USER        deletes the user's webhooks with payloads, history and counters
  erase-event USER ID    deletes the deliveries of one event of the user, with the payload
  find-heavy-users       the users with the most deliveries in the last hours, as JSON, most first

Each command may be repeated. Needs boto3. With --endpoint-url it works on the tables of `cargo dev`.
"""

import argparse
import collections
import ipaddress
import json
import os
import sys
import time
from datetime import datetime, timezone

import boto3
from boto3.dynamodb.types import TypeDeserializer
from botocore.exceptions import ClientError

BLOCKED = "wh#blocked"
REASON = "user_blocked"
OPERATOR = "#operator"
BLOCKED_HOST = "blocked-host#"
TOMBSTONE = "deleted#"
WEBHOOK = "wh_"
DELIVERY = "dlv_"
STATS = "stats#"
PAYLOAD = "payload#"
# Entries of one BatchWriteItem (AWS quota).
BATCH = 25


def plain(item):
    return {name: TypeDeserializer().deserialize(value) for name, value in item.items()}


def string(value):
    return {"S": value}


class Tables:
    """The two tables, by the names of their keys."""

    def __init__(self, client, subscriptions, deliveries):
        self.client = client
        self.subscriptions = subscriptions
        self.deliveries = deliveries

    def query(self, table, partition, prefix="", **more):
        """The rows of a partition whose sort key begins with the prefix."""
        names = ("user_id", "subscription_id")
        if table == self.deliveries:
            names = ("subscription_id", "delivery_id")
        values = {":p": string(partition), **more.pop("ExpressionAttributeValues", {})}
        condition = f"{names[0]} = :p"
        if prefix:
            condition += f" AND begins_with({names[1]}, :s)"
            values[":s"] = string(prefix)
        pages = self.client.get_paginator("query").paginate(
            TableName=table,
            KeyConditionExpression=condition,
            ExpressionAttributeValues=values,
            ConsistentRead=True,
            **more,
        )
        for page in pages:
            yield from map(plain, page["Items"])

    def webhooks(self, user):
        return list(self.query(self.subscriptions, user, WEBHOOK))

    def change(self, user, sort, expression, condition, values):
        """Changes a row where the condition holds; tells whether it did."""
        try:
            self.client.update_item(
                TableName=self.subscriptions,
                Key={"user_id": string(user), "subscription_id": string(sort)},
                UpdateExpression=expression,
                ConditionExpression=condition,
                ExpressionAttributeNames={"#version": "version"},
                ExpressionAttributeValues=values,
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            return False
        return True

    def put(self, user, sort, reason):
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        item = {"user_id": user, "subscription_id": sort, "blocked_at": now, "reason": reason}
        self.client.put_item(
            TableName=self.subscriptions,
            Item={name: string(value) for name, value in item.items() if value},
        )

    def delete(self, user, sort):
        self.client.delete_item(
            TableName=self.subscriptions,
            Key={"user_id": string(user), "subscription_id": string(sort)},
        )

    def erase(self, subscription_id, sort_keys):
        """Deletes rows of the Deliveries table; returns their number."""
        sort_keys = list(sort_keys)
        for start in range(0, len(sort_keys), BATCH):
            keys = [
                {"subscription_id": string(subscription_id), "delivery_id": string(sort)}
                for sort in sort_keys[start : start + BATCH]
            ]
            requests = [{"DeleteRequest": {"Key": key}} for key in keys]
            while requests:
                answer = self.client.batch_write_item(RequestItems={self.deliveries: requests})
                requests = answer.get("UnprocessedItems", {}).get(self.deliveries, [])
                if requests:
                    time.sleep(1)
        return len(sort_keys)


def host_of(text):
    """A host as URLs are compared by: in lower case and ASCII."""
    try:
        address = ipaddress.ip_address(text.strip("[]"))
        return f"[{address.compressed}]" if address.version == 6 else address.compressed
    except ValueError:
        pass
    try:
        host = text.encode("idna").decode().lower()
    except UnicodeError:
        host = ""
    valid = host and not host.startswith(".") and not host.endswith(".")
    if not valid or not all(c.isalnum() or c in "-_." for c in host):
        raise argparse.ArgumentTypeError("must be a host name or address, without scheme, port and path")
    return host


def block_user(tables, options):
    # First the row: no webhook that is created later escapes.
    tables.put(options.user, BLOCKED, options.reason)
    values = {":no": {"BOOL": False}, ":yes": {"BOOL": True}, ":why": string(REASON), ":one": {"N": "1"}}
    changed = sum(
        tables.change(
            options.user,
            webhook["subscription_id"],
            "SET is_active = :no, disabled_reason = :why, #version = #version + :one",
            "is_active = :yes",
            values,
        )
        for webhook in tables.webhooks(options.user)
    )
    return {"blocked": options.user, "webhooks_deactivated": changed}


def unblock_user(tables, options):
    values = {":yes": {"BOOL": True}, ":why": string(REASON), ":one": {"N": "1"}}
    changed = sum(
        tables.change(
            options.user,
            webhook["subscription_id"],
            "SET is_active = :yes, #version = #version + :one REMOVE disabled_reason",
            "disabled_reason = :why",
            values,
        )
        for webhook in tables.webhooks(options.user)
    )
    tables.delete(options.user, BLOCKED)
    return {"unblocked": options.user, "webhooks_activated": changed}


def block_host(tables, options):
    tables.put(OPERATOR, BLOCKED_HOST + options.host, options.reason)
    return {"blocked": options.host}


def unblock_host(tables, options):
    tables.delete(OPERATOR, BLOCKED_HOST + options.host)
    return {"unblocked": options.host}


def erase_user(tables, options):
    """Deletes each webhook as the API does, so that the next cleanup erases what deliveries that are
    under way still write, and erases what is there immediately."""
    user = options.user
    webhooks = [webhook["subscription_id"] for webhook in tables.webhooks(user)]
    for webhook in webhooks:
        tombstone = {"user_id": string(user), "subscription_id": string(TOMBSTONE + webhook)}
        key = {"user_id": string(user), "subscription_id": string(webhook)}
        table = tables.subscriptions
        tables.client.transact_write_items(
            TransactItems=[
                {"Delete": {"TableName": table, "Key": key}},
                {"Put": {"TableName": table, "Item": tombstone}},
            ]
        )
    rows = 0
    others = []
    for row in list(tables.query(tables.subscriptions, user)):
        sort = row["subscription_id"]
        if sort.startswith(TOMBSTONE):
            webhook = sort.removeprefix(TOMBSTONE)
            found = tables.query(tables.deliveries, webhook, ProjectionExpression="delivery_id")
            rows += tables.erase(webhook, (row["delivery_id"] for row in found))
        elif sort != BLOCKED and not sort.startswith(WEBHOOK):
            others.append(sort)
    for sort in others:
        tables.delete(user, sort)
    return {"erased": user, "webhooks": len(webhooks), "rows": rows}


def erase_event(tables, options):
    rows = 0
    for row in list(tables.query(tables.subscriptions, options.user)):
        webhook = row["subscription_id"].removeprefix(TOMBSTONE)
        if not webhook.startswith(WEBHOOK):
            continue
        found = tables.query(
            tables.deliveries,
            webhook,
            DELIVERY,
            FilterExpression="#event = :event",
            ProjectionExpression="delivery_id",
            ExpressionAttributeNames={"#event": "e"},
            ExpressionAttributeValues={":event": string(options.event_id)},
        )
        deliveries = [row["delivery_id"] for row in found]
        tables.erase(webhook, (PAYLOAD + delivery for delivery in deliveries))
        rows += tables.erase(webhook, deliveries)
    return {"erased": options.event_id, "deliveries": rows}


def find_heavy_users(tables, options):
    since = STATS + str(int(time.time()) // 3600 - options.hours).zfill(10)
    users = collections.defaultdict(collections.Counter)
    pages = tables.client.get_paginator("scan").paginate(
        TableName=tables.subscriptions,
        FilterExpression="begins_with(subscription_id, :webhook)",
        ExpressionAttributeValues={":webhook": string(WEBHOOK)},
        ProjectionExpression="user_id, subscription_id",
    )
    for page in pages:
        for row in map(plain, page["Items"]):
            count = users[row["user_id"]]
            count["webhooks"] += 1
            for hour in tables.query(tables.deliveries, row["subscription_id"], STATS):
                if hour["delivery_id"] > since:
                    count["deliveries"] += int(hour.get("total_count", 0))
                    count["failed"] += int(hour.get("failed_count", 0))
    ranked = sorted(users.items(), key=lambda entry: -entry[1]["deliveries"])[: options.top]
    names = ("webhooks", "deliveries", "failed")
    return [{"user_id": user, **{name: count[name] for name in names}} for user, count in ranked]


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stack", help="take the names of the tables from the outputs of this stack")
    parser.add_argument("--subscriptions-table", default="webhook-subscriptions")
    parser.add_argument("--deliveries-table", default="webhook-deliveries")
    parser.add_argument("--endpoint-url", help="the DynamoDB endpoint, for example that of cargo dev")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, run in (("block-user", block_user), ("unblock-user", unblock_user), ("erase-user", erase_user)):
        command = commands.add_parser(name)
        command.add_argument("user", help="the `sub` of the user's tokens")
        command.set_defaults(run=run)
        if run is block_user:
            command.add_argument("--reason", help="for whoever reads the row later")
    for name, run in (("block-host", block_host), ("unblock-host", unblock_host)):
        command = commands.add_parser(name)
        command.add_argument("host", type=host_of)
        command.set_defaults(run=run)
        if run is block_host:
            command.add_argument("--reason", help="for whoever reads the row later")
    command = commands.add_parser("erase-event")
    command.add_argument("user")
    command.add_argument("event_id")
    command.set_defaults(run=erase_event)
    command = commands.add_parser("find-heavy-users")
    command.add_argument("--hours", type=int, default=24, help="how far back (default 24)")
    command.add_argument("--top", type=int, default=20, help="how many users (default 20)")
    command.set_defaults(run=find_heavy_users)
    return parser.parse_args()


def main():
    options = parse()
    names = (options.subscriptions_table, options.deliveries_table)
    # boto3 itself reads AWS_DEFAULT_REGION only.
    region = {"region_name": os.environ.get("AWS_REGION")}
    if options.stack:
        stack = boto3.client("cloudformation", **region).describe_stacks(StackName=options.stack)["Stacks"][0]
        outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
        names = (outputs["SubscriptionsTableName"], outputs["DeliveriesTableName"])
    elif not options.endpoint_url:
        sys.exit("error: give --stack, or --endpoint-url for another DynamoDB")
    local = region
    if options.endpoint_url:
        local = {
            "endpoint_url": options.endpoint_url,
            "region_name": "eu-central-1",
            "aws_access_key_id": "local",
            "aws_secret_access_key": "local",
        }
    tables = Tables(boto3.client("dynamodb", **local), *names)
    result = options.run(tables, options)
    rows = result if isinstance(result, list) else [result]
    for row in rows:
        print(json.dumps(row, ensure_ascii=False))


if __name__ == "__main__":
    main()
