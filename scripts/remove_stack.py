#!/usr/bin/env python3
"""Deletes a stack with its tables and queues, and all that is in them.

    python3 scripts/remove_stack.py STACK [--yes]

CloudFormation keeps tables and queues when a stack is deleted. This script deletes them too, also those
that an earlier stack of this name left. The secret with the keys is kept. Needs boto3, which comes with
the SAM CLI.
"""

import argparse
import os
import sys

import boto3
from botocore.exceptions import ClientError

TABLES = ("SubscriptionsTable", "DeliveriesTable")
QUEUES = ("events", "events-dlq", "deliveries", "deliveries-slow", "deliveries-dlq", "schedules-dlq")


def kept_resources(clients, stack):
    """Whether the stack exists, and the names of its tables and queues that exist. CloudFormation names
    tables after stack and resource."""
    try:
        stacks = clients["cloudformation"].describe_stacks(StackName=stack)["Stacks"]
        exists = stacks[0]["StackStatus"] != "DELETE_COMPLETE"
    except ClientError:
        exists = False
    found = clients["sqs"].list_queues(QueueNamePrefix=f"{stack}-").get("QueueUrls", [])
    known = {url.rpartition("/")[2] for url in found}
    queues = [name for name in (f"{stack}-{name}" for name in QUEUES) if name in known]
    pages = clients["dynamodb"].get_paginator("list_tables").paginate()
    prefixes = tuple(f"{stack}-{table}-" for table in TABLES)
    tables = [name for page in pages for name in page["TableNames"] if name.startswith(prefixes)]
    return exists, sorted(tables), queues


def remove(clients, stack, confirm):
    exists, tables, queues = kept_resources(clients, stack)
    if not exists and not tables and not queues:
        print(f"there is nothing of {stack}")
        return
    print(f"{'the stack, ' if exists else ''}{len(tables)} tables and {len(queues)} queues:")
    for name in [*tables, *queues]:
        print(f"  {name}")
    confirm(f"Type {stack} to delete all of it, with everything in it: ", stack)
    dynamodb = clients["dynamodb"]
    protected = [
        name
        for name in tables
        if dynamodb.describe_table(TableName=name)["Table"].get("DeletionProtectionEnabled")
    ]
    if protected:
        answer = f"delete {stack}"
        confirm(f"{', '.join(protected)} are protected. Type '{answer}' to delete them: ", answer)
        for name in protected:
            dynamodb.update_table(TableName=name, DeletionProtectionEnabled=False)
            dynamodb.get_waiter("table_exists").wait(TableName=name)
    if exists:
        clients["cloudformation"].delete_stack(StackName=stack)
        clients["cloudformation"].get_waiter("stack_delete_complete").wait(StackName=stack)
        print(f"the stack {stack} is deleted")
    # Asked again: what the stack itself has deleted is gone.
    _, tables, queues = kept_resources(clients, stack)
    for name in tables:
        dynamodb.delete_table(TableName=name)
    for name in queues:
        url = clients["sqs"].get_queue_url(QueueName=name)["QueueUrl"]
        clients["sqs"].delete_queue(QueueUrl=url)
    print(f"{len(tables)} tables and {len(queues)} queues are deleted")


def ask(question, expected):
    if input(question) != expected:
        sys.exit("nothing is deleted")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stack", help="the stack's name, such as webhooks-dev")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--endpoint-url", help="the endpoint of emulated AWS services")
    options = parser.parse_args()
    # boto3 itself reads AWS_DEFAULT_REGION only.
    given = {"region_name": os.environ.get("AWS_REGION"), "endpoint_url": options.endpoint_url}
    clients = {
        name: boto3.client(name, **given)
        for name in ("cloudformation", "dynamodb", "sqs")
    }
    remove(clients, options.stack, (lambda *_: None) if options.yes else ask)
    return 0


if __name__ == "__main__":
    sys.exit(main())
