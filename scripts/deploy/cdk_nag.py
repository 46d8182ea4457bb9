"""cdk-nag's AwsSolutions checks on the output of the SAM transform, as a second opinion to checkov. Needs Node.
scripts/cdk-nag.json has the reason for each finding that does not apply."""

import json
import shutil

from .template import transformed
from .tools import expect

PACKAGES = ["aws-cdk-lib@2.276.0", "cdk-nag@2.38.2", "constructs@10.8.1"]
PROGRAM = """
const {App, Aspects, Stack} = require('aws-cdk-lib');
const {CfnInclude} = require('aws-cdk-lib/cloudformation-include');
const {AwsSolutionsChecks, NagReportFormat} = require('cdk-nag');

const [template, outdir] = process.argv.slice(2);
const app = new App({outdir});
const stack = new Stack(app, 'webhooks', {env: {account: '111122223333', region: 'us-east-1'}});
new CfnInclude(stack, 'template', {templateFile: template});
Aspects.of(app).add(new AwsSolutionsChecks({reports: true, reportFormats: [NagReportFormat.JSON]}));
app.synth();
"""


def check(space):
    if shutil.which("npm") is None:
        space.warn("cdk-nag was left out: there is no Node")
        return
    home = space.work / "cdk-nag"
    installed = home / "installed"
    if not installed.exists() or installed.read_text() != str(PACKAGES):
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        space.run("npm", "install", "--prefix", home, "--no-audit", "--no-fund", "--ignore-scripts", *PACKAGES)
        installed.write_text(str(PACKAGES))
    # With the resources of canaries. The stack's own rules are for CloudFormation, the CDK does not know them.
    template = transformed(space, CanaryDeployments="true")
    template.pop("Rules")
    path, out = home / "template.json", home / "out"
    path.write_text(json.dumps(template, default=str))
    (home / "check.js").write_text(PROGRAM)
    shutil.rmtree(out, ignore_errors=True)
    space.run("node", home / "check.js", path, out)
    report = json.loads((out / "AwsSolutions--webhooks-NagReport.json").read_text())
    good = sum(line["compliance"] == "Compliant" for line in report["lines"])
    expect(good > 30, f"only {good} checks were made")
    found = {
        f"{line['ruleId'].removeprefix('AwsSolutions-')} {line['resourceId'].rpartition('/')[2]}": line["ruleInfo"]
        for line in report["lines"]
        if line["compliance"] != "Compliant"
    }
    waived = json.loads((space.root / "scripts/cdk-nag.json").read_text())
    new = [f"{finding}: {found[finding]}" for finding in found if finding not in waived]
    expect(not new, "cdk-nag: " + "; ".join(new))
    # A waiver that waives nothing hides the next finding of its kind.
    expect(waived.keys() == found.keys(), f"waived and not found: {waived.keys() - found.keys()}")
    print(f"cdk-nag: {good} checks are good, {len(waived)} findings are waived")
