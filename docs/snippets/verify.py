"""Verifies webhook signatures. Needs only the standard library."""

import base64
import binascii
import hashlib
import hmac
import re
import time

TOLERANCE_SECONDS = 300


def secret_key(secret):
    """The key of a `whsec_` secret: 24 to 64 bytes. None for any other string."""
    if not secret.startswith("whsec_"):
        return None
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if 24 <= len(key) <= 64 else None


def verify_standard(secret, headers, body, now=None):
    """Whether `webhook-signature` is valid. `body` is the raw bytes of the request.

    `headers` is a mapping from header names to values. A plain dict needs lower-case names.
    """
    key = secret_key(secret)
    timestamp = headers.get("webhook-timestamp", "")
    if key is None or not re.fullmatch("[0-9]{1,11}", timestamp):
        return False
    now = time.time() if now is None else now
    if abs(now - int(timestamp)) > TOLERANCE_SECONDS:
        return False
    signed = f"{headers.get('webhook-id', '')}.{timestamp}.".encode() + body
    expected = b"v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256))
    given = headers.get("webhook-signature", "").encode().split(b" ")
    return any([hmac.compare_digest(expected, one) for one in given])


def verify_reference(secret, headers, body):
    """Whether `X-Webhook-Signature` is valid. `body` is the raw bytes of the request."""
    if secret_key(secret) is None:
        return False
    digest = hmac.digest(secret.encode(), body, hashlib.sha256)
    given = headers.get("x-webhook-signature", "").encode()
    return hmac.compare_digest(b"sha256=" + digest.hex().encode(), given)
