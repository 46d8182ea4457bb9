#!/usr/bin/env python3
"""Copies rows of a restored Subscriptions table into the table of the stack.

    python3 scripts/copy_rows.py --from-table RESTORED --to-table TABLE [--user USER_ID] [--write]

Without --write it only counts. Rows that exist in both tables are overwritten. Needs boto3, which comes
with the SAM CLI.
"""

import argparse
import os
import sys

import boto3


def rows(dynamodb, table, user):
    """The rows of a user, or all."""
    if user:
        values = {":user": {"S": user}}
        pages = dynamodb.get_paginator("query").paginate(
            TableName=table,
            KeyConditionExpression="user_id = :user",
            ExpressionAttributeValues=values,
            ConsistentRead=True,
        )
    else:
        pages = dynamodb.get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
    for page in pages:
        yield from page["Items"]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from-table", required=True, help="the restored table")
    parser.add_argument("--to-table", required=True, help="output SubscriptionsTableName")
    parser.add_argument("--user", help="only the webhooks of this user")
    parser.add_argument("--write", action="store_true", help="copy; without it, only count")
    parser.add_argument("--endpoint-url", help="the endpoint of emulated AWS services")
    options = parser.parse_args()
    # boto3 itself reads AWS_DEFAULT_REGION only.
    region = {"region_name": os.environ.get("AWS_REGION")}
    dynamodb = boto3.client("dynamodb", endpoint_url=options.endpoint_url, **region)
    copied = 0
    for row in rows(dynamodb, options.from_table, options.user):
        if options.write:
            dynamodb.put_item(TableName=options.to_table, Item=row)
        copied += 1
    print(f"{copied} rows {'copied' if options.write else 'found'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
