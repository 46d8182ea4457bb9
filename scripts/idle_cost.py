#!/usr/bin/env python3
"""Computes what a stack costs per month while no event is published.

    python3 scripts/idle_cost.py [--check]

Reads the resources from template.yaml and the prices from scripts/prices.json. Prints the table of
docs/DEPLOYING.md; `--check` fails if the document has another one. Needs PyYAML, or the environment of
verify_deploy.py.
"""

import argparse
import json
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
HOURS = 730
# Lambda polls a queue with five requests at a time, each of which waits for 20 s.
POLLERS, POLL_SECONDS = 5, 20
# Runs of a schedule in a month.
RUNS = {"rate(5 minutes)": HOURS * 12, "cron(0 2 * * ? *)": HOURS / 24}
# How long a run with nothing to do takes, in seconds. A cold start is included, rounded up.
RUN_SECONDS = 0.5
# A run of the retry function reads each shard of the due index: half a read unit each.
READ_UNITS_OF_A_RUN = 8
# The limit for a stack with the default parameters, in USD, within the free numbers of an account.
DEFAULT_MAX = 0.50

STACKS = {
    "default": {},
    "with a KMS key of your own": {"SecretsKmsKeyArn": "key"},
    "with essential alarms": {"AlarmTopicArn": "topic"},
    "with a fixed egress address": {"FixedEgress": "true"},
    "prod: all alarms and the dashboard": {
        "AlarmTopicArn": "topic",
        "AlarmSet": "all",
        "DashboardEnabled": "true",
    },
}


class Loader(yaml.SafeLoader):
    """Reads CloudFormation's short forms as their long forms."""


def function(loader, suffix, node):
    name = suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}"
    construct = {
        yaml.ScalarNode: loader.construct_scalar,
        yaml.SequenceNode: loader.construct_sequence,
        yaml.MappingNode: loader.construct_mapping,
    }[type(node)]
    return {name: construct(node) if type(node) is yaml.ScalarNode else construct(node, deep=True)}


Loader.add_multi_constructor("!", function)


class Stack:
    """The template with the values of its parameters."""

    def __init__(self, template, parameters):
        self.template = template
        defaults = {name: p.get("Default", "") for name, p in template["Parameters"].items()}
        self.parameters = {**defaults, **parameters}

    def holds(self, condition):
        (name, value), = condition.items()
        if name == "Condition":
            return self.holds(self.template["Conditions"][value])
        if name == "Fn::Not":
            return not self.holds(value[0])
        if name == "Fn::And":
            return all(self.holds(part) for part in value)
        if name == "Fn::Equals":
            left, right = (self.value(part) for part in value)
            return str(left) == str(right)
        raise ValueError(f"the condition function {name} is not known here")

    def value(self, value):
        if not isinstance(value, dict):
            return value
        if "Ref" in value:
            return self.parameters[value["Ref"]]
        if "Fn::Join" in value:
            separator, parts = value["Fn::Join"]
            parts = self.value(parts)
            return separator.join(parts) if isinstance(parts, list) else parts
        raise ValueError(f"{value} is not known here")

    def resources(self, kind):
        for resource in self.template["Resources"].values():
            condition = resource.get("Condition")
            if resource["Type"] == kind and (
                condition is None or self.holds(self.template["Conditions"][condition])
            ):
                yield resource.get("Properties", {})

    def events(self, kind):
        for properties in self.resources("AWS::Serverless::Function"):
            for event in properties.get("Events", {}).values():
                if event["Type"] == kind:
                    yield properties, event["Properties"]


def costs(stack, prices):
    """The cost of each part per month: within the free numbers of an account, and without them."""
    month, million, free = prices["per_month"], prices["per_million"], prices["free_per_month"]

    def priced(count, price, included=0):
        return max(0, count - included) * price, count * price

    metrics = sum(
        len([m for m in alarm["Metrics"] if "MetricStat" in m]) if "Metrics" in alarm else 1
        for alarm in stack.resources("AWS::CloudWatch::Alarm")
    )
    polls = len(list(stack.events("SQS"))) * POLLERS * HOURS * 3600 / POLL_SECONDS
    runs = {event["ScheduleExpression"]: f for f, event in stack.events("ScheduleV2")}
    invocations = sum(RUNS[schedule] for schedule in runs)
    gb_seconds = sum(
        RUNS[schedule] * RUN_SECONDS * f["MemorySize"] / 1024 for schedule, f in runs.items()
    )
    reads = RUNS["rate(5 minutes)"] * READ_UNITS_OF_A_RUN
    dashboards = len(list(stack.resources("AWS::CloudWatch::Dashboard")))
    lambda_free, lambda_paid = priced(
        gb_seconds, prices["lambda_gb_second_arm64"], free["lambda_gb_seconds"]
    )
    requests = priced(invocations, million["lambda_request"] / 1e6, free["lambda_requests"])
    return {
        "KMS key": priced(len(list(stack.resources("AWS::IAM::Policy"))) and int(
            stack.holds(stack.template["Conditions"]["HasSecretsKmsKey"])), month["kms_key"]),
        "alarms": priced(metrics, month["alarm_metric"], free["alarm_metrics"]),
        "dashboard": priced(dashboards, month["dashboard"]),
        "fixed egress": priced(
            len(list(stack.resources("AWS::EC2::NatGateway"))),
            month["nat_gateway"] + month["public_address"],
        ),
        "polling of queues": priced(polls, million["sqs_request"] / 1e6, free["sqs_requests"]),
        "schedules": (
            lambda_free + requests[0] + reads * million["dynamodb_read_unit"] / 1e6,
            lambda_paid
            + requests[1]
            + reads * million["dynamodb_read_unit"] / 1e6
            + invocations * million["scheduler_invocation"] / 1e6,
        ),
    }


def table(template, prices):
    parts, columns = None, []
    for parameters in STACKS.values():
        columns.append(costs(Stack(template, parameters), prices))
        parts = parts or list(columns[0])
    lines = [
        f"| USD per month, prices of {prices['as_of']} in {prices['region']} | "
        + " | ".join(STACKS)
        + " |",
        "|---|" + "--:|" * len(columns),
    ]
    for part in parts:
        lines.append(f"| {part} | " + " | ".join(f"{column[part][0]:.2f}" for column in columns) + " |")
    for name, index in [("**sum**", 0), ("sum if the account's free numbers are used up", 1)]:
        sums = (sum(amount[index] for amount in column.values()) for column in columns)
        lines.append(f"| {name} | " + " | ".join(f"{amount:.2f}" for amount in sums) + " |")
    return "\n".join(lines), sum(amount[0] for amount in columns[0].values())


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="compare with docs/DEPLOYING.md")
    options = parser.parse_args()
    template = yaml.load((ROOT / "template.yaml").read_text(), Loader)
    prices = json.loads((ROOT / "scripts/prices.json").read_text())
    text, default = table(template, prices)
    print(text)
    if not options.check:
        return 0
    if text not in (ROOT / "docs/DEPLOYING.md").read_text():
        print("docs/DEPLOYING.md has another table")
        return 1
    if default > DEFAULT_MAX:
        print(f"the default stack costs {default:.2f} USD, more than {DEFAULT_MAX:.2f}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
