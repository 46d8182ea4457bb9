"""Runs verify.py against vector.json: python3 docs/snippets/check.py"""

import json
import pathlib

from verify import verify_reference, verify_standard

vector = json.loads((pathlib.Path(__file__).parent / "vector.json").read_text())
for case in vector["cases"]:
    case = {"secret": vector["secret"], "body": vector["body"], "now": vector["now"]} | case
    headers = vector["headers"] | case.get("headers", {})
    body = case["body"].encode()
    standard = verify_standard(case["secret"], headers, body, case["now"])
    assert standard == case["standard"], case["name"]
    assert verify_reference(case["secret"], headers, body) == case["reference"], case["name"]
print(f"verify.py: {len(vector['cases'])} cases as expected")
