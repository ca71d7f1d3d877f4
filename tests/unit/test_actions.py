"""Who did an action, and why, as it is recorded."""

from __future__ import annotations

import getpass
import os
import socket

import pytest

from jobs.actions import Action


def test_an_action_says_which_user_of_which_machine_did_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOGNAME", "somebody")

    assert Action(what="halt").by == f"somebody@{socket.gethostname()}"


def test_a_user_without_a_name_is_told_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr(getpass, "getuser", nameless)

    assert Action(what="halt").by == f"uid {os.getuid()}@{socket.gethostname()}"


def test_a_reason_is_not_recorded_in_the_clear() -> None:
    with pytest.raises(ValueError, match="not kept in the clear"):
        Action(what="halt", reason="the office is closed").encode()
