"""Builds every function from the sources, as it is deployed, and looks at the packages."""

import shutil
import time
import zipfile

from .template import parsed
from .tools import FUNCTIONS, expect

MB = 1_000_000
# The largest zipped package of a function, in bytes.
SIZE_MAX = 4 * MB
SIZE_MAX_OF = {"event-types": 3 * MB // 2}
# The empty function that init times are measured against; built in the same way.
EMPTY = "empty"


def check(shop):
    deployed = "arm64" if shop.arm64 else shop.machine
    sam_build(shop, deployed)
    look_at(shop, deployed)
    if shop.machine != deployed:
        cargo_build(shop, shop.machine, FUNCTIONS)
        look_at(shop, shop.machine)
    cargo_build(shop, shop.machine, [EMPTY])


def sam_build(shop, architecture):
    """`sam build` as in docs/DEPLOYING.md; the packages end up by the folders of the functions."""
    out = shop.work / "sam" / architecture
    began = time.monotonic()
    shop.run(
        *("sam", "build", "--build-dir", out, "--parameter-overrides", f"Architecture={architecture}"),
        "--no-cached",
    )
    print(f"sam build for {architecture} took {time.monotonic() - began:.0f} s", flush=True)
    for name, resource in parsed(shop)["Resources"].items():
        if resource["Type"] == "AWS::Serverless::Function":
            function = resource["Properties"]["CodeUri"].removeprefix("functions/")
            keep(shop, architecture, function, out / name / "bootstrap")


def cargo_build(shop, architecture, functions):
    """What `sam build` does, for all functions at once; and the empty one, which no template has."""
    flags = {"arm64": "--arm64", "x86_64": "--x86-64"}
    packages = [part for function in functions for part in ("--package", function)]
    if functions == [EMPTY]:
        packages = ["--package", "webhooks-runtime", "--example", EMPTY]
    began = time.monotonic()
    shop.run(
        *("cargo", "lambda", "build", "--release", "--disable-optimizations", "--locked"),
        *(flags[architecture], "--manifest-path", "../Cargo.toml", *packages),
        # As `sam build` does: functions/.cargo/config.toml counts there.
        cwd=shop.root / "functions",
    )
    what = ", ".join(functions)
    print(f"{what} for {architecture} took {time.monotonic() - began:.0f} s", flush=True)
    for function in functions:
        keep(shop, architecture, function, shop.target / "lambda" / function / "bootstrap")


def keep(shop, architecture, function, bootstrap):
    place = shop.work / "build" / architecture / function
    place.mkdir(parents=True, exist_ok=True)
    shutil.copy2(bootstrap, place)


def look_at(shop, architecture):
    for function in FUNCTIONS:
        size = package(shop.work / "build" / architecture / function)
        most = SIZE_MAX_OF.get(function, SIZE_MAX)
        print(f"{architecture:7} {function:14} {size / MB:5.2f} MB zipped")
        expect(size <= most, f"{function} is larger than {most / MB} MB")


def package(folder):
    """Zips a bootstrap as it is uploaded; gives back the size in bytes."""
    path = folder / "function.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.write(folder / "bootstrap", "bootstrap")
    return path.stat().st_size
