"""Every `aws` command of the documents, against the models of the AWS SDK, from which the AWS CLI makes its
operations and flags. So a command works with version 1 and 2 of the CLI: a flag that only one of them has
is not in a model."""

import re
import shlex

import botocore.session
from botocore import xform_name

from .tools import Failed, expect

DOCUMENTS = ["DEPLOYING.md", "RUNBOOK.md", "MAKING_IT_YOURS.md", "PUBLISHING.md"]
# The flags that both versions have for every operation.
GLOBAL = {"--query", "--output", "--region", "--profile", "--endpoint-url", "--no-cli-pager", "--cli-read-timeout"}
# Flags whose name differs from the model's, because a global flag has that name.
RENAMED = {("sns", "subscribe", "--notification-endpoint"): "Endpoint"}
# Commands that are no operations of a service, and their operation.
WAITERS = {("dynamodb", "table-exists"): "DescribeTable"}


def check(space):
    session = botocore.session.get_session()
    count = 0
    for name in DOCUMENTS:
        for command in commands((space.root / "docs" / name).read_text()):
            problem = problem_of(session, command)
            expect(problem is None, f"docs/{name}: {' '.join(command)}: {problem}")
            count += 1
    expect(count >= 20, f"only {count} commands were found")
    for wrong in [
        "aws sqs send-massage --queue-url x --message-body y",
        "aws sqs send-message --queue-url x",
        "aws sqs send-message --queue-url x --message-body y --cli-binary-format raw-in-base64-out",
    ]:
        if problem_of(session, shlex.split(wrong)) is None:
            raise Failed(f"this wrong command is not found: {wrong}")
    print(f"{count} commands of the documents have the operations and flags of the AWS CLI")


def commands(text):
    """The words of each `aws` command in code, also inside of `$(…)`."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    inline = re.findall(r"(?<!`)`(aws [^`]+)`(?!`)", text)
    for block in [*blocks, *inline]:
        block = re.sub(r"\\\n\s*", " ", block)
        for start in re.finditer(r"(?<![\w/-])aws (?=[a-z0-9-]+ [a-z])", block):
            rest = block[start.start() :].partition("\n")[0]
            # A command in `$(…)` ends with the parenthesis that is its own.
            depth, end = 0, len(rest)
            for at, character in enumerate(rest):
                depth += (character == "(") - (character == ")")
                if depth < 0:
                    end = at
                    break
            rest = rest[:end]
            # Nested commands are checked by themselves.
            rest = re.sub(r"\$\([^()]*\)", "nested", rest)
            yield shlex.split(rest.partition(" | ")[0], comments=True)


def problem_of(session, command):
    service, operation, *rest = command[1:]
    if service not in session.get_available_services():
        return f"there is no service {service}"
    model = session.get_service_model(service)
    if operation == "wait":
        waiter, *rest = rest
        if (service, waiter) not in WAITERS:
            return f"the waiter {waiter} is not known here"
        operation = xform_name(WAITERS[service, waiter], "-")
    known = {xform_name(name, "-"): name for name in model.operation_names}
    if operation not in known:
        return f"{service} has no operation {operation}"
    shape = model.operation_model(known[operation]).input_shape
    members = {f"--{xform_name(name, '-')}": name for name in shape.members} if shape else {}
    renamed = [(flag, name) for (s, o, flag), name in RENAMED.items() if (s, o) == (service, operation)]
    members |= dict(renamed)
    given = set()
    for word in rest:
        if not word.startswith("--"):
            continue
        name = word.partition("=")[0]
        if name in GLOBAL:
            continue
        flag = name if name in members else name.replace("--no-", "--", 1)
        if flag not in members:
            return f"{operation} has no flag {name}"
        given.add(members[flag])
    missing = [name for name in (shape.required_members if shape else []) if name not in given]
    if command == command[:3]:
        # A sentence only names it.
        return None
    return f"{operation} needs {', '.join(missing)}" if missing else None
