"""Stacks on ministack without the real binaries: names, failed deployments, removal, and the parts of
scripts/deploy.py."""

import base64
import json
import sys
import zipfile

from .ministack_run import SECRET, Cloud, create_stack, packaged
from .tools import REGION, expect

STACKS = ["webhooks-one", "webhooks-two"]


def check(space):
    cloud = Cloud(space)
    package = space.work / "nothing.zip"
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("bootstrap", "#!/bin/sh\n")
    cloud.client("ssm").put_parameter(Name=SECRET, Type="SecureString", Value="k1:none")
    template = packaged(space, cloud, package)
    side_by_side(space, cloud, template)
    failed_and_repeated(space, cloud, template)
    restore(space, cloud)
    for stack in STACKS:
        remove(space, cloud, stack)
    check_deploy_script(space, cloud)
    space.stop(cloud.process)


def names(cloud):
    """The names of what the stacks have made that must be unique."""
    schedules = cloud.client("scheduler").list_schedules()["Schedules"]
    functions = cloud.client("lambda").list_functions()["Functions"]
    queues = cloud.client("sqs").list_queues().get("QueueUrls", [])
    tables = cloud.client("dynamodb").list_tables()["TableNames"]
    return {
        "schedules": [schedule["Name"] for schedule in schedules],
        "functions": [function["FunctionName"] for function in functions],
        "queues": queues,
        "tables": tables,
    }


def side_by_side(space, cloud, template):
    counts = []
    for stack in STACKS:
        status = create_stack(space, cloud, stack, template)
        expect(status == "CREATE_COMPLETE", f"{stack} is {status}")
        counts.append({kind: len(found) for kind, found in names(cloud).items()})
    doubled = {kind: 2 * count for kind, count in counts[0].items()}
    expect(counts[1] == doubled, f"one stack has {counts[0]}, two have {counts[1]}")
    print(f"two stacks are deployed side by side: {counts[1]}")


def failed_and_repeated(space, cloud, template):
    remove(space, cloud, STACKS[1])
    broken = json.loads(template)
    # ministack refuses this type. The tables and queues exist when it does.
    broken["Resources"]["Refused"] = {
        "Type": "AWS::Logs::QueryDefinition",
        "DependsOn": ["EventsQueue", "DeliveriesQueue", "SubscriptionsTable", "DeliveriesTable"],
        "Properties": {"Name": "refused", "QueryString": "filter true"},
    }
    status = create_stack(space, cloud, STACKS[1], json.dumps(broken))
    expect(status in ("ROLLBACK_COMPLETE", "CREATE_FAILED"), f"the broken stack is {status}")
    made = names(cloud)
    left = [name for name in made["queues"] + made["tables"] if STACKS[1] in name]
    expect(not left, f"the failed deployment left {left}")
    cloud.client("cloudformation").delete_stack(StackName=STACKS[1])
    status = create_stack(space, cloud, STACKS[1], template)
    expect(status == "CREATE_COMPLETE", f"the repeated stack is {status}")
    print("a first deployment that fails leaves no table and no queue, and can be repeated")


def restore(space, cloud):
    """The procedure of docs/RUNBOOK.md: rows that were deleted come back from a restored table."""
    dynamodb = cloud.client("dynamodb")
    (table,) = [n for n in names(cloud)["tables"] if n.startswith(f"{STACKS[0]}-SubscriptionsTable-")]

    def row(user, number):
        return {"user_id": {"S": user}, "subscription_id": {"S": f"wh_{number}"}}

    before = [row("u1", 1), row("u1", 2), row("u2", 3)]
    for item in before:
        dynamodb.put_item(TableName=table, Item=item)
    dynamodb.restore_table_to_point_in_time(
        SourceTableName=table, TargetTableName=f"{table}-restored", UseLatestRestorableTime=True
    )
    dynamodb.get_waiter("table_exists").wait(TableName=f"{table}-restored")
    for item in before:
        dynamodb.delete_item(TableName=table, Key=item)
    copy = (sys.executable, space.root / "scripts/copy_rows.py", "--endpoint-url", cloud.url)
    copy = (*copy, "--from-table", f"{table}-restored", "--to-table", table)

    def rows():
        found = dynamodb.scan(TableName=table)["Items"]
        return sorted(found, key=lambda item: item["subscription_id"]["S"])

    space.run(*copy)
    expect(rows() == [], "without --write rows were copied")
    space.run(*copy, "--user", "u1", "--write")
    expect(rows() == before[:2], f"the rows of u1 became {rows()}")
    space.run(*copy, "--write")
    expect(rows() == before, f"all rows became {rows()}")
    dynamodb.delete_table(TableName=f"{table}-restored")
    print("scripts/copy_rows.py brings rows back from a restored table")


def remove(space, cloud, stack):
    script = space.root / "scripts/remove_stack.py"
    space.run(sys.executable, script, stack, "--yes", "--endpoint-url", cloud.url)
    left = {kind: [n for n in found if stack in n] for kind, found in names(cloud).items()}
    expect(not any(left.values()), f"{stack} left {left}")
    print(f"scripts/remove_stack.py deletes {stack} with its tables and queues")


def check_deploy_script(space, cloud):
    """What scripts/deploy.py makes before it builds: once, and found the second time."""
    code = (
        "import importlib.util, json, sys, types\n"
        "spec = importlib.util.spec_from_file_location('deploy_script', sys.argv[1])\n"
        "script = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(script)\n"
        "o = types.SimpleNamespace(stage='dev', region=sys.argv[2], endpoint_url=sys.argv[3],\n"
        "    alarm_email='me@example.com', architecture='arm64', parameter=['LogLevel=debug'])\n"
        "keys = script.make_keys(o)\n"
        "issuer, audience, token = script.make_pool(o)\n"
        "print(json.dumps([issuer, audience, script.overrides(o, keys, issuer, audience)]))\n"
    )
    made = []
    for _ in range(2):
        output = space.run(
            sys.executable, "-c", code, space.root / "scripts/deploy.py", REGION, cloud.url
        )
        made.append(json.loads(output.strip().rpartition("\n")[2]))
    expect(made[0] == made[1], f"the second run made something else: {made}")
    found = cloud.client("ssm").get_parameter(Name="/webhooks/dev/secrets-keys", WithDecryption=True)
    identifier, _, key = found["Parameter"]["Value"].partition(":")
    expect(identifier == "k1" and len(base64.b64decode(key)) == 32, "the key has another form")
    pool = made[0][0].rpartition("/")[2]
    pool = cloud.client("cognito-idp").describe_user_pool(UserPoolId=pool)["UserPool"]
    closed = pool.get("AdminCreateUserConfig", {}).get("AllowAdminCreateUserOnly")
    expect(closed is True, "anyone can sign up")
    parameters = dict(pair.split("=", 1) for pair in made[0][2])
    expect(parameters["JwtAudience"] == made[0][1], "the audience is not passed on")
    print("scripts/deploy.py makes key, user pool and topic once, and finds them again")
