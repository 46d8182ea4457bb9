"""Stacks on ministack without the real binaries: names, failed deployments, versions, restoring, removal, and
scripts/deploy.py."""

import json
import re
import sys
import zipfile

from . import deploy_run
from .ministack_run import SECRET, Cloud, create_stack, packaged
from .template import parsed
from .tools import Failed, expect, wait_for

STACKS = ["webhooks-one", "webhooks-two"]


def check(space):
    cloud = Cloud(space)
    package = space.work / "nothing.zip"
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("bootstrap", "#!/bin/sh\n")
    cloud.client("ssm").put_parameter(Name=SECRET, Type="SecureString", Value="k1:none")
    template = packaged(space, cloud, lambda _: package)
    side_by_side(space, cloud, template)
    failed_and_repeated(space, cloud, template)
    roll_back(space, cloud)
    scheduled_run_fails(space, cloud)
    restore(space, cloud)
    for stack in STACKS:
        remove(space, cloud, stack)
    space.stop(cloud.process)
    deploy_run.check(space)


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


def roll_back(space, cloud):
    """scripts/roll_back.py goes back to the versions before. ministack loses the versions of a function when a
    stack is updated, so this publishes them as CloudFormation does."""
    lambdas, stack = cloud.client("lambda"), STACKS[0]
    functions = [
        name
        for name in names(cloud)["functions"]
        if name.startswith(f"{stack}-") and not name.endswith("-console")
    ]

    def live():
        aliases = {name: lambdas.get_alias(FunctionName=name, Name="live") for name in functions}
        return {name: alias["FunctionVersion"] for name, alias in aliases.items()}

    def deploy(release):
        for name in functions:
            lambdas.update_function_configuration(FunctionName=name, Description=f"{release} arm64")
            version = lambdas.publish_version(FunctionName=name, Description=f"{release} arm64")["Version"]
            lambdas.update_alias(FunctionName=name, Name="live", FunctionVersion=version)
        return live()

    one, two, three = deploy("r1"), deploy("r2"), deploy("r3")
    expect(one != two != three, f"the aliases stay at {three}")
    script = (sys.executable, space.root / "scripts/roll_back.py", stack, "--endpoint-url", cloud.url)

    def refused(reason, *arguments):
        before = live()
        try:
            space.run(*script, *arguments)
        except Failed as failure:
            expect(reason in str(failure), str(failure))
        else:
            raise Failed(f"roll_back.py {' '.join(arguments)} did not fail")
        expect(live() == before, "roll_back.py has failed and changed an alias")

    space.run(*script, "--dry-run")
    expect(live() == three, "--dry-run changed an alias")
    space.run(*script)
    expect(live() == two, f"rolled back, the functions are {live()}")
    space.run(*script, "--release", "r1")
    expect(live() == one, f"rolled back to a release, the functions are {live()}")
    space.run(*script, "--release", "r3")
    expect(live() == three, f"rolled forward, the functions are {live()}")
    refused("no version of the release r9", "--release", "r9")
    lambdas.update_alias(FunctionName=functions[0], Name="live", FunctionVersion=two[functions[0]])
    refused("the functions are of the releases r2, r3")
    print(f"scripts/roll_back.py sets the aliases of {len(functions)} functions back, or to a release")


def scheduled_run_fails(space, cloud):
    """A fault that tests/deployment cannot produce for its alarm: a scheduled run that times out."""
    lambdas, sqs = cloud.client("lambda"), cloud.client("sqs")
    function, queue = f"{STACKS[0]}-retry", f"{STACKS[0]}-schedules-dlq"
    config = lambdas.get_function_event_invoke_config(FunctionName=function, Qualifier="live")
    # ministack knows the destinations of a function, not those of an alias.
    kept = ("MaximumRetryAttempts", "MaximumEventAgeInSeconds", "DestinationConfig")
    lambdas.put_function_event_invoke_config(FunctionName=function, **{name: config[name] for name in kept})
    url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]

    def visible():
        names = ["ApproximateNumberOfMessages"]
        found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)
        return int(found["Attributes"][names[0]])

    expect(not goes_off(space, "SchedulesDeadLettersAlarm", visible()), "the alarm is on in a healthy stack")
    # The packages here answer nothing, so the run fails by its timeout.
    lambdas.update_function_configuration(FunctionName=function, Timeout=1)
    lambdas.invoke(FunctionName=function, InvocationType="Event", Payload=b"{}")
    failed = wait_for("the failed run", visible, 60, cloud.process)
    expect(goes_off(space, "SchedulesDeadLettersAlarm", failed), f"{failed} dead letters are no alarm")
    print("a scheduled run that fails makes a dead letter, which is beyond the threshold of its alarm")


def goes_off(space, alarm, value):
    """Whether this value of its metric is beyond the threshold of an alarm."""
    properties = parsed(space)["Resources"][alarm]["Properties"]
    expect(properties["ComparisonOperator"] == "GreaterThanThreshold", f"{alarm} compares in another way")
    return value > properties["Threshold"]


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
    # ministack also deletes what CloudFormation retains, so the names are compared, too.
    text = (space.root / "scripts/remove_stack.py").read_text()
    known = set(re.findall(r'"([a-z-]+)"', re.search(r"^QUEUES = (.*)$", text, re.MULTILINE)[1]))
    queues = [r["Properties"] for r in parsed(space)["Resources"].values() if r["Type"] == "AWS::SQS::Queue"]
    named = {json.dumps(queue["QueueName"]).partition("}-")[2].strip('"}') for queue in queues}
    expect(named == known, f"remove_stack.py deletes the queues {known}, the template has {named}")
    script = space.root / "scripts/remove_stack.py"
    space.run(sys.executable, script, stack, "--yes", "--endpoint-url", cloud.url)
    left = {kind: [n for n in found if stack in n] for kind, found in names(cloud).items()}
    expect(not any(left.values()), f"{stack} left {left}")
    print(f"scripts/remove_stack.py deletes {stack} with its tables and queues")
