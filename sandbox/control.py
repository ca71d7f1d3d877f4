"""The control plane: what tests and the demo read and change, under `/_sandbox/`.

Unsigned, and answered to callers on this machine only. It is never delayed and never counted.

    GET  /_sandbox/stats               counts; `?numbers=0` leaves out the count per number,
                                       `?arrivals=1` adds each arrival: [seconds, number, code]
    GET  /_sandbox/numbers/DIGITS      one number: requests, accepted, when
    GET  /_sandbox/settings            the settings in force
    POST /_sandbox/settings            change those named in the body, keep the others
    POST /_sandbox/reset               forget requests, numbers and counts; keep the settings

Seconds are those of the machine's monotonic clock. A long list takes time in which nothing else
is answered or stamped: ask for arrivals when the measuring is over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from ipaddress import ip_address
from typing import Final
from urllib.parse import parse_qs, urlsplit

from sandbox.api import Api
from sandbox.settings import SettingsError
from sandbox.wire import Request

PREFIX: Final = "/_sandbox/"


def answer_control(
    api: Api, request: Request, *, peer: str, now_ns: int
) -> tuple[HTTPStatus, Mapping[str, object]]:
    """Status and JSON document for a request under `PREFIX`; `peer` is the caller's address."""
    if not ip_address(peer).is_loopback:
        return HTTPStatus.FORBIDDEN, {"error": "only for callers on this machine"}
    parts = urlsplit(request.target)
    place = parts.path.removeprefix(PREFIX)
    try:
        if request.method == "POST":
            document = _write(api, place, request.body, now_ns)
        else:
            document = _read(api, place, parse_qs(parts.query), now_ns)
    except ValueError as exc:
        return HTTPStatus.BAD_REQUEST, {"error": str(exc)}
    if document is None:
        return HTTPStatus.NOT_FOUND, {"error": "there is nothing here"}
    return HTTPStatus.OK, document


def _read(
    api: Api, place: str, query: Mapping[str, list[str]], now_ns: int
) -> Mapping[str, object] | None:
    kind, _, number = place.partition("/")
    if place == "stats":
        return api.journal.snapshot(
            now_ns=now_ns,
            numbers=query.get("numbers") != ["0"],
            arrivals=query.get("arrivals") == ["1"],
        )
    if place == "settings":
        return api.settings.as_json()
    if kind == "numbers" and number:
        return api.journal.number_snapshot(number)
    return None


def _write(api: Api, place: str, body: bytes, now_ns: int) -> Mapping[str, object] | None:
    if place == "reset":
        api.reset(now_ns)
        return {}
    if place == "settings":
        document = json.loads(body)
        if not isinstance(document, dict):
            raise SettingsError("the body is not a JSON object")
        api.change(api.settings.changed(document))
        return api.settings.as_json()
    return None
