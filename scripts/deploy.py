#!/usr/bin/env python3
"""Deploys a stage in one command: key, identity provider, build, stack, smoke test.

    python3 scripts/deploy.py dev
    python3 scripts/deploy.py prod --issuer https://… --audience … --alarm-email ONCALL@YOUR-DOMAIN

What exists is used, what is missing is made, so the command can be repeated. Without --issuer it makes a
Cognito user pool with the user `me`. With --issuer, the smoke test needs a token of your provider in the
environment variable SMOKE_TOKEN; without it the smoke test is left out, and the script says so. Needs the SAM CLI
with its Python packages, and what docs/DEPLOYING.md lists for the build; with --built DIR, such as `stack` of a
release archive, nothing is built.

With --alarm-email, a new version in prod gets 10 % of the load for 15 minutes, and an alarm in this time rolls the
stack back. While such an alarm is on, only --all-at-once deploys. scripts/roll_back.py goes back within seconds.
"""

import argparse
import base64
import datetime
import json
import os
import secrets
import subprocess
import sys
import urllib.request
from pathlib import Path

import boto3
from botocore.exceptions import ClientError

ROOT = Path(__file__).resolve().parent.parent
USER = "me"


def client(options, service):
    return boto3.client(service, region_name=options.region, endpoint_url=options.endpoint_url)


def make_keys(options):
    """Creates the parameter with the key that seals signing secrets, unless there is one."""
    name = f"/webhooks/{options.stage}/secrets-keys"
    ssm = client(options, "ssm")
    try:
        ssm.get_parameter(Name=name)
        print(f"the parameter {name} exists")
    except ssm.exceptions.ParameterNotFound:
        key = base64.b64encode(os.urandom(32)).decode()
        ssm.put_parameter(Name=name, Type="SecureString", Value=f"k1:{key}")
        print(f"the parameter {name} is created")
    return name


def make_pool(options):
    """Creates the user pool, its client and its user, unless they exist. Returns issuer, audience and a
    token."""
    cognito, name = client(options, "cognito-idp"), f"webhooks-{options.stage}"
    prod = options.stage == "prod"
    # In prod, only who may administrate the pool gets a token with a password.
    flow = "ADMIN_USER_PASSWORD_AUTH" if prod else "USER_PASSWORD_AUTH"
    pages = cognito.list_user_pools(MaxResults=60)["UserPools"]
    pool = next((pool["Id"] for pool in pages if pool["Name"] == name), None)
    if pool is None:
        closed = {"AllowAdminCreateUserOnly": True}
        created = cognito.create_user_pool(
            PoolName=name,
            AdminCreateUserConfig=closed,
            DeletionProtection="ACTIVE" if prod else "INACTIVE",
        )
        pool = created["UserPool"]["Id"]
        print(f"the user pool {name} is created")
    clients = cognito.list_user_pool_clients(UserPoolId=pool, MaxResults=60)["UserPoolClients"]
    audience = next((c["ClientId"] for c in clients if c["ClientName"] == name), None)
    if audience is None:
        created = cognito.create_user_pool_client(
            UserPoolId=pool,
            ClientName=name,
            ExplicitAuthFlows=[f"ALLOW_{flow}", "ALLOW_REFRESH_TOKEN_AUTH"],
        )
        audience = created["UserPoolClient"]["ClientId"]
    try:
        cognito.admin_create_user(UserPoolId=pool, Username=USER, MessageAction="SUPPRESS")
    except cognito.exceptions.UsernameExistsException:
        pass
    # A new password each time: none has to be kept.
    password = f"{secrets.token_hex(12)}aA1-"
    cognito.admin_set_user_password(UserPoolId=pool, Username=USER, Password=password, Permanent=True)
    login = {
        "ClientId": audience,
        "AuthFlow": flow,
        "AuthParameters": {"USERNAME": USER, "PASSWORD": password},
    }
    signed_in = (
        cognito.admin_initiate_auth(UserPoolId=pool, **login) if prod else cognito.initiate_auth(**login)
    )
    issuer = f"https://cognito-idp.{options.region}.amazonaws.com/{pool}"
    return issuer, audience, signed_in["AuthenticationResult"]["AccessToken"]


def check_issuer(issuer):
    """A wrong issuer fails the stack only after minutes."""
    url = issuer.rstrip("/") + "/.well-known/openid-configuration"
    with urllib.request.urlopen(url, timeout=10) as answer:
        found = json.load(answer)["issuer"]
    if found != issuer:
        sys.exit(f"--issuer must be {found}, as {url} says")


def make_topic(options):
    sns = client(options, "sns")
    topic = sns.create_topic(Name=f"webhooks-{options.stage}-alarms")["TopicArn"]
    known = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    if options.alarm_email not in [subscription["Endpoint"] for subscription in known]:
        sns.subscribe(TopicArn=topic, Protocol="email", Endpoint=options.alarm_email)
        print(f"confirm the subscription with the link in the mail to {options.alarm_email}")
    return topic


def overrides(options, keys, issuer, audience):
    """The parameters of the stack: those of samconfig.toml for this stage, and those found here."""
    prod = options.stage == "prod"
    values = {
        "Stage": options.stage,
        "SecretsKeysName": keys,
        "JwtIssuer": issuer,
        "JwtAudience": audience,
        "Architecture": options.architecture,
        "LogRetentionDays": 90 if prod else 7,
        "Release": options.release,
        # An alarm is what rolls a canary back.
        "CanaryDeployments": str(bool(prod and options.alarm_email and not options.all_at_once)).lower(),
    }
    if prod:
        values |= {
            "AlarmSet": "all",
            "DashboardEnabled": "true",
            "DeliveriesPointInTimeRecovery": "true",
        }
    if options.alarm_email:
        values["AlarmTopicArn"] = make_topic(options)
    values |= dict(pair.split("=", 1) for pair in options.parameter)
    return [f"{name}={value}" for name, value in values.items()]


def sam(options, *command):
    # Both names: tools differ in which they read.
    region = {"AWS_REGION": options.region, "AWS_DEFAULT_REGION": options.region}
    endpoint = {"AWS_ENDPOINT_URL": options.endpoint_url} if options.endpoint_url else {}
    environment = {**os.environ, **region, **endpoint}
    if subprocess.run(["sam", *command], cwd=ROOT, env=environment, check=False).returncode != 0:
        sys.exit(f"sam {command[0]} has failed; docs/DEPLOYING.md lists causes")


def exists(options, stack):
    try:
        client(options, "cloudformation").describe_stacks(StackName=stack)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationError":
            raise
        return False
    return True


def outputs(options, stack):
    stacks = client(options, "cloudformation").describe_stacks(StackName=stack)["Stacks"]
    return {output["OutputKey"]: output["OutputValue"] for output in stacks[0]["Outputs"]}


def first_runs(options, stack):
    """Runs both schedules once: until then the alarms on their absence are on."""
    for function in ("retry", "cleanup"):
        answer = client(options, "lambda").invoke(FunctionName=f"{stack}-{function}:live", Payload=b"{}")
        if "FunctionError" in answer:
            sys.exit(f"{function} failed: {answer['Payload'].read().decode()}")


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=["dev", "staging", "prod"])
    parser.add_argument("--region", help="by default that of the environment or the profile")
    parser.add_argument("--issuer", help="the `iss` of the tokens of your identity provider")
    parser.add_argument("--audience", help="their `aud` or `client_id`")
    parser.add_argument("--alarm-email", help="who receives the alarms")
    parser.add_argument("--architecture", choices=["arm64", "x86_64"], default="arm64")
    parser.add_argument(
        "--parameter", action="append", default=[], metavar="NAME=VALUE", help="a parameter of the stack"
    )
    parser.add_argument("--built", type=Path, metavar="DIR", help="deploy what `sam build` wrote here before")
    parser.add_argument("--all-at-once", action="store_true", help="no canary")
    parser.add_argument("--no-smoke-test", action="store_true", help="leave the smoke test out")
    parser.add_argument("--endpoint-url", help="the endpoint of emulated AWS services")
    options = parser.parse_args()
    options.region = options.region or os.environ.get("AWS_REGION") or boto3.Session().region_name
    if not options.region:
        parser.error("no region: export AWS_REGION and AWS_DEFAULT_REGION, or give --region")
    if bool(options.issuer) != bool(options.audience):
        parser.error("--issuer and --audience go together")
    if any("=" not in pair for pair in options.parameter):
        parser.error("--parameter must be NAME=VALUE")
    if options.built and not (options.built / "template.yaml").is_file():
        parser.error(f"--built: there is no template.yaml in {options.built}")
    # Each deployment publishes a version of every function, also a repeated one.
    options.release = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    return options


def main():
    options = arguments()
    stack, token = f"webhooks-{options.stage}", None
    if options.issuer:
        issuer, audience = options.issuer, options.audience
        token = os.environ.get("SMOKE_TOKEN")
        check_issuer(issuer)
    else:
        issuer, audience, token = make_pool(options)
    values = overrides(options, make_keys(options), issuer, audience)
    is_new = not exists(options, stack)
    template = []
    if options.built:
        # sam looks for its configuration beside the template.
        template = ["--template-file", str(options.built.resolve() / "template.yaml")]
        template += ["--config-file", str(ROOT / "samconfig.toml")]
    else:
        # Otherwise sam builds for the template's default architecture.
        architecture = f"Architecture={options.architecture}"
        sam(options, "build", "--config-env", options.stage, "--parameter-overrides", architecture)
    # Nobody can answer in a workflow; there the approval of the environment is the answer.
    unattended = [] if sys.stdin.isatty() else ["--no-confirm-changeset"]
    sam(
        *(options, "deploy", "--config-env", options.stage, "--region", options.region),
        *(*template, *unattended),
        *("--no-fail-on-empty-changeset", "--parameter-overrides", *values),
    )
    found = outputs(options, stack)
    if is_new:
        first_runs(options, stack)
    if options.no_smoke_test:
        print("the smoke test was left out")
    elif token:
        smoke = [sys.executable, str(ROOT / "scripts/smoke_test.py"), "--url", found["ApiUrl"]]
        smoke += ["--token", token, "--queue-url", found["EventsQueueUrl"]]
        smoke += ["--region", options.region]
        subprocess.run(smoke, check=True)
    else:
        print("the smoke test was left out: SMOKE_TOKEN is not set")
    print_first_webhook(options, found, token)
    return 0


def print_first_webhook(options, found, token):
    """Three commands. A token is printed for who sits in front of it only, not into the log of a workflow."""
    shown = token if token and sys.stdout.isatty() else "…"
    user = "YOUR-USER-ID"
    if token and token.count(".") == 2:
        payload = token.split(".")[1]
        user = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["sub"]
    first = json.loads(min((ROOT / "catalogue").glob("*.json")).read_text())
    webhook = {"url": "https://YOUR-ENDPOINT/hook", "event_types": [first["name"]]}
    event = {"event_type": first["name"], "user_id": user, "data": first["example"]}
    quoted = lambda value: json.dumps(value).replace("'", "\\u0027")
    print(f"\nThe first webhook (docs/DEPLOYING.md, step 4), with TOKEN={shown}:")
    print(
        f"  curl -X POST {found['ApiUrl']}/api/webhooks -H \"Authorization: Bearer $TOKEN\""
        f" -H 'Content-Type: application/json' -d '{quoted(webhook)}'"
    )
    print(
        f"  aws sqs send-message --region {options.region} --queue-url {found['EventsQueueUrl']}"
        f" --message-body '{quoted(event)}'"
    )
    print(f"  curl {found['ApiUrl']}/api/webhooks/ID/deliveries -H \"Authorization: Bearer $TOKEN\"")


if __name__ == "__main__":
    sys.exit(main())
