"""The three checks of the template. Each finds errors that the others do not find."""

import json
import sys

from cfnlint.schema import PROVIDER_SCHEMA_MANAGER
from samcli.yamlhelper import yaml_parse
from samtranslator.translator.transform import transform

from .tools import REGION, expect


class NoManagedPolicies:
    """The template uses none, so the transform does not need to load them from AWS."""

    def load(self):
        return {}


def parsed(space):
    return yaml_parse((space.root / "template.yaml").read_text())


def transformed(space, **parameters):
    """The template after the SAM transform, with these parameters."""
    template = parsed(space)
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = "s3://bucket/key"
    return transform(template, parameters, NoManagedPolicies())


# The properties that name a resource in its account and region.
NAMES = ["AlarmName", "DashboardName", "FunctionName", "LogGroupName", "ManagedPolicyName", "Name"]
NAMES += ["QueueName", "RoleName", "TableName"]


def check_names(template):
    """Two stacks in one account and region must not want the same name. The transform adds names, too."""
    for resource, definition in template["Resources"].items():
        if definition["Type"] == "AWS::Lambda::Alias":
            # The name is one of its function.
            continue
        for name in NAMES:
            given = definition.get("Properties", {}).get(name)
            is_reference = isinstance(given, dict) and given.get("Ref") in template["Resources"]
            is_good = given is None or is_reference or "AWS::StackName" in json.dumps(given)
            expect(is_good, f"{name} of {resource} is the same in every stack: {given}")
    print("no resource has a fixed name")


# Without an alias: a page and its files must be those of one version.
UNVERSIONED = {"ConsoleFunction"}


def check_aliases(template, canaries):
    """Whatever invokes a function invokes its alias. A new version gets all of the load after its canary only."""
    resources = template["Resources"]
    of_type = lambda kind: {n: r for n, r in resources.items() if r["Type"] == f"AWS::{kind}"}
    names = of_type("Lambda::Function").keys() - UNVERSIONED
    aliases = {f"{name}Aliaslive" for name in names}
    expect(of_type("Lambda::Alias").keys() == aliases, "a function has no alias")
    for kind, path in [
        ("Lambda::EventSourceMapping", ["FunctionName"]),
        ("Lambda::Permission", ["FunctionName"]),
        ("Scheduler::Schedule", ["Target", "Arn"]),
    ]:
        for name, resource in of_type(kind).items():
            invoked = resource["Properties"]
            for part in path:
                invoked = invoked[part]
            is_good = invoked.get("Ref") in aliases | UNVERSIONED
            expect(is_good, f"{name} invokes {invoked}, which is no alias")
    for name in names:
        integration = json.dumps(resources["Api"]["Properties"]["Body"])
        expect(f"${{{name}.Arn}}/invocations" not in integration, f"the API invokes {name}, not its alias")
        config = resources.get(f"{name}EventInvokeConfig", {"Properties": {"Qualifier": "live"}})
        expect(config["Properties"]["Qualifier"] == "live", f"failed runs of the alias of {name} are lost")
    for name, version in of_type("Lambda::Version").items():
        function = resources[version["Properties"]["FunctionName"]["Ref"]]["Properties"]
        descriptions = version["Properties"]["Description"], function["Description"]
        expect(descriptions[0] == descriptions[1], f"{name} and its function: {descriptions}")
    groups = of_type("CodeDeploy::DeploymentGroup")
    expected = {f"{name}DeploymentGroup" for name in names} if canaries else set()
    expect(groups.keys() == expected, f"the functions with canaries are {groups.keys()}")
    for name, group in groups.items():
        rollback = group["Properties"]["AutoRollbackConfiguration"]["Events"]
        expect("DEPLOYMENT_STOP_ON_ALARM" in rollback, f"an alarm does not roll {name} back")
        condition, alarms, _ = group["Properties"]["AlarmConfiguration"]["Fn::If"]
        expect(condition == "HasAllAlarms" and len(alarms["Alarms"]) == 3, f"{name} watches {alarms}")
    for alias in aliases:
        policy = resources[alias].get("UpdatePolicy", {})
        expect(("CodeDeployLambdaAliasUpdate" in policy) == canaries, f"{alias} is updated by {policy}")
    print(f"{len(aliases)} functions are invoked through their aliases, {len(groups)} with canaries")


def check_replacement():
    """A parameter in the description of a version publishes another version, because CloudFormation cannot
    change the description of one."""
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, "AWS::Lambda::Version").schema
    expect("/properties/Description" in schema["createOnlyProperties"], "descriptions of versions change")


def check(space):
    check_replacement()
    space.run("sam", "validate", "--region", REGION)
    print("sam validate: good")
    space.run("sam", "validate", "--lint", "--region", REGION)
    print("sam validate --lint: good")
    # With canary deployments, the transform makes other resources.
    for canaries in ("true", "false"):
        resources = transformed(space, CanaryDeployments=canaries)
        path = space.work / "transformed.json"
        path.write_text(json.dumps(resources, indent=1, default=str))
        space.run("cfn-lint", "--regions", REGION, "--template", path)
        expect("AWS::Serverless" not in path.read_text(), "the transform left SAM resources")
        check_names(resources)
        check_aliases(resources, canaries == "true")
    print(space.run(sys.executable, space.root / "scripts/idle_cost.py", "--check").rstrip())
    print(f"cfn-lint after the transform: good, {len(resources['Resources'])} resources")
