"""The three checks of the template. Each finds errors that the others do not find."""

import json
import sys

from samcli.yamlhelper import yaml_parse
from samtranslator.translator.transform import transform

from .tools import REGION, expect


class NoManagedPolicies:
    """The template uses none, so the transform does not need to load them from AWS."""

    def load(self):
        return {}


def parsed(space):
    return yaml_parse((space.root / "template.yaml").read_text())


def transformed(space):
    """The template after the SAM transform."""
    template = parsed(space)
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = "s3://bucket/key"
    return transform(template, {}, NoManagedPolicies())


# The properties that name a resource in its account and region.
NAMES = ["AlarmName", "DashboardName", "FunctionName", "LogGroupName", "ManagedPolicyName", "Name"]
NAMES += ["QueueName", "RoleName", "TableName"]


def check_names(template):
    """Two stacks in one account and region must not want the same name. The transform adds names, too."""
    for resource, definition in template["Resources"].items():
        for name in NAMES:
            given = definition.get("Properties", {}).get(name)
            is_reference = isinstance(given, dict) and given.get("Ref") in template["Resources"]
            is_good = given is None or is_reference or "AWS::StackName" in json.dumps(given)
            expect(is_good, f"{name} of {resource} is the same in every stack: {given}")
    print("no resource has a fixed name")


def check(space):
    space.run("sam", "validate", "--region", REGION)
    print("sam validate: good")
    space.run("sam", "validate", "--lint", "--region", REGION)
    print("sam validate --lint: good")
    resources = transformed(space)
    path = space.work / "transformed.json"
    path.write_text(json.dumps(resources, indent=1, default=str))
    space.run("cfn-lint", "--regions", REGION, "--template", path)
    expect("AWS::Serverless" not in path.read_text(), "the transform left SAM resources")
    check_names(resources)
    print(space.run(sys.executable, space.root / "scripts/idle_cost.py", "--check").rstrip())
    print(f"cfn-lint after the transform: good, {len(resources['Resources'])} resources")
