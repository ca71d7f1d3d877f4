"""How every command starts Flower: where it listens, its login, what it may do."""

from __future__ import annotations

from collections.abc import Mapping

from config import SendcodeError

LOOPBACK = "127.0.0.1"
FLOWER_PORT = 5555
NO_AUTH = "SENDCODE_FLOWER_NO_AUTH"
"""Set by `sendcode flower --no-auth` for Flower, which it becomes: no login even if one is set."""
_COLUMNS = "uuid,state,result,received,started,runtime,worker"
"""On its Tasks page; the result shows why a task failed."""
_MAX_TASKS = "20000"
"""Tasks that it remembers, 7 kB each; its default of 100,000 takes 0.8 GB."""


class FlowerLoginError(SendcodeError, ValueError):
    """Flower would misread a login; the message names the setting without its value."""


def flower_environment(
    environment: Mapping[str, str], user: str, password: str | None
) -> dict[str, str]:
    """Return Flower's environment: with its login, and without the API's credentials.

    No process list shows a login in the environment. Flower is read-only unless FLOWER_READ_ONLY
    says otherwise, because the ledger would not know what it did to a task. It remembers
    FLOWER_MAX_TASKS tasks, 20,000 if not set. Flower's other variables are kept.

    Raises:
        FlowerLoginError: Flower would read it as another login.
    """
    changed = {
        name: value for name, value in environment.items() if not name.startswith("TENCENTCLOUD_")
    }
    changed.setdefault("FLOWER_READ_ONLY", "true")
    changed.setdefault("FLOWER_TASKS_COLUMNS", _COLUMNS)
    changed.setdefault("FLOWER_MAX_TASKS", _MAX_TASKS)
    changed.pop("FLOWER_BASIC_AUTH", None)
    if password is not None:
        # Flower takes several logins, with commas between them, and compares ASCII only
        _check_login("SENDCODE_FLOWER_USER", user, ":,")
        _check_login("SENDCODE_FLOWER_PASSWORD", password, ",")
        changed["FLOWER_BASIC_AUTH"] = f"{user}:{password}"
    return changed


def _check_login(variable: str, value: str, unfit: str) -> None:
    if not (value.isascii() and value.isprintable()) or set(value) & set(unfit):
        refused = " and no ".join(f'"{character}"' for character in unfit)
        raise FlowerLoginError(f"{variable}: must be plain ASCII, with no {refused}, for Flower")
