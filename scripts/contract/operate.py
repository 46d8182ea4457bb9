"""Runs each command of scripts/operate.py against `cargo dev`, and looks at the effect through the API."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

OPERATE = Path(__file__).resolve().parent.parent / "operate.py"
USER = "operated"


def main(api, dynamodb, receiver, token):
    def call(method, path, body=None):
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(api + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def operate(*command):
        command = [sys.executable, OPERATE, "--endpoint-url", dynamodb, *command]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return [json.loads(line) for line in output.splitlines()]

    def expect(got, wanted):
        assert got == wanted, f"{got} is not {wanted}"

    new = {"url": f"{receiver}/", "event_types": ["task.created"]}
    status, webhook = call("POST", "/api/webhooks", new)
    expect(status, 201)
    path = f"/api/webhooks/{webhook['id']}"
    for _ in range(2):
        expect(call("POST", f"{path}/test")[1]["success"], True)
    events = [item["event_id"] for item in call("GET", "/api/deliveries")[1]["items"]]
    expect(len(events), 2)
    users = {row["user_id"]: row["deliveries"] for row in operate("find-heavy-users", "--hours", "1")}
    expect(users[USER], 2)

    expect(operate("erase-event", USER, events[0]), [{"erased": events[0], "deliveries": 1}])
    left = [item["event_id"] for item in call("GET", "/api/deliveries")[1]["items"]]
    expect(left, events[1:])

    # Functions read the list of hosts once a minute; the tests of the tables check that they see these rows.
    host = "victim.example"
    expect(operate("block-host", host, "--reason", "test"), [{"blocked": host}])
    expect(operate("unblock-host", host), [{"unblocked": host}])

    expect(operate("block-user", USER, "--reason", "test"), [{"blocked": USER, "webhooks_deactivated": 1}])
    expect(call("POST", "/api/webhooks", new)[0], 403)
    expect(call("GET", path)[1]["disabled_reason"], "user_blocked")
    expect(operate("unblock-user", USER), [{"unblocked": USER, "webhooks_activated": 1}])
    expect(call("GET", path)[1]["is_active"], True)

    erased = operate("erase-user", USER)[0]
    expect((erased["webhooks"], erased["rows"] >= 2), (1, True))
    expect(call("GET", path)[0], 404)
    users = [row["user_id"] for row in operate("find-heavy-users", "--hours", "1")]
    assert USER not in users, users
    print("the operator's commands work")


main(*sys.argv[1:])
