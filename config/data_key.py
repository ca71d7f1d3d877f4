"""How a data key is made. `make secrets` does it with the standard library alone."""

from __future__ import annotations

import hashlib
import os
import re
from base64 import b64encode
from datetime import UTC, datetime

DATA_KEY_BYTES = 32
KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,24}", re.ASCII)
_DIGEST_HEX = 8


def new_data_key(key_id: str | None = None) -> str:
    """Return a new key, as `SENDCODE_DATA_KEYS` takes it.

    Without an id it gets one from the date and its digest: if two keys had the same id, what one of
    them sealed would seem forged to the other.

    Raises:
        ValueError: `key_id` is not a valid id.
    """
    key = os.urandom(DATA_KEY_BYTES)
    digest = hashlib.sha256(key).hexdigest()[:_DIGEST_HEX]
    key_id = key_id if key_id is not None else f"k{datetime.now(UTC):%Y%m%d}-{digest}"
    if not KEY_ID.fullmatch(key_id):
        raise ValueError("must be up to 24 letters, digits, hyphens and underscores")
    return f"{key_id}:{b64encode(key).decode()}"
