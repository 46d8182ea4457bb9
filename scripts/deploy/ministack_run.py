"""Deploys the template with the real binaries on ministack, and runs the main job there.

docs/DEPLOYING.md lists what ministack cannot show. It does not create the routes of the HTTP API, so
this step invokes the API functions with API Gateway's events.
"""

import base64
import datetime
import json
import os
import time

from botocore.config import Config

from .template import parsed
from .tools import (
    FUNCTIONS,
    Receiver,
    answers,
    check_signatures,
    client,
    event,
    expect,
    free_port,
    ulid_time,
    wait_for,
)

BUCKET, STACK, SECRET = "packages", "webhooks-verify", "/webhooks/verify/secrets-keys"
USER = "user-1"


class Cloud:
    """ministack and its clients."""

    def __init__(self, space, **environment):
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.process = space.start(
            *(space.bin / "python", "-m", "ministack"),
            log="ministack.log",
            env={
                "BIND_HOST": "127.0.0.1",
                "GATEWAY_PORT": str(port),
                "AWS_ENDPOINT_URL": self.url,
                # These two listen on every interface.
                "IOT_MTLS_ENABLED": "0",
                "SFTP_ENABLED": "0",
                **environment,
            },
        )
        wait_for("ministack", lambda: answers(f"{self.url}/_ministack/health"), 60, self.process)

    def client(self, service):
        config = Config(retries={"max_attempts": 1}, read_timeout=120)
        return client(service, self.url, config=config)


def check(space):
    cloud = Cloud(space)
    deploy(space, cloud)
    receiver = Receiver()
    resources = physical(cloud)
    webhook = subscribe(space, cloud, resources, receiver)
    publish_and_receive(cloud, resources, receiver, webhook)
    retry_by_delayed_message(space, cloud, resources, receiver, webhook)
    schedules(cloud, resources, receiver, webhook)
    bad_event(cloud, resources)
    through_sns(cloud, resources, receiver)
    space.stop(cloud.process)


def packaged(space, cloud, package=None):
    """The template with the packages of this machine, or those that `package` names for each function, as
    `sam package` would leave it."""
    package = package or (lambda function: space.binary(function).parent / "function.zip")
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    for function in FUNCTIONS:
        s3.upload_file(str(package(function)), BUCKET, f"{function}.zip")
    template = supported(space)
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            function = resource["Properties"]["CodeUri"].removeprefix("functions/")
            resource["Properties"]["CodeUri"] = f"s3://{BUCKET}/{function}.zip"
            resource.pop("Metadata", None)
    return json.dumps(template, default=str)


def supported(space):
    """The template without alarms with metric math and saved queries, which ministack refuses."""
    template = parsed(space)
    resources = template["Resources"]
    unsupported = [
        name
        for name, resource in resources.items()
        if "Metrics" in resource.get("Properties", {}) or resource["Type"] == "AWS::Logs::QueryDefinition"
    ]
    for name in unsupported:
        del resources[name]
    print(f"left out, because ministack cannot create them: {', '.join(unsupported)}")
    return template


def parameters(space):
    return {
        "Stage": "dev",
        "JwtIssuer": "https://issuer.example.com/",
        "JwtAudience": "webhooks",
        "SecretsKeysName": SECRET,
        "Architecture": space.machine,
        # The receiver listens on loopback, which the strict policy blocks.
        "TargetPolicy": "development",
        "AlarmTopicArn": "arn:aws:sns:us-east-1:000000000000:alarms",
        "AlarmSet": "all",
        "DashboardEnabled": "true",
    }


def create_stack(space, cloud, name, template, **changed):
    """Creates a stack with these parameters changed, and returns its last status."""
    given = {**parameters(space), **changed}
    cloudformation = cloud.client("cloudformation")
    cloudformation.create_stack(
        StackName=name,
        TemplateBody=template,
        Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in given.items()],
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
    )

    return settled(cloud, name)


def settled(cloud, name):
    """Waits until nothing changes a stack any more, and returns its status."""

    def state():
        stack = cloud.client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
        return stack if not stack["StackStatus"].endswith("_IN_PROGRESS") else None

    return wait_for("the stack", state, 180, cloud.process)["StackStatus"]


def deploy(space, cloud, package=None, **changed):
    key = base64.b64encode(os.urandom(32)).decode()
    cloud.client("ssm").put_parameter(Name=SECRET, Type="SecureString", Value=f"k1:{key}")
    cloudformation = cloud.client("cloudformation")
    status = create_stack(space, cloud, STACK, packaged(space, cloud, package), **changed)
    if status != "CREATE_COMPLETE":
        events = cloudformation.describe_stack_events(StackName=STACK)["StackEvents"]
        reasons = [e.get("ResourceStatusReason") for e in events if "FAILED" in e["ResourceStatus"]]
        expect(False, f"the stack is {status}: {reasons}")
    print(f"the stack is deployed: {status}")


def physical(cloud):
    found = cloud.client("cloudformation").describe_stack_resources(StackName=STACK)["StackResources"]
    return {r["LogicalResourceId"]: r["PhysicalResourceId"] for r in found}


def invoke(cloud, resources, resource, payload):
    answer = cloud.client("lambda").invoke(
        FunctionName=resources[resource], Payload=json.dumps(payload).encode()
    )
    text = answer["Payload"].read().decode()
    expect("FunctionError" not in answer, f"{resource}: {text}")
    return json.loads(text)


def call(space, cloud, resources, resource, function, name, webhook):
    answer = invoke(cloud, resources, resource, event(space, function, name, webhook["id"]))
    expect(answer["statusCode"] == 200, f"{function}/{name}: {answer}")
    return json.loads(answer["body"])


def subscribe(space, cloud, resources, receiver):
    creation = event(space, "subscriptions", "create")
    creation["body"] = json.dumps({"url": receiver.url, "event_types": ["email.received"]})
    created = invoke(cloud, resources, "SubscriptionsFunction", creation)
    expect(created["statusCode"] == 201, f"create: {created}")
    print("a webhook is created")
    return json.loads(created["body"])


def publish(cloud, resources, body):
    cloud.client("sqs").send_message(
        QueueUrl=resources["EventsQueue"], MessageBody=json.dumps(body)
    )


def email(number):
    return {"event_type": "email.received", "user_id": USER, "data": {"n": number}, "event_id": f"e{number}"}


def publish_and_receive(cloud, resources, receiver, webhook):
    began = time.monotonic()
    publish(cloud, resources, email(1))
    wait_for("the delivery", lambda: receiver.requests, 60, cloud.process)
    _, headers, body = receiver.requests[0]
    check_signatures(headers, body, webhook["secret"])
    took = time.monotonic() - began
    print(f"an event through SQS became a signed POST after {took:.1f} s")


def retry_by_delayed_message(space, cloud, resources, receiver, webhook):
    receiver.requests.clear()
    receiver.script = [(500, {})]
    publish(cloud, resources, email(2))
    wait_for("the retry", lambda: len(receiver.requests) == 2, 60, cloud.process)
    (first, one, _), (second, two, _) = receiver.requests
    waited = second - first
    expect(waited >= 2, f"the retry came after {waited:.1f} s")
    ids = [{k.lower(): v for k, v in headers.items()}["webhook-id"] for headers in (one, two)]
    expect(ids[0] == ids[1], "the retry has another webhook-id")
    print(f"a failed attempt was retried after {waited:.1f} s, by a delayed message")

    def both():
        page = call(space, cloud, resources, "DeliveryHistoryFunction", "delivery-history", "list", webhook)
        states = [(d["status"], d["attempt_count"]) for d in page["items"]]
        return states == [("success", 2), ("success", 1)]

    wait_for("the history", both, 20, cloud.process)
    print("the history shows both deliveries")


def schedules(cloud, resources, receiver, webhook):
    """Checks the effect of both schedules: a parked retry is made, and an old delivery is removed."""
    rows = cloud.client("dynamodb")
    table = resources["DeliveriesTable"]

    def row(delivery_id):
        key = {"subscription_id": {"S": webhook["id"]}, "delivery_id": {"S": delivery_id}}
        return rows.get_item(TableName=table, Key=key, ConsistentRead=True).get("Item")

    receiver.requests.clear()
    receiver.script = [(503, {"retry-after": "1800"})]
    publish(cloud, resources, email(3))
    wait_for("the first attempt", lambda: receiver.requests, 60, cloud.process)
    _, headers, _ = receiver.requests[0]
    parked = {name.lower(): value for name, value in headers.items()}["webhook-id"]
    item = wait_for("the parked delivery", lambda: row(parked), 20, cloud.process)
    # Moves the retry from half an hour ahead to 20 s ahead. The row's `x` is the due time.
    soon = {"N": str(int(time.time() * 1000) + 20_000)}
    old = f"dlv_{ulid_time(int(time.time() * 1000) - 40 * 86_400_000)}{parked[-16:]}"
    rows.put_item(TableName=table, Item={**item, "due_at": soon, "x": soon})
    outdated = {k: v for k, v in item.items() if k not in ("due_at", "due_shard", "x")}
    rows.put_item(TableName=table, Item={**outdated, "delivery_id": {"S": old}})

    due = {"RetryFunction": "rate(5 minutes)", "CleanupFunction": "cron(0 2 * * ? *)"}
    fire(cloud, resources, due)
    wait_for("the parked retry", lambda: len(receiver.requests) == 2, 90, cloud.process)
    print(f"the schedule {due['RetryFunction']} sends a parked retry")
    wait_for("the cleanup", lambda: row(old) is None, 60, cloud.process)
    expect(row(parked), "the cleanup has removed a delivery that is not old")
    print(f"the schedule {due['CleanupFunction']} removes old deliveries")


def fire(cloud, resources, due):
    """Invokes the targets of the schedules immediately, through copies of the schedules that are due now."""
    scheduler, lambdas = cloud.client("scheduler"), cloud.client("lambda")
    known = [scheduler.get_schedule(Name=s["Name"]) for s in scheduler.list_schedules()["Schedules"]]
    found = {schedule["Target"]["Arn"]: schedule for schedule in known}
    expect(len(known) == len(due), f"there are {len(known)} schedules")
    for resource, expression in due.items():
        function = lambdas.get_function(FunctionName=resources[resource])
        schedule = found[f"{function['Configuration']['FunctionArn']}:live"]
        expect(schedule["ScheduleExpression"] == expression, f"{resource} is due {schedule}")
        now = datetime.datetime.now(datetime.UTC)
        scheduler.create_schedule(
            Name=f"{resource}-now",
            ScheduleExpression=f"at({now:%Y-%m-%dT%H:%M:%S})",
            FlexibleTimeWindow=schedule["FlexibleTimeWindow"],
            Target=schedule["Target"],
        )


def bad_event(cloud, resources):
    publish(cloud, resources, {"event_type": "no.such.type", "user_id": USER, "data": {}})

    def rejected_event():
        got = cloud.client("sqs").receive_message(
            QueueUrl=resources["EventsDlq"], MessageAttributeNames=["All"], WaitTimeSeconds=1
        )
        return got.get("Messages")

    found = wait_for("the rejected event", rejected_event, 60, cloud.process)[0]
    reason = found["MessageAttributes"]["reason"]["StringValue"]
    print(f"an event of an unknown type is in the dead-letter queue: {reason}")


def through_sns(cloud, resources, receiver):
    """A topic with raw message delivery is a publisher like any other (docs/DEPLOYING.md)."""
    sns, sqs = cloud.client("sns"), cloud.client("sqs")
    topic = sns.create_topic(Name="events")["TopicArn"]
    names = ["QueueArn"]
    queue = sqs.get_queue_attributes(QueueUrl=resources["EventsQueue"], AttributeNames=names)
    sns.subscribe(
        TopicArn=topic,
        Protocol="sqs",
        Endpoint=queue["Attributes"]["QueueArn"],
        Attributes={"RawMessageDelivery": "true"},
    )
    receiver.requests.clear()
    sns.publish(TopicArn=topic, Message=json.dumps(email(4)))
    wait_for("the delivery of what SNS sent", lambda: receiver.requests, 60, cloud.process)
    _, headers, _ = receiver.requests[0]
    print(f"an event through SNS with raw message delivery became a POST: {headers['webhook-id']}")
