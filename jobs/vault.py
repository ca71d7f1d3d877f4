"""What the ledger holds of persons, sealed, and the index that stands for a number in its keys.

Whoever reads Redis, its files or its backups learns no number and nothing of a customer's cells.
Whoever writes to it can make no record that a worker believes, nor move one elsewhere
(decision 0015).

An envelope is `v1.KEY.BASE64`: the id of its key, then nonce, ciphertext and tag of AES-256-GCM.
Version, key and what it is bound to (which job, which place in which batch) are authenticated with
it. In the place of a number stands `INDEX:ENVELOPE`: scripts compare numbers and never read them.
"""

from __future__ import annotations

import hmac
import os
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from functools import cache
from typing import Any, TypeAlias

import redis
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from config.settings import Settings
from jobs.keys import Keys
from jobs.phone import PhoneNumber

_VERSION = "v1"
_NONCE_BYTES = 12
_INDEX_BYTES = 16
"""Of the HMAC: two numbers of a ledger never share 128 bits."""
_INDEX_BINDING = "index"
DataKeys: TypeAlias = tuple[tuple[str, bytes], ...]
"""Ids and keys of 32 bytes; the first one encrypts."""

_index_keys: dict[tuple[str, str, DataKeys], bytes] = {}
"""By place of the ledger, its prefix and the keys: the same for as long as the ledger lives."""


class SealedError(Exception):
    """What is sealed cannot be opened. The text names neither the content nor a key."""


class UnknownKeyError(SealedError):
    """It is sealed under a key that this process does not have: nothing is wrong with it."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"SENDCODE_DATA_KEYS has no key {key_id}, under which it is sealed")
        self.key_id = key_id


class ForgedError(SealedError):
    """It was not sealed by us for this place: made by another hand, changed, or moved."""


class Vault:
    """Seals and opens by `SENDCODE_DATA_KEYS`. Thread-safe; cheap to make."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        """Prepare it: nothing is read from Redis before the first `index`.

        Raises:
            SettingsError: there is no data key.
        """
        self._client = client
        self._settings = settings
        _ = self._keys  # there is one
        self._key = Keys(settings.sendcode_key_prefix).vault

    @property
    def _keys(self) -> DataKeys:
        """The keys as their file has them by now."""
        return self._settings.data_keys

    @property
    def _place(self) -> tuple[str, str, DataKeys]:
        return self._settings.redis.place, self._key, self._keys

    def seal(self, data: bytes, bound_to: str) -> str:
        """Return an envelope that `open` takes with the same `bound_to` alone."""
        keys = self._keys
        first, _ = keys[0]
        head = f"{_VERSION}.{first}."
        nonce = os.urandom(_NONCE_BYTES)
        sealed = _ciphers(keys)[first].encrypt(nonce, data, (head + bound_to).encode())
        return head + b2a_base64(nonce + sealed, newline=False).decode()

    def open(self, envelope: str, bound_to: str) -> bytes:
        """Return what was sealed.

        Raises:
            UnknownKeyError: under a key that is not among ours.
            ForgedError: not by us, or bound to something else.
        """
        version, _, rest = envelope.partition(".")
        key_id, _, text = rest.partition(".")
        if version != _VERSION or not text:
            raise ForgedError("it is no envelope")
        cipher = _ciphers(self._keys).get(key_id)
        if cipher is None:
            raise UnknownKeyError(key_id)
        try:
            raw = a2b_base64(text, strict_mode=True)
            head = f"{_VERSION}.{key_id}."
            return cipher.decrypt(
                raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], (head + bound_to).encode()
            )
        except (InvalidTag, Base64Error, ValueError):
            raise ForgedError("it does not authenticate") from None

    def index(self, country_code: str, digits: str) -> str:
        """Return what stands for a number, or a range, in keys: 22 characters. Keyed.

        Raises:
            UnknownKeyError: the ledger's index is sealed under a key that is not among ours.
            ForgedError: it was changed.
        """
        index_key = _index_keys.get(self._place) or self._read_index_key()
        mac = hmac.digest(index_key, f"{country_code}-{digits}".encode(), "sha256")
        text = b2a_base64(mac[:_INDEX_BYTES], newline=False)[:22].decode()
        return text.replace("+", "-").replace("/", "_")

    def seal_number(self, phone: PhoneNumber, bound_to: str) -> str:
        """Return what stands in a number's place: `INDEX:ENVELOPE`."""
        country_code, digits = phone.country_code, phone.phone_num
        envelope = self.seal(f"{country_code} {digits}".encode(), bound_to)
        return f"{self.index(country_code, digits)}:{envelope}"

    def open_number(self, country_code: str, token: str, bound_to: str) -> PhoneNumber:
        """Return the number in whose place `token` stands, beside its country code.

        Raises:
            UnknownKeyError, ForgedError: as `open`.
        """
        index, _, envelope = token.partition(":")
        sealed_code, _, digits = self.open(envelope, bound_to).decode().partition(" ")
        if sealed_code != country_code or self.index(sealed_code, digits) != index:
            raise ForgedError("it is another number's")
        return PhoneNumber(sealed_code, digits)

    def _read_index_key(self) -> bytes:
        """Return the ledger's index key; of a new ledger, the one that is made of our first key.

        It lies in the ledger, sealed, so it outlives the key that it was made of.
        """
        made = hmac.digest(self._keys[0][1], b"sendcode index", "sha256")
        stored: Any = self._client.hget(self._key, _INDEX_BINDING)
        if stored is None:
            self._client.hsetnx(self._key, _INDEX_BINDING, self.seal(made, _INDEX_BINDING))
            stored = self._client.hget(self._key, _INDEX_BINDING)
        found = _index_keys[self._place] = self.open(str(stored), _INDEX_BINDING)
        return found


def key_id_of(sealed: str) -> str:
    """Return the id of the key of an envelope, or of what stands for a number; "" if none."""
    version, _, rest = sealed.rpartition(":")[2].partition(".")
    return rest.partition(".")[0] if version == _VERSION else ""


def job_binding(job_id: str, lane: str, term: str) -> str:
    """Return what a job's number is bound to; `term`: its expiry as asked for, in ms, or ""."""
    return f"job {job_id} {lane} {term}"


@cache
def _ciphers(keys: DataKeys) -> dict[str, AESGCM]:
    return {key_id: AESGCM(key) for key_id, key in keys}
