"""Verifies webhook signatures. Needs nothing but the standard library."""

import base64
import binascii
import hashlib
import hmac
import time

TOLERANCE_SECONDS = 300


def verify_standard(secret, headers, body, now=None):
    """Whether `webhook-signature` fits. `body` is the raw bytes of the request.

    `headers` is a mapping that finds the names below: in lower case if it is a plain dict.
    """
    timestamp = headers.get("webhook-timestamp", "")
    if not (timestamp.isascii() and timestamp.isdigit()):
        return False
    now = time.time() if now is None else now
    if abs(now - int(timestamp)) > TOLERANCE_SECONDS:
        return False
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        return False
    signed = f"{headers.get('webhook-id', '')}.{timestamp}.".encode() + body
    expected = b"v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256))
    given = headers.get("webhook-signature", "").encode().split(b" ")
    return any([hmac.compare_digest(expected, one) for one in given])


def verify_reference(secret, headers, body):
    """Whether `X-Webhook-Signature` fits. `body` is the raw bytes of the request."""
    digest = hmac.digest(secret.encode(), body, hashlib.sha256)
    given = headers.get("x-webhook-signature", "").encode()
    return hmac.compare_digest(b"sha256=" + digest.hex().encode(), given)
