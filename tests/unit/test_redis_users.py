"""The users of deploy/redis/users.acl have every right that their programs need."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.server import EVENTS, LEDGER, NEEDED, OF_FLOWER, OF_PRODUCERS

USERS = Path(__file__).parents[2] / "deploy/redis/users.acl"


@pytest.mark.parametrize(
    ("user", "areas"),
    [("worker", tuple(NEEDED)), ("producer", OF_PRODUCERS), ("flower", OF_FLOWER)],
)
def test_a_user_may_give_each_command_that_the_doctor_tries(
    user: str, areas: tuple[str, ...]
) -> None:
    lines = USERS.read_text(encoding="utf-8").splitlines()
    (rules,) = (line.split() for line in lines if line.startswith(f"user sendcode-{user} "))
    texts = [text for area in areas for text in NEEDED[area][0].split("|")]
    texts += LEDGER.split("|") if user != "flower" else []

    words = [text.split(" ") for text in texts]
    needed = {
        f"+{name}|{first}".lower() if name in {"SCRIPT", "PUBSUB"} else f"+{name}".lower()
        for name, first in ((each[0], each[1] if each[1:] else "") for each in words)
    }

    assert EVENTS in NEEDED
    assert not needed - set(rules), "add them to deploy/redis/users.acl"
