"""What the demo asks over HTTP: the stand-in's counts, and whether a server answers."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 5.0


def counts(url: str) -> dict[str, Any]:
    """Give what the stand-in of the API has seen: requests, codes sent per number, and more."""
    status, body = _get(url, "/_sandbox/stats?numbers=1")
    if status != http.HTTPStatus.OK:
        raise OSError(f"the stand-in of the API answered {status}")
    found: dict[str, Any] = json.loads(body)
    return found


def answers(url: str, path: str) -> bool:
    """Whether a server answers there, with success."""
    try:
        status, _ = _get(url, path)
    except OSError:
        return False
    return status == http.HTTPStatus.OK


def page(url: str, path: str, authorization: str) -> str:
    """Give a page that wants a login."""
    status, body = _get(url, path, Authorization=authorization)
    if status != http.HTTPStatus.OK:
        raise OSError(f"{path} answered {status}")
    return body.decode()


def _get(url: str, path: str, **headers: str) -> tuple[int, bytes]:
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except http.client.HTTPException as exc:
        raise OSError(type(exc).__name__) from exc
    finally:
        connection.close()
