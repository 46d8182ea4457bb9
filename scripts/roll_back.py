#!/usr/bin/env python3
"""Rolls the functions of a stack back to the release before, within seconds and without a build.

    python3 scripts/roll_back.py STACK [--release NAME] [--dry-run]

Every deployment publishes a version of each function, and the alias `live` points to the version that gets
requests, messages and schedules. This script points each alias to the version before the current one, or to that
of the release NAME. While the stack is being updated, also during a canary, it cancels the update instead, and
CloudFormation rolls back.

It changes functions only: for the template, roles and queues of an earlier release, deploy that release. Needs boto3,
which comes with the SAM CLI.
"""

import argparse
import os
import sys

import boto3
from botocore.exceptions import ClientError

ALIAS = "live"


def released(version):
    """The name of a version's release, which is the first word of its description."""
    return version.get("Description", "").partition(" ")[0]


def stack_functions(cloudformation, stack):
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack)
    resources = (resource for page in pages for resource in page["StackResourceSummaries"])
    return [r["PhysicalResourceId"] for r in resources if r["ResourceType"] == "AWS::Lambda::Function"]


def versions_of(lambdas, function):
    """The alias and the published versions of a function, the newest first; None if it has no alias."""
    try:
        alias = lambdas.get_alias(FunctionName=function, Name=ALIAS)
    except lambdas.exceptions.ResourceNotFoundException:
        return None
    pages = lambdas.get_paginator("list_versions_by_function").paginate(FunctionName=function)
    versions = [version for page in pages for version in page["Versions"] if version["Version"] != "$LATEST"]
    versions.sort(key=lambda version: int(version["Version"]), reverse=True)
    current = next(v for v in versions if v["Version"] == alias["FunctionVersion"])
    return current, versions


def target_of(current, versions, release):
    """The version to which a function goes back, or None."""
    if release:
        return next((version for version in versions if released(version) == release), None)
    older = (version for version in versions if int(version["Version"]) < int(current["Version"]))
    return next(older, None)


def plan(lambdas, functions, release):
    """The current version and the target of each function with an alias."""
    known = {function: versions_of(lambdas, function) for function in functions}
    known = {function: found for function, found in known.items() if found}
    current = {released(found[0]) for found in known.values()}
    if not release and len(current) > 1:
        sys.exit(f"the functions are of the releases {', '.join(sorted(current))}: choose one with --release")
    targets = {function: target_of(*found, release) for function, found in known.items()}
    missing = [function for function, target in targets.items() if target is None]
    if missing or not targets:
        what = f"of the release {release}" if release else "before the current one"
        sys.exit(f"there is no version {what} of {', '.join(missing) or 'any function'}; nothing is changed")
    return {function: (known[function][0], target) for function, target in targets.items()}


def roll_back(clients, stack, release, dry_run):
    cloudformation, lambdas = clients["cloudformation"], clients["lambda"]
    try:
        status = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"]
    except ClientError as error:
        sys.exit(f"the stack {stack}: {error}")
    if status == "UPDATE_IN_PROGRESS" and not release:
        if not dry_run:
            cloudformation.cancel_update_stack(StackName=stack)
        print(f"the update of {stack} {'would be' if dry_run else 'is'} cancelled, CloudFormation rolls it back")
        return
    if status.endswith("_IN_PROGRESS"):
        sys.exit(f"{stack} is {status}: wait until that ends")
    for function, (current, target) in plan(lambdas, stack_functions(cloudformation, stack), release).items():
        if not dry_run:
            lambdas.update_alias(
                FunctionName=function,
                Name=ALIAS,
                FunctionVersion=target["Version"],
                RoutingConfig={"AdditionalVersionWeights": {}},
            )
        versions = (f"{version['Version']} ({released(version)})" for version in (current, target))
        print(f"{function}: {' → '.join(versions)}")
    print("nothing is changed" if dry_run else "done; the next deployment sets the aliases again")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stack", help="the stack's name, such as webhooks-prod")
    parser.add_argument("--release", help="the release to go to, by default the one before")
    parser.add_argument("--dry-run", action="store_true", help="only show what would be done")
    parser.add_argument("--endpoint-url", help="the endpoint of emulated AWS services")
    options = parser.parse_args()
    # boto3 itself reads AWS_DEFAULT_REGION only.
    given = {"region_name": os.environ.get("AWS_REGION"), "endpoint_url": options.endpoint_url}
    clients = {name: boto3.client(name, **given) for name in ("cloudformation", "lambda")}
    roll_back(clients, options.stack, options.release, options.dry_run)
    return 0


if __name__ == "__main__":
    sys.exit(main())
