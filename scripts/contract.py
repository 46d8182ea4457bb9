#!/usr/bin/env python3
"""Runs the contract against `cargo dev`: schemathesis, clients that are generated from openapi.yaml, and
the commands of scripts/operate.py.

Everything that it installs is below target/contract. Node is optional: without it, the TypeScript client and redocly
are skipped, and the last lines say so.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "scripts" / "contract"
WORK = ROOT / "target" / "contract"
BIN = WORK / "venv" / "bin"


def run(*command, **options):
    print("$", Path(str(command[0])).name, *command[1:3], flush=True)
    return subprocess.run([str(part) for part in command], check=True, **options)


def install_python():
    requirements = HERE / "requirements.txt"
    done = WORK / "requirements.txt"
    if done.exists() and done.read_text() == requirements.read_text():
        return
    run(sys.executable, "-m", "venv", WORK / "venv")
    run(BIN / "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements)
    shutil.copy(requirements, done)


def install_node():
    manifest = HERE / "package.json"
    done = WORK / "node" / "installed.json"
    if done.exists() and done.read_text() == manifest.read_text():
        return
    done.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(manifest, done.parent)
    run("npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", cwd=done.parent)
    shutil.copy(manifest, done)


class Dev:
    """The local system on free ports."""

    def __enter__(self):
        binary = ROOT / "target" / "debug" / "dev"
        ports = [f"--{name}-addr=127.0.0.1:0" for name in ("api", "sqs", "dynamodb", "receiver")]
        self.process = subprocess.Popen(
            [binary, "--json", *ports], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.addresses = json.loads(self.process.stdout.readline())
        self.api = self.addresses["api"]
        self.token = self.addresses["token"]
        return self

    def __exit__(self, *exception):
        self.process.terminate()
        self.process.wait()

    def user(self, name):
        binary = ROOT / "target" / "debug" / "dev"
        return subprocess.run([binary, "token", name], check=True, capture_output=True, text=True).stdout.strip()


def schemathesis(dev):
    run(
        BIN / "schemathesis",
        f"--config-file={HERE / 'schemathesis.toml'}",
        "run",
        f"{dev.api}/api/openapi.json",
        f"--url={dev.api}",
        f"--header=Authorization: Bearer {dev.token}",
        "--checks=all",
        cwd=WORK,
        env={**os.environ, "SCHEMATHESIS_HOOKS": str(HERE / "hooks.py")},
    )


def python_client(dev):
    client = WORK / "python-client"
    shutil.rmtree(client, ignore_errors=True)
    run(
        BIN / "openapi-python-client", "generate", f"--path={ROOT / 'openapi.yaml'}", "--meta=none",
        f"--output-path={client / 'webhooks_client'}", "--fail-on-warning",
        env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"},
    )
    run(
        BIN / "python", HERE / "smoke.py", dev.api, dev.user("python-client"),
        env={**os.environ, "PYTHONPATH": str(client)},
    )


def typescript_client(dev):
    node = WORK / "node"
    tool = node / "node_modules" / ".bin"
    run(tool / "redocly", "lint", "--config", HERE / "redocly.yaml", ROOT / "openapi.yaml", cwd=node)
    run(
        tool / "openapi-typescript", ROOT / "openapi.yaml", "--output", node / "webhooks.d.ts",
        "--default-non-nullable=false", cwd=node,
    )
    for file in ("smoke.mts", "asyncapi.cjs"):
        shutil.copy(HERE / file, node)
    run("node", "asyncapi.cjs", ROOT / "asyncapi.yaml", cwd=node)
    run(
        tool / "tsc", "--strict", "--skipLibCheck", "--noEmitOnError", "--target", "es2022",
        "--module", "nodenext", "--types", "node", "smoke.mts", cwd=node,
    )
    run("node", "smoke.mjs", dev.api, dev.user("typescript-client"), cwd=node)


def operator(dev):
    addresses = (dev.api, dev.addresses["dynamodb"], dev.addresses["receiver"])
    run(BIN / "python", HERE / "operate.py", *addresses, dev.user("operated"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=["python", "node", "schemathesis", "operator"], help="run these parts only")
    only = parser.parse_args().only or ["schemathesis", "python", "node", "operator"]
    began = time.monotonic()
    has_node = shutil.which("npm") is not None
    install_python()
    if "node" in only and has_node:
        install_node()
    with Dev() as dev:
        if "python" in only:
            python_client(dev)
        if "node" in only and has_node:
            typescript_client(dev)
        if "operator" in only:
            operator(dev)
        if "schemathesis" in only:
            schemathesis(dev)
    if not has_node:
        print("NOT RUN: redocly and the TypeScript client, because there is no npm")
    print(f"the contract holds ({time.monotonic() - began:.0f} s)")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"FAILED: {Path(str(error.cmd[0])).name} {' '.join(map(str, error.cmd[1:3]))}")
