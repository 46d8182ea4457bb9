#!/usr/bin/env python3
"""Checks everything about the deployment that can be checked without an AWS account.

    python3 scripts/verify_deploy.py [--only STEP …] [--skip-arm64] [--work DIR]

Needs Rust and Python. Installs its tools from PyPI into an environment under target/, once and again
when scripts/requirements.txt changes. Everything listens on loopback, on free ports, and is stopped at
the end. A step that fails does not stop the steps that do not need its result. The summary at the end
lists failures and warnings.

The steps, in order:
  template   sam validate, its lint, and cfn-lint on what the SAM transform makes of the template; fixed
             names; the table of idle costs in docs/DEPLOYING.md
  checkov    checkov on what the SAM transform makes of the template
  cdk-nag    cdk-nag on the same; left out without Node
  commands   the `aws` commands of the documents have the operations and flags of the AWS CLI 1 and 2
  release    the workflows, and scripts/release.py on stand-ins for what is built
  smoke      scripts/smoke_test.py and scripts/redrive.py against `cargo dev`
  stacks     on ministack, with functions that do nothing: two stacks side by side, a first deployment that
             fails and is repeated, a restored table, scripts/remove_stack.py, and what scripts/deploy.py
             makes for a stack
  console    on ministack, with the programs of `cargo build` behind the routes of the template: sign-in at an
             issuer and one journey through the console in Chromium, and its headers; left out without Node
  build      sam build for arm64, as it is deployed, and the sizes of the packages
  host       a build for this machine, to run the functions
  emulator   every function under AWS's runtime emulator against the local endpoints, with every file of
             events/: answers, init times, package sizes, and memory at the documented limits (needs host)
  counts     the instructions of a delivery, an event and an API request, against those that
             tests/bench/work.json records (needs host, and Valgrind on x86-64)
  ministack  the template with the real binaries on ministack: the main job, a retry, both schedules
             (needs host)
"""

import argparse
import os
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STEPS = ["template", "checkov", "cdk-nag", "commands", "release", "smoke", "stacks", "console"]
STEPS += ["build", "host", "emulator", "counts", "ministack"]
# The steps that need the packages of `host`. Run with --only, they use those of an earlier run.
NEED_HOST = ["emulator", "counts", "ministack"]


def environment(work: Path) -> Path:
    """The Python of the environment. Creates the environment if it is missing or outdated."""
    wanted = (ROOT / "scripts/requirements.txt").read_text()
    home, stamp = work / "venv", work / "venv/requirements.txt"
    python = home / "bin/python"
    if not stamp.exists() or stamp.read_text() != wanted:
        print("installing the tools", flush=True)
        venv.create(home, with_pip=True, clear=True)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "-r", ROOT / "scripts/requirements.txt"], check=True)
        stamp.write_text(wanted)
    return python


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=STEPS, default=STEPS, help="run only these steps")
    parser.add_argument("--skip-arm64", action="store_true", help="build only for this machine")
    parser.add_argument("--work", type=Path, help="the working folder, by default target/verify-deploy")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    work = (options.work or target / "verify-deploy").resolve()
    work.mkdir(parents=True, exist_ok=True)
    python = environment(work)
    if Path(sys.prefix) != work / "venv":
        os.execv(python, [str(python), *sys.argv])

    sys.path.insert(0, str(ROOT / "scripts"))
    from deploy import (
        build, cdk_nag, checkov, commands, console, counts, emulator, ministack_run, release, smoke, stacks,
        template,
    )
    from deploy.tools import Failed, Workspace

    steps = {
        "template": template.check,
        "checkov": checkov.check,
        "cdk-nag": cdk_nag.check,
        "commands": commands.check,
        "release": release.check,
        "smoke": smoke.check,
        "stacks": stacks.check,
        "console": console.check,
        "build": build.check,
        "host": build.check_host,
        "emulator": emulator.check,
        "counts": counts.check,
        "ministack": ministack_run.check,
    }
    failures = {}
    with Workspace(ROOT, work, target, arm64=not options.skip_arm64) as space:
        for name in options.only:
            print(f"\n== {name}", flush=True)
            if name in NEED_HOST and not failures.keys().isdisjoint(["build", "host"]):
                failures[name] = "not run, because the build failed"
                print(failures[name], flush=True)
                continue
            began = time.monotonic()
            try:
                steps[name](space)
                print(f"{name}: passed in {time.monotonic() - began:.0f} s", flush=True)
            except (Failed, OSError) as failure:
                failures[name] = str(failure).partition("\n")[0]
                print(f"FAILED: {failure}", flush=True)
                space.stop_all()
        for warning in space.warnings:
            print(f"\nWARNING: {warning}", flush=True)
    for name, failure in failures.items():
        print(f"\nFAILED {name}: {failure}", flush=True)
    if not failures:
        print(f"\nverify-deploy: passed: {', '.join(options.only)}", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
