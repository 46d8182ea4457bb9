"""The three checks of the template. Each finds errors that the others do not find."""

import json

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
    print(f"cfn-lint after the transform: good, {len(resources['Resources'])} resources")
