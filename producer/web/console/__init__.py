"""The console: server-rendered pages for the person with the spreadsheet, on the same services.

Every module has a `router`; no page is in the OpenAPI document. Each route declares who may use it:
`Viewer`, `Operator` or `Admin` (frame.py), or the owner of an `OwnCheck` or `OpenCheck`
(kept_check.py).
"""

from __future__ import annotations

import anyio
from fastapi import FastAPI

from producer.web.console import (
    actions,
    batch,
    check,
    failures,
    frame,
    home,
    job,
    new_batch,
    search,
    settings,
    sign_in,
)

PAGES = (sign_in, home, new_batch, check, batch, failures, search, job, actions, settings)
ROUTERS = tuple(page.router for page in PAGES)


def prepare_console(app: FastAPI) -> None:
    """Add to an app what its pages need."""
    app.state.hashing = anyio.CapacityLimiter(frame.PASSWORDS)
    app.add_exception_handler(frame.RedirectTo, frame.answer_redirect)
