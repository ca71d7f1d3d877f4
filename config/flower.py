"""How Flower is started, by whichever command: where it listens, its login, what it may do."""

from __future__ import annotations

from collections.abc import Mapping

from config import SendcodeError

LOOPBACK = "127.0.0.1"
FLOWER_PORT = 5555
NO_AUTH = "SENDCODE_FLOWER_NO_AUTH"
"""Set by `sendcode flower --no-auth` for what it becomes: no login although one is set."""
_COLUMNS = "uuid,state,result,received,started,runtime,worker"
"""Of its page of tasks; the result shows why one failed."""
_TASKS = "20000"
"""That it remembers, 7 kB each; its own 100,000 take 0.8 GB."""


class FlowerLoginError(SendcodeError, ValueError):
    """A login would be misread by Flower; the message names the setting, and has no value."""


def flower_environment(
    environment: Mapping[str, str], user: str, password: str | None
) -> dict[str, str]:
    """Return Flower's environment: with its login, and without the API's credentials.

    In the environment, no process list shows the login. Flower is read-only unless FLOWER_READ_ONLY
    says otherwise: what it did to a task it would do behind the ledger's back. It remembers
    FLOWER_MAX_TASKS, 20,000 if not set. Other variables of Flower are kept.

    Raises:
        FlowerLoginError: Flower would take this login for another one.
    """
    changed = {
        name: value for name, value in environment.items() if not name.startswith("TENCENTCLOUD_")
    }
    changed.setdefault("FLOWER_READ_ONLY", "true")
    changed.setdefault("FLOWER_TASKS_COLUMNS", _COLUMNS)
    changed.setdefault("FLOWER_MAX_TASKS", _TASKS)
    changed.pop("FLOWER_BASIC_AUTH", None)
    if password is not None:
        # Flower takes several logins, with commas between them, and compares ASCII only
        _check_login("SENDCODE_FLOWER_USER", user, ":,")
        _check_login("SENDCODE_FLOWER_PASSWORD", password, ",")
        changed["FLOWER_BASIC_AUTH"] = f"{user}:{password}"
    return changed


def _check_login(variable: str, value: str, unfit: str) -> None:
    if not (value.isascii() and value.isprintable()) or set(value) & set(unfit):
        signs = " and no ".join(f'"{sign}"' for sign in unfit)
        raise FlowerLoginError(f"{variable}: must be plain ASCII, with no {signs}, to suit Flower")
