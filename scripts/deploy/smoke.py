"""scripts/smoke_test.py against `cargo dev`."""

import sys

from .tools import expect, local_system

USER = "smoke"


def check(space):
    process, local = local_system(space)
    token = space.run(space.target / "debug/dev", "token", USER).strip()
    command = [sys.executable, space.root / "scripts/smoke_test.py", "--url", local["api"]]
    print(
        space.run(
            *(*command, "--token", token),
            *("--queue-url", local["events_queue_url"], "--endpoint-url", local["sqs"]),
        ).rstrip()
    )
    expect(process.poll() is None, "cargo dev has ended")
    space.stop(process)
