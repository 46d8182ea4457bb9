#!/usr/bin/env python3
"""Packs a release from what is built: one archive, and its SHA-256.

    python3 scripts/release.py VERSION --dev x86_64=PATH --dev arm64=PATH --stack .aws-sam/build --out DIR

The archive webhooks-VERSION.tar.gz has
  bin/x86_64/webhooks-dev, bin/arm64/webhooks-dev   the local system (`cargo dev`)
  stack/template.yaml and a folder for each function: `scripts/deploy.py STAGE --built stack` needs no compiler
  LICENSE, README.md, samconfig.toml, scripts/       to run and deploy it
  catalogue/                                         the event types, which the scripts read

The same input makes the same archive. `.github/workflows/release.yml` builds and packs each tag.
"""

import argparse
import gzip
import hashlib
import sys
import tarfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
ARCHITECTURES = ("x86_64", "arm64")
# Files of the repository that are of use without the sources.
KEPT = ["LICENSE", "README.md", "samconfig.toml"]
SCRIPTS = ("copy_rows", "deploy", "operate", "redrive", "remove_stack", "roll_back", "smoke_test")
KEPT += [f"scripts/{name}.py" for name in SCRIPTS]
KEPT += sorted(f"catalogue/{file.name}" for file in (ROOT / "catalogue").glob("*.json"))


class Loader(yaml.SafeLoader):
    """Reads only the resources' types and folders; CloudFormation's short forms are left out."""


Loader.add_multi_constructor("!", lambda *_: None)


def functions(stack):
    """The folder of each function in the built template."""
    template = yaml.load((stack / "template.yaml").read_text(), Loader)
    for name, resource in template["Resources"].items():
        if resource["Type"] == "AWS::Serverless::Function":
            yield name, stack / resource["Properties"]["CodeUri"]


def contents(options):
    """The path in the archive and the file of each entry."""
    given = dict(pair.split("=", 1) for pair in options.dev)
    for architecture in ARCHITECTURES:
        if architecture not in given:
            sys.exit(f"--dev {architecture}=PATH is missing")
        yield f"bin/{architecture}/webhooks-dev", Path(given[architecture])
    yield "stack/template.yaml", options.stack / "template.yaml"
    for name, folder in functions(options.stack):
        yield f"stack/{name}/bootstrap", folder / "bootstrap"
    for name in KEPT:
        yield name, ROOT / name


def pack(options):
    name = f"webhooks-{options.version}"
    options.out.mkdir(parents=True, exist_ok=True)
    archive = options.out / f"{name}.tar.gz"
    entries = sorted(contents(options))
    for _, file in entries:
        if not file.is_file():
            sys.exit(f"{file} is missing")
    with (
        open(archive, "wb") as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") as zipped,
        tarfile.open(fileobj=zipped, mode="w") as tar,
    ):
        for path, file in entries:
            entry = tarfile.TarInfo(f"{name}/{path}")
            entry.size = file.stat().st_size
            is_program = path.endswith(("webhooks-dev", "bootstrap", ".py"))
            entry.mode = 0o755 if is_program else 0o644
            with open(file, "rb") as source:
                tar.addfile(entry, source)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    (options.out / f"{archive.name}.sha256").write_text(f"{digest}  {archive.name}\n")
    print(f"{archive}: {len(entries)} files, {archive.stat().st_size / 1e6:.1f} MB")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("version")
    parser.add_argument("--dev", action="append", default=[], metavar="ARCHITECTURE=PATH")
    parser.add_argument("--stack", type=Path, required=True, help="the output of `sam build`")
    parser.add_argument("--out", type=Path, required=True)
    pack(parser.parse_args())
    return 0


if __name__ == "__main__":
    sys.exit(main())
