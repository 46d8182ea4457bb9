#!/usr/bin/env python3
"""Proves everything about the deployment that can be proven without an AWS account.

    python3 scripts/verify_deploy.py [--only STEP …] [--skip-arm64] [--work DIR]

Needs Rust and Python alone. The tools come from PyPI into an environment under target/, which is made
once and again when scripts/requirements.txt changes. Everything listens on loopback, on free ports, and
is stopped at the end.

The steps, in order:
  template   sam validate, its lint, and cfn-lint on what the SAM transform makes of the template
  build      sam build for arm64, as it is deployed; and the functions for this machine, to run them
  emulator   every function under AWS's runtime emulator against the local endpoints, with every file of
             events/: answers, init times, memory and package sizes
  ministack  the template with the real binaries on ministack: the main job, a retry, both schedules
  smoke      scripts/smoke_test.py against `cargo dev`
"""

import argparse
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STEPS = ["template", "build", "emulator", "ministack", "smoke"]


def environment(work: Path) -> Path:
    """The Python of the throw-away environment, which is made where it is missing or stale."""
    wanted = (ROOT / "scripts/requirements.txt").read_text()
    home, stamp = work / "venv", work / "venv/requirements.txt"
    python = home / "bin/python"
    if not stamp.exists() or stamp.read_text() != wanted:
        print("installing the tools …", flush=True)
        venv.create(home, with_pip=True, clear=True)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "-r", ROOT / "scripts/requirements.txt"], check=True)
        stamp.write_text(wanted)
    return python


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=STEPS, default=STEPS, help="just these steps")
    parser.add_argument("--skip-arm64", action="store_true", help="build for this machine alone")
    parser.add_argument("--work", type=Path, help="where to work; target/verify-deploy if not said")
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
    from deploy import build, emulator, ministack_run, smoke, template
    from deploy.tools import Failed, Workshop

    with Workshop(ROOT, work, target, arm64=not options.skip_arm64) as shop:
        steps = {
            "template": template.check,
            "build": build.check,
            "emulator": emulator.check,
            "ministack": ministack_run.check,
            "smoke": smoke.check,
        }
        for name in options.only:
            print(f"\n== {name}", flush=True)
            try:
                steps[name](shop)
            except Failed as failure:
                print(f"FAILED: {failure}", flush=True)
                return 1
    print("\nverify-deploy: all good", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
