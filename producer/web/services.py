"""The services that routes use, created once when the app starts."""

from __future__ import annotations

import asyncio

from fastapi import Request

from config.redis import connect
from config.settings import Settings
from jobs.batches import Batches
from jobs.deadletters import DeadLetters
from jobs.identity import Identity, state_file
from jobs.vault import Vault
from producer.checking import Checker
from producer.checks import Checks, checks_folder
from producer.decisions import Decisions
from producer.events import Events
from producer.tokens import Tokens
from producer.users import Users
from producer.web.endings import Endings
from producer.web.guesses import Guesses
from producer.web.uploads import Uploads


class Services:
    """The services of one app; each is safe to use from several threads."""

    def __init__(self, settings: Settings, guess_delay_s: float) -> None:
        """Create them in the event loop; `guess_delay_s`: as in `make_app`."""
        client = connect(settings, retries=1)
        self.settings, self.client = settings, client
        self.identity = Identity(client, settings, state_file(settings))
        self.vault = Vault(client, settings)
        self.batches = Batches(client, settings)
        self.letters = DeadLetters(client, settings)
        self.events = Events(settings)
        self.tokens, self.token_guesses = Tokens(client, settings), Guesses(guess_delay_s)
        self.users, self.user_guesses = Users(client, settings), Guesses(guess_delay_s)
        self.decisions = Decisions(client, settings)
        self.endings = Endings(settings, asyncio.get_running_loop())
        self.checks = Checks(checks_folder(settings))
        self.checker = Checker(self.checks, client, settings)
        self.checker.start()
        self.uploads = Uploads()

    def close(self) -> None:
        """Stop their threads and close their connections."""
        self.decisions.close()
        self.checker.close()
        self.endings.close()
        self.events.close()
        self.client.close()


def services(request: Request) -> Services:
    """Return the services of a request's app."""
    found: Services = request.app.state.services
    return found
