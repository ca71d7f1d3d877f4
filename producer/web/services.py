"""What routes work with: the services, made once when the app starts."""

from __future__ import annotations

from dataclasses import dataclass

import redis
from fastapi import Request

from config.settings import Settings
from jobs.batches import Batches
from jobs.deadletters import DeadLetters
from jobs.identity import Identity
from jobs.vault import Vault
from producer.checking import Checker
from producer.checks import Checks
from producer.decisions import Decisions
from producer.events import Events
from producer.tokens import Tokens
from producer.users import Users
from producer.web.endings import Endings
from producer.web.guesses import Guesses
from producer.web.uploads import Uploads


@dataclass(frozen=True, slots=True)
class Services:
    """Those of one app; each may be used from many threads at once."""

    settings: Settings
    client: redis.Redis
    identity: Identity
    vault: Vault
    batches: Batches
    letters: DeadLetters
    events: Events
    endings: Endings
    tokens: Tokens
    token_guesses: Guesses
    users: Users
    user_guesses: Guesses
    decisions: Decisions
    checks: Checks
    checker: Checker
    uploads: Uploads


def services(request: Request) -> Services:
    """Return the services of a request's app."""
    found: Services = request.app.state.services
    return found
