"""Whole runs of scripts/deploy.py against ministack: key, user pool, topic, `sam build`, `sam deploy`, first runs.

Only two things are not real. A stand-in for `cargo lambda` makes functions that answer `{}`, so that nothing is
compiled. And the template lacks what ministack cannot create. The smoke test runs in the step `smoke`, because
ministack has no routes of an HTTP API."""

import base64
import json
import os
import shutil
import sys

from samcli.yamlhelper import yaml_dump

from .ministack_run import Cloud, supported
from .tools import REGION, Failed, expect

FUNCTION = """#!{python}
import os
import urllib.request

runtime = f"http://{{os.environ['AWS_LAMBDA_RUNTIME_API']}}/2018-06-01/runtime/invocation"
while True:
    with urllib.request.urlopen(f"{{runtime}}/next") as invocation:
        identifier = invocation.headers["Lambda-Runtime-Aws-Request-Id"]
    urllib.request.urlopen(f"{{runtime}}/{{identifier}}/response", data=b"{{}}").close()
"""

# Called as `cargo lambda build …` in the folder of a function.
CARGO_LAMBDA = """#!{python}
import os
import pathlib
import shutil

out = pathlib.Path(os.environ["CARGO_TARGET_DIR"], "lambda", pathlib.Path.cwd().name)
out.mkdir(parents=True, exist_ok=True)
shutil.copy("{function}", out / "bootstrap")
"""


def check(space):
    cloud = Cloud(space)
    project, environment = prepare(space)
    issuer = check_stage(space, cloud, project, environment, "dev", "--parameter", "LogLevel=debug")
    again = check_stage(space, cloud, project, environment, "dev", "--parameter", "LogLevel=debug")
    expect(again == issuer, "the second run made another user pool")
    check_stage(space, cloud, project, environment, "prod", "--alarm-email", "me@example.com")
    built = project / ".aws-sam/build"
    shutil.rmtree(environment["CARGO_TARGET_DIR"])
    check_stage(space, cloud, project, environment, "staging", "--built", str(built))
    expect(not os.path.exists(environment["CARGO_TARGET_DIR"]), "--built has built")
    try:
        run(space, project, environment, cloud, "prod", "--issuer", "https://issuer.example.com")
    except Failed as failure:
        expect("--issuer and --audience go together" in str(failure), str(failure))
    else:
        raise Failed("an issuer without an audience is accepted")
    space.stop(cloud.process)
    print("scripts/deploy.py deploys dev, prod and what is built; repeated, it finds key, user pool and topic")


def prepare(space):
    """A folder with the project, and the environment with the stand-in."""
    project = space.work / "project"
    shutil.rmtree(project, ignore_errors=True)
    (project / "bin").mkdir(parents=True)
    kept = ["Cargo.toml", "Cargo.lock", "catalogue", "functions", "shared", "tests", "local", "cli", "samconfig.toml"]
    for name in kept:
        (project / name).symlink_to(space.root / name)
    shutil.copytree(space.root / "scripts", project / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    (project / "template.yaml").write_text(yaml_dump(supported(space)))
    python = sys.executable
    write_program(project / "bin/function", FUNCTION.format(python=python))
    write_program(
        project / "bin/cargo-lambda", CARGO_LAMBDA.format(python=python, function=project / "bin/function")
    )
    path = f"{project / 'bin'}{os.pathsep}{space.env['PATH']}"
    return project, {**space.env, "PATH": path, "CARGO_TARGET_DIR": str(project / "target")}


def write_program(path, text):
    path.write_text(text)
    path.chmod(0o755)


def run(space, project, environment, cloud, stage, *arguments):
    command = [sys.executable, project / "scripts/deploy.py", stage, "--endpoint-url", cloud.url]
    command += ["--no-smoke-test", "--architecture", space.machine, *arguments]
    return space.run(*command, env=environment)


def check_stage(space, cloud, project, environment, stage, *arguments):
    """Deploys a stage, and returns its issuer."""
    output = run(space, project, environment, cloud, stage, *arguments)
    stack = f"webhooks-{stage}"
    for line in ("curl -X POST http", "aws sqs send-message --region", "/deliveries -H"):
        expect(line in output, f"the lines for the first webhook are missing:\n{output}")
    found = cloud.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
    expect(found["StackStatus"].endswith("_COMPLETE"), f"{stack} is {found['StackStatus']}")
    parameters = {p["ParameterKey"]: p["ParameterValue"] for p in found["Parameters"]}
    issuer, prod = parameters["JwtIssuer"], stage == "prod"
    expected = {
        "Stage": stage,
        "SecretsKeysName": f"/webhooks/{stage}/secrets-keys",
        "Architecture": space.machine,
        "CanaryDeployments": "true" if prod else "false",
        "AlarmSet": "all" if prod else "essential",
    }
    different = {name: parameters[name] for name in expected if parameters[name] != expected[name]}
    expect(not different, f"{stack} has the parameters {different}")
    expect(bool(parameters["AlarmTopicArn"]) == prod, f"the topic is {parameters['AlarmTopicArn']}")
    expect(parameters["Release"], "the release has no name")
    check_key(cloud, parameters["SecretsKeysName"])
    check_pool(cloud, issuer, parameters["JwtAudience"])
    return issuer


def check_key(cloud, name):
    value = cloud.client("ssm").get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"]
    identifier, _, key = value.partition(":")
    expect(identifier == "k1" and len(base64.b64decode(key)) == 32, "the key has another form")


def check_pool(cloud, issuer, audience):
    cognito, (host, _, pool) = cloud.client("cognito-idp"), issuer.rpartition("/")
    expect(host == f"https://cognito-idp.{REGION}.amazonaws.com", f"the issuer is {issuer}")
    found = cognito.describe_user_pool(UserPoolId=pool)["UserPool"]
    closed = found.get("AdminCreateUserConfig", {}).get("AllowAdminCreateUserOnly")
    expect(closed is True, "anyone can sign up")
    clients = cognito.list_user_pool_clients(UserPoolId=pool, MaxResults=10)["UserPoolClients"]
    expect([c["ClientId"] for c in clients] == [audience], "the audience is not the client's id")
