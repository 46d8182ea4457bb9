"""Verifies Ed25519 webhook signatures. Needs `pip install cryptography`."""

import base64
import binascii
import re
import time

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

TOLERANCE_SECONDS = 300


def verify_ed25519(public_key, headers, body, now=None):
    """Whether `webhook-signature` is valid. `body` is the raw bytes of the request.

    `public_key` is the webhook's `public_key`. `headers` is a mapping from header names to values.
    A plain dict needs lower-case names.
    """
    timestamp = headers.get("webhook-timestamp", "")
    if not re.fullmatch("[0-9]{1,11}", timestamp) or not public_key.startswith("whpk_"):
        return False
    now = time.time() if now is None else now
    if abs(now - int(timestamp)) > TOLERANCE_SECONDS:
        return False
    raw = base64.b64decode(public_key.removeprefix("whpk_"), validate=True)
    key = Ed25519PublicKey.from_public_bytes(raw)
    signed = f"{headers.get('webhook-id', '')}.{timestamp}.".encode() + body
    for one in headers.get("webhook-signature", "").split(" "):
        if not one.startswith("v1a,"):
            continue
        try:
            key.verify(base64.b64decode(one.removeprefix("v1a,"), validate=True), signed)
            return True
        except (InvalidSignature, binascii.Error, ValueError):
            continue
    return False
