"""The three checks of the template; each finds mistakes that the others do not."""

import json

from samcli.yamlhelper import yaml_parse
from samtranslator.translator.transform import transform

from .tools import REGION, expect


class NoManagedPolicies:
    """The template names none, so the transform need not ask AWS for them."""

    def load(self):
        return {}


def parsed(shop):
    return yaml_parse((shop.root / "template.yaml").read_text())


def transformed(shop):
    """What the SAM transform makes of the template."""
    template = parsed(shop)
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = "s3://bucket/key"
    return transform(template, {}, NoManagedPolicies())


def check(shop):
    shop.run("sam", "validate", "--region", REGION)
    print("sam validate: good")
    shop.run("sam", "validate", "--lint", "--region", REGION)
    print("sam validate --lint: good")
    resources = transformed(shop)
    path = shop.work / "transformed.json"
    path.write_text(json.dumps(resources, indent=1, default=str))
    shop.run("cfn-lint", "--regions", REGION, "--template", path)
    expect("AWS::Serverless" not in path.read_text(), "the transform left SAM resources")
    print(f"cfn-lint after the transform: good, {len(resources['Resources'])} resources")
