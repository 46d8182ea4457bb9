"""Builds every function from the sources, as it is deployed, and looks at the packages."""

import shutil
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
    if shop.arm64 and shop.machine != "arm64":
        sam_build(shop, "arm64")
    sam_build(shop, shop.machine)
    build_empty(shop)
    architectures = ["arm64", shop.machine] if shop.arm64 else [shop.machine]
    for architecture in dict.fromkeys(architectures):
        for function in FUNCTIONS:
            size = package(shop.work / "build" / architecture / function)
            most = SIZE_MAX_OF.get(function, SIZE_MAX)
            print(f"{architecture:7} {function:14} {size / MB:5.2f} MB zipped")
            expect(size <= most, f"{function} is larger than {most / MB} MB")


def sam_build(shop, architecture):
    """`sam build` as in docs/DEPLOYING.md; the packages end up by the folders of the functions."""
    out = shop.work / "sam" / architecture
    print(f"sam build for {architecture} …", flush=True)
    shop.run(
        *("sam", "build", "--build-dir", out, "--parameter-overrides", f"Architecture={architecture}"),
        *("--no-cached", "--region", "us-east-1"),
    )
    for name, resource in parsed(shop)["Resources"].items():
        if resource["Type"] == "AWS::Serverless::Function":
            function = resource["Properties"]["CodeUri"].removeprefix("functions/")
            place = shop.work / "build" / architecture / function
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy2(out / name / "bootstrap", place)


def build_empty(shop):
    target = "--arm64" if shop.machine == "arm64" else "--x86-64"
    shop.run(
        *("cargo", "lambda", "build", "--release", "--disable-optimizations", "--locked", target),
        *("--package", "webhooks-runtime", "--example", EMPTY),
    )
    place = shop.work / "build" / shop.machine / EMPTY
    place.mkdir(parents=True, exist_ok=True)
    shutil.copy2(shop.target / "lambda" / EMPTY / "bootstrap", place)


def package(folder):
    """Zips a bootstrap as it is uploaded; gives back the size in bytes."""
    path = folder / "function.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.write(folder / "bootstrap", "bootstrap")
    return path.stat().st_size
