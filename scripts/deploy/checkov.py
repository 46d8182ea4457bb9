"""checkov on the output of the SAM transform. scripts/checkov.yaml has a reason for each finding that does not
apply."""

import json
import subprocess
import venv

from .template import transformed
from .tools import expect

# In an environment of its own, because it pins other versions of the AWS SDK.
PACKAGE = "checkov==3.3.30"


def check(space):
    home = space.work / PACKAGE.replace("==", "-")
    if not (home / "bin/checkov").exists():
        venv.create(home, with_pip=True, clear=True)
        install = [home / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, PACKAGE], check=True)
    path = space.work / "checkov.json"
    path.write_text(json.dumps(transformed(space), indent=1, default=str))
    config = space.root / "scripts/checkov.yaml"
    space.run(home / "bin/checkov", "--skip-download", "--config-file", config, "--file", path)
    # A waiver that waives nothing hides the next finding of its kind.
    output = subprocess.run(
        [home / "bin/checkov", "--skip-download", "--framework", "cloudformation", "--output", "json"]
        + ["--file", path],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
        env=space.env,
    ).stdout
    found = {check["check_id"] for check in json.loads(output)["results"]["failed_checks"]}
    waived = {line.strip(" -\n") for line in config.read_text().splitlines() if line.startswith("  - ")}
    expect(waived == found, f"waived and not found: {waived - found}; found: {found - waived}")
    print(f"checkov: good, {len(waived)} kinds of findings are waived")
