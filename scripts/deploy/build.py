"""Builds every function as it is deployed, and checks the size of the packages."""

import shutil
import time
import zipfile

from .template import parsed
from .tools import FUNCTIONS, expect

MB = 1_000_000
# The largest zipped package of a function, in bytes.
SIZE_MAX = 4 * MB
SIZE_MAX_OF = {"event-types": 3 * MB // 2, "console": 3 * MB // 2}
# The empty functions that are built in the same way, and their packages. Init times are compared with
# theirs: that of a function of the API with the one on `lambda_http`.
EMPTY, EMPTY_HTTP = "empty", "empty-http"
EMPTY_PACKAGES = {EMPTY: "webhooks-runtime", EMPTY_HTTP: "webhooks-api"}


def check(space):
    deployed = "arm64" if space.arm64 else space.machine
    sam_build(space, deployed)
    check_sizes(space, deployed)


def check_host(space):
    """Builds for this machine what the emulators run."""
    if space.arm64:
        cargo_build(space, space.machine, FUNCTIONS)
        check_sizes(space, space.machine)
    for empty in EMPTY_PACKAGES:
        cargo_build(space, space.machine, [empty])


def sam_build(space, architecture):
    """`sam build` as in docs/DEPLOYING.md. Keeps each package under the name of the function's folder."""
    out = space.work / "sam" / architecture
    began = time.monotonic()
    space.run(
        *("sam", "build", "--build-dir", out, "--parameter-overrides", f"Architecture={architecture}"),
        "--no-cached",
    )
    print(f"sam build for {architecture} took {time.monotonic() - began:.0f} s", flush=True)
    for name, resource in parsed(space)["Resources"].items():
        if resource["Type"] == "AWS::Serverless::Function":
            function = resource["Properties"]["CodeUri"].removeprefix("functions/")
            keep(space, architecture, function, out / name / "bootstrap")


def cargo_build(space, architecture, functions):
    """Runs the command of `sam build` once for several functions, or for one empty function."""
    flags = {"arm64": "--arm64", "x86_64": "--x86-64"}
    packages = [part for function in functions for part in ("--package", function)]
    if functions[0] in EMPTY_PACKAGES:
        packages = ["--package", EMPTY_PACKAGES[functions[0]], "--example", functions[0]]
    began = time.monotonic()
    space.run(
        *("cargo", "lambda", "build", "--release", "--disable-optimizations", "--locked"),
        *(flags[architecture], *packages),
    )
    what = ", ".join(functions)
    print(f"{what} for {architecture} took {time.monotonic() - began:.0f} s", flush=True)
    for function in functions:
        keep(space, architecture, function, space.target / "lambda" / function / "bootstrap")


def keep(space, architecture, function, bootstrap):
    place = space.work / "build" / architecture / function
    place.mkdir(parents=True, exist_ok=True)
    shutil.copy2(bootstrap, place)


def check_sizes(space, architecture):
    for function in FUNCTIONS:
        size = package(space.work / "build" / architecture / function)
        most = SIZE_MAX_OF.get(function, SIZE_MAX)
        print(f"{architecture:7} {function:14} {size / MB:5.2f} MB zipped")
        expect(size <= most, f"{function} is larger than {most / MB} MB")


def package(folder):
    """Zips a bootstrap as it is uploaded. Returns the size in bytes."""
    path = folder / "function.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.write(folder / "bootstrap", "bootstrap")
    return path.stat().st_size
