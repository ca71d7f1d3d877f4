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
import re
from base64 import urlsafe_b64encode
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from time import monotonic
from typing import Any, Literal, TypeAlias

import redis
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from config import SendcodeError
from config.settings import Settings
from jobs.keys import Keys
from jobs.phone import PhoneNumber

_VERSION = "v1"
_NONCE_BYTES = 12
_INDEX_BYTES = 16
"""Of the HMAC: two numbers of a ledger never share 128 bits."""
_INDEX_BINDING = "index"
_KNOWN_S = 0.2
"""How long the keys that were read last are used without reading them again."""
_UNSTORED_S = 1.0
"""How long an index key that was missing is taken to be missing still."""
DataKeys: TypeAlias = tuple[tuple[str, bytes], ...]
"""Ids and keys of 32 bytes; the first one encrypts."""
_ENVELOPE = re.compile(r"\bv1\.[A-Za-z0-9_-]+\.[A-Za-z0-9+/]{38,}={0,2}")
"""In a text: nonce and tag alone have 38 characters."""
UNOPENED = "(encrypted with a key that is missing here)"
"""What stands for a person's text under a key that this process lacks."""
CHANGED = "(changed by somebody else)"
"""What stands for one that was not sealed for its place."""
HALT = "halt"
"""What the reason of a halt is bound to."""

_index_keys: dict[tuple[str, str, DataKeys], HMAC] = {}
"""HMACs that have their keys, to be copied: `hmac.digest` takes 3 times as long. By place of the
ledger, its prefix and the keys: the same for as long as the ledger lives."""
_stored: dict[tuple[str, str], bytes] = {}
"""The same as the ledger has it."""


class SealedError(SendcodeError):
    """What is sealed cannot be opened. The text names neither the content nor a key."""


class UnknownKeyError(SealedError):
    """It is sealed under a key that this process does not have: nothing is wrong with it."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"SENDCODE_DATA_KEYS has no key {key_id}, under which it is sealed")
        self.key_id = key_id


class IndexLockedError(UnknownKeyError):
    """The index of numbers does not open: nobody can tell whether anything else was forged.

    One line: what, remedy.
    """

    def __init__(self, key_id: str, text: str, remedy: str) -> None:
        super().__init__(key_id)
        self.args = (f"{text}: {remedy}",)
        self.text, self.remedy = text, remedy


class ForgedError(SealedError):
    """It was not sealed by us for this place: somebody else made, changed or moved it."""


class Vault:
    """Seals and opens by `SENDCODE_DATA_KEYS`. Thread-safe; cheap to make."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        """Prepare it: nothing is read from Redis before the first `index`.

        Raises:
            SettingsError: there is no data key.
        """
        self._client = client
        self._settings = settings
        self._known, self._refresh_at_s = settings.data_keys, monotonic() + _KNOWN_S
        self._key = Keys(settings.sendcode_key_prefix).vault
        self._place = (settings.redis.place, self._key)
        self._read_again_s = 0.0

    @property
    def _keys(self) -> DataKeys:
        """The keys as their file has them by now; asked for seldom, as numbers are many."""
        if monotonic() >= self._refresh_at_s:
            self._known, self._refresh_at_s = self._settings.data_keys, monotonic() + _KNOWN_S
        return self._known

    def seal(self, data: bytes, bound_to: str) -> str:
        """Return an envelope that `open` takes with the same `bound_to` alone."""
        return _sealer(self._keys)(data, bound_to)

    def open(self, envelope: str, bound_to: str) -> bytes:
        """Return what was sealed.

        Raises:
            UnknownKeyError: under a key that is not among ours.
            ForgedError: not by us, or bound to something else.
        """
        return _open(self._keys, envelope, bound_to)

    def seal_text(self, text: str, bound_to: str) -> str:
        """Return what a person wrote, as an envelope; none for nothing."""
        return self.seal(text.encode(), bound_to) if text else ""

    def open_text(self, text: str, bound_to: str) -> str:
        """Return a text with the envelope in it opened; `UNOPENED` or `CHANGED` in its place.

        A text without one is the program's own, or of an older release.
        """

        def opened(envelope: re.Match[str]) -> str:
            try:
                return self.open(envelope[0], bound_to).decode()
            except UnknownKeyError:
                return UNOPENED
            except ForgedError:
                return CHANGED

        return _ENVELOPE.sub(opened, text)

    def index(self, country_code: str, digits: str) -> str:
        """Return what stands for a number, or a range, in keys: 22 characters. Keyed.

        Raises:
            IndexLockedError: the ledger's index does not open.
        """
        return self.indexes([(country_code, digits)])[0]

    def indexes(self, numbers: Iterable[tuple[str, str]]) -> list[str]:
        """Return what stands for many numbers, at less cost for each."""
        index_key = self._index_key(self._keys)
        return [_index(index_key, country_code, digits) for country_code, digits in numbers]

    def seal_number(self, phone: PhoneNumber, bound_to: str) -> str:
        """Return what stands in a number's place: `INDEX:ENVELOPE`."""
        return self.seal_numbers([(phone.country_code, phone.phone_num, bound_to)])[0]

    def seal_numbers(self, numbers: Sequence[tuple[str, str, str]]) -> list[str]:
        """Seal many, each country code, digits and `bound_to`, at less cost for each."""
        keys = self._keys
        index_key, seal = self._index_key(keys, stores=True), _sealer(keys)
        return [
            f"{_index(index_key, code, digits)}:{seal(f'{code} {digits}'.encode(), bound_to)}"
            for code, digits, bound_to in numbers
        ]

    def open_number(self, country_code: str, token: str, bound_to: str) -> PhoneNumber:
        """Return the number in whose place `token` stands, beside its country code.

        Raises:
            UnknownKeyError, ForgedError: as `open`.
        """
        keys, (index, _, envelope) = self._keys, token.partition(":")
        try:
            plain = _open(keys, envelope, bound_to)
        except ForgedError:
            self._index_key(keys)  # where another key has the same id, all looks forged
            raise
        sealed_code, _, digits = plain.decode().partition(" ")
        index_key = self._index_key(keys)
        if sealed_code != country_code or _index(index_key, sealed_code, digits) != index:
            raise ForgedError("it is another number's")
        return PhoneNumber(sealed_code, digits)

    def check(self) -> None:
        """Check that the data keys open what all numbers are found by.

        Raises:
            IndexLockedError: they do not.
        """
        self._index_key(self._keys)

    def keep_index(self) -> None:
        """Put the index key that this process knows back into a ledger that lost it."""
        _index_keys.pop((*self._place, self._keys), None)
        self._index_key(self._keys, stores=True)

    def _index_key(self, keys: DataKeys, *, stores: bool = False) -> HMAC:
        """Return the ledger's index key; of a new ledger, the one that is made of our first key.

        It lies in the ledger, sealed, so it outlives the key that it was made of. Who only looks
        for a number does not store it.
        """
        place = (*self._place, keys)
        if place in _index_keys:
            return _index_keys[place]
        made = _stored.get(self._place) or hmac.digest(keys[0][1], b"sendcode index", "sha256")
        if not stores and monotonic() < self._read_again_s:
            return HMAC(made, SHA256())
        stored: Any = self._client.hget(self._key, _INDEX_BINDING)
        if stored is None and not stores:
            self._read_again_s = monotonic() + _UNSTORED_S
            return HMAC(made, SHA256())
        if stored is None:
            self._client.hsetnx(self._key, _INDEX_BINDING, _sealer(keys)(made, _INDEX_BINDING))
            stored = self._client.hget(self._key, _INDEX_BINDING)
        _stored[self._place] = self._open_index(keys, str(stored))
        found = _index_keys[place] = HMAC(_stored[self._place], SHA256())
        return found

    def _open_index(self, keys: DataKeys, stored: str) -> bytes:
        try:
            return _open(keys, stored, _INDEX_BINDING)
        except UnknownKeyError as exc:
            text = f"the ledger is sealed under data key {exc.key_id}, which is not here"
            remedy = f"SENDCODE_DATA_KEYS has no key {exc.key_id}: every program needs all of them"
            raise IndexLockedError(exc.key_id, text, remedy) from None
        except ForgedError:
            text = "the index of numbers does not open, though its key is here"
            remedy = (
                "look for another key of the same id in SENDCODE_DATA_KEYS; if there is none, "
                f"{self._key} was changed: restore it"
            )
            raise IndexLockedError(key_id_of(stored) or "index", text, remedy) from None


@cache
def _sealer(keys: DataKeys) -> Callable[[bytes, str], str]:
    """Return what seals data, bound to something, under the first of these keys."""
    first, _ = keys[0]
    head, encrypt = f"{_VERSION}.{first}.", _ciphers(keys)[first].encrypt

    def seal(data: bytes, bound_to: str) -> str:
        nonce = os.urandom(_NONCE_BYTES)
        sealed = encrypt(nonce, data, (head + bound_to).encode())
        return head + b2a_base64(nonce + sealed, newline=False).decode()

    return seal


def _open(keys: DataKeys, envelope: str, bound_to: str) -> bytes:
    version, _, rest = envelope.partition(".")
    key_id, _, text = rest.partition(".")
    if version != _VERSION or not text:
        raise ForgedError("it is no envelope")
    cipher = _ciphers(keys).get(key_id)
    if cipher is None:
        raise UnknownKeyError(key_id)
    try:
        raw = a2b_base64(text, strict_mode=True)
        if b2a_base64(raw, newline=False) != text.encode():  # bits that it passes over
            raise ForgedError("it is not as it was written")
        head = f"{_VERSION}.{key_id}."
        return cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], (head + bound_to).encode())
    except (InvalidTag, Base64Error, ValueError):
        raise ForgedError("it does not authenticate") from None


def _index(index_key: HMAC, country_code: str, digits: str) -> str:
    keyed = index_key.copy()
    keyed.update(f"{country_code}-{digits}".encode())
    return urlsafe_b64encode(keyed.finalize()[:_INDEX_BYTES]).decode().rstrip("=")


def key_id_of(sealed: str) -> str:
    """Return the id of the key of an envelope, or of what stands for a number; "" if none."""
    version, _, rest = sealed.rpartition(":")[2].partition(".")
    return rest.partition(".")[0] if version == _VERSION else ""


def sealed_in(text: str) -> str:
    """Return the envelope in a text; "" if there is none."""
    found = _ENVELOPE.search(text)
    return found[0] if found else ""


def text_binding(kind: Literal["action", "note", "decision", "search"], owner: str) -> str:
    """Return what a person's text is bound to; `owner`: a token, a note's job, a session."""
    return f"{kind} {owner}"


def job_binding(job_id: str, lane: str, term: str) -> str:
    """Return what a job's number is bound to; `term`: when it expires, in ms, or ""."""
    return f"job {job_id} {lane} {term}"


@cache
def _ciphers(keys: DataKeys) -> dict[str, AESGCM]:
    return {key_id: AESGCM(key) for key_id, key in keys}
