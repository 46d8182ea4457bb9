"""Values that openapi.yaml describes in words because JSON Schema cannot.

Each function makes generated data follow a rule between fields, or a format. Nothing is left out: data that is
meant to be invalid stays as it is.
"""

from datetime import datetime, timedelta

import schemathesis
from hypothesis import strategies as st

WEEK = 604_800

schemathesis.openapi.format(
    "uri",
    st.builds(
        "https://{}.example.com/{}".format,
        st.from_regex(r"[a-z][a-z0-9]{0,20}", fullmatch=True),
        st.from_regex(r"[a-z0-9/._~-]{0,40}", fullmatch=True),
    ),
)
schemathesis.openapi.format(
    "cidr",
    st.one_of(
        st.builds("{}/{}".format, st.ip_addresses(v=4).map(str), st.integers(0, 32)),
        st.builds("{}/{}".format, st.ip_addresses(v=6).map(str), st.integers(0, 128)),
    ),
)


def is_valid(case):
    """Whether the data of the case is meant to be valid."""
    return case.meta is None or case.meta.generation.mode.value == "positive"


def fits(body):
    """Makes valid fields fit together."""
    schedule = body.get("retry_schedule")
    if isinstance(schedule, list) and sum(schedule) > WEEK:
        body["retry_schedule"] = [min(wait, WEEK // len(schedule)) for wait in schedule]
    if isinstance(body.get("headers"), dict):
        # Names are not case-sensitive, and null needs a value that the webhook has already.
        names = {name.lower(): name for name in body["headers"]}
        values = {name: body["headers"][name] or "value" for name in names.values()}
        body["headers"] = {name[:100]: value[:100] for name, value in values.items()}
    if isinstance(body.get("filter"), dict):
        body["filter"] = pattern(body["filter"])
    if "since" in body:
        # A recovery is of a range that lies in the past.
        body["since"] = "2026-01-01T00:00:00Z"
        if "until" in body:
            body["until"] = "2026-02-01T00:00:00Z"


def pattern(value):
    """An event pattern whose ranges have their lower bound first."""
    if isinstance(value, list):
        return [pattern(item) for item in value]
    if not isinstance(value, dict):
        return value
    bounds = value.get("numeric")
    if isinstance(bounds, list) and len(bounds) == 4 and bounds[1] >= bounds[3]:
        low = min(bounds[1], bounds[3], 4_999_999_998)
        return {"numeric": [bounds[0], low, bounds[2], low + 1]}
    return {name: pattern(item) for name, item in value.items()}


def is_range(since, until):
    """Whether the times are in order. All times before 1970 are the same to the service."""
    since, until = datetime.fromisoformat(since), datetime.fromisoformat(until)
    # The service keeps milliseconds.
    return until - since >= timedelta(milliseconds=1) and until.year > 1970


@schemathesis.hook
def before_call(context, case, **kwargs):
    if not is_valid(case):
        return
    if isinstance(case.body, dict):
        fits(case.body)
    query = case.query or {}
    if "since" in query and "until" in query and not is_range(query["since"], query["until"]):
        query["since"], query["until"] = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"
    # Only a response of the service has a cursor; the links between operations carry them.
    if context.operation and "cursor" in query and not str(query["cursor"]).startswith("AQ"):
        del query["cursor"]
