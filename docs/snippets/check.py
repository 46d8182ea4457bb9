"""Runs verify.py and verify_ed25519.py against their vectors: python3 docs/snippets/check.py"""

import json
import pathlib

from verify import verify_reference, verify_standard
from verify_ed25519 import verify_ed25519

here = pathlib.Path(__file__).parent
vector = json.loads((here / "vector.json").read_text())
for case in vector["cases"]:
    case = {"secret": vector["secret"], "body": vector["body"], "now": vector["now"]} | case
    headers = vector["headers"] | case.get("headers", {})
    body = case["body"].encode()
    standard = verify_standard(case["secret"], headers, body, case["now"])
    assert standard == case["standard"], case["name"]
    assert verify_reference(case["secret"], headers, body) == case["reference"], case["name"]
print(f"verify.py: {len(vector['cases'])} cases as expected")

vector = json.loads((here / "vector_ed25519.json").read_text())
for case in vector["cases"]:
    case = {name: vector[name] for name in ["public_key", "body", "now"]} | case
    headers = vector["headers"] | case.get("headers", {})
    valid = verify_ed25519(case["public_key"], headers, case["body"].encode(), case["now"])
    assert valid == case["valid"], case["name"]
print(f"verify_ed25519.py: {len(vector['cases'])} cases as expected")
