"""scripts/smoke_test.py against `cargo dev`."""

import sys

from .tools import expect, local_system

USER = "smoke"


def check(shop):
    process, local = local_system(shop)
    token = shop.run(shop.target / "debug/dev", "token", USER).strip()
    command = [sys.executable, shop.root / "scripts/smoke_test.py", "--url", local["api"]]
    print(
        shop.run(
            *(*command, "--token", token),
            *("--queue-url", local["events_queue_url"], "--endpoint-url", local["sqs"]),
        ).rstrip()
    )
    expect(process.poll() is None, "cargo dev has ended")
    shop.stop(process)
