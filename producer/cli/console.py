"""Where results and messages go, JSON, and errors as one clear line. `--help` needs this file.

Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 misused (options,
settings, input), 130 interrupted. Commands, and all functions that they call, let exceptions
propagate; `exit_code_for` reports them.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Final, cast

import typer

from config.logging import escaped

if TYPE_CHECKING:
    from rich.console import Console

DONE: Final = 0
FAILED: Final = 1
MISUSED: Final = 2
INTERRUPTED: Final = 130

TRACEBACK: Final = "SENDCODE_TRACEBACK"
"""For developers: if it is set, an error is shown with its traceback."""

_LONGEST_INPUT = 1_000


class CommandFailedError(Exception):
    """The command could not do what was asked: one line says what and what to do. Exit 1."""


class MisusedError(Exception):
    """The command was asked for something that makes no sense. One line; exit 2."""


@cache
def results() -> Console:
    """Return a console on stdout, for tables and other output that is more than lines."""
    from rich.console import Console  # noqa: PLC0415 (a tenth of the start, and few need it)

    return Console(file=stdout(), highlight=False)


@cache
def stdout() -> IO[str]:
    """Return stdout; an error in writing to it names it."""
    return cast("IO[str]", _Named(lambda: sys.stdout))


def say(text: str) -> None:
    """Write a message to stderr as it is, but for control characters."""
    print(printable(text), file=sys.stderr, flush=True)


def show(text: str) -> None:
    """Write a line of results to stdout as it is, but for control characters."""
    print(printable(text), file=stdout(), flush=True)


def show_json(document: Any) -> None:
    """Write the one JSON document of a command with `--json`."""
    stdout().write(escaped(json.dumps(document, ensure_ascii=False, indent=2), "\n") + "\n")


def results_in_bytes() -> BinaryIO:
    """Return stdout, for a file's content."""
    return cast("BinaryIO", _Named(lambda: sys.stdout.buffer))


def input_in_bytes() -> BinaryIO | None:
    """Return stdin, for a file's content; None if it is closed."""
    return getattr(sys.stdin, "buffer", None)


def is_terminal() -> bool:
    """Return whether there is a terminal at which a person can be asked."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def ask_first(question: str, *, yes: bool) -> None:
    """Ask before what cannot be undone, unless `yes` confirms it already."""
    if yes:
        return
    if not is_terminal():
        raise MisusedError(f"{question} There is no terminal to ask at: --yes confirms it")
    typer.confirm(question, abort=True, err=True)


def number_asked_for(*, has_option: bool = True) -> str:
    """Read a phone number, as `secret_line` does; `has_option`: --phone takes it as well."""
    prompt = "Phone number (what you type stays hidden)"
    otherwise = "; or name it with --phone" if has_option else ""
    return secret_line("one phone number", prompt, otherwise=otherwise)


def secret_line(what: str, prompt: str, *, twice: bool = False, otherwise: str = "") -> str:
    """Read a line, hidden at a terminal, else all of stdin: no process list shows it.

    A person types it `twice`, as what they type is hidden; `otherwise` names another way.
    """
    if sys.stdin is not None and sys.stdin.isatty():
        return str(typer.prompt(prompt, hide_input=True, confirmation_prompt=twice, err=True))
    try:
        text = sys.stdin.read(_LONGEST_INPUT) if sys.stdin is not None else ""
    except UnicodeDecodeError:
        text = ""
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) != 1:
        raise MisusedError(
            f"standard input: must be one line with {what}, not {len(lines)} lines{otherwise}"
        )
    return lines[0]


class _Named:
    """Stdout, as it is at each call; an error in writing names it."""

    def __init__(self, stream: Callable[[], Any]) -> None:
        self._stream = stream

    def write(self, data: str | bytes) -> Any:
        return self._named(self._stream().write, data)

    def flush(self) -> None:
        self._named(self._stream().flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream(), name)

    @staticmethod
    def _named(act: Callable[..., Any], *args: object) -> Any:
        try:
            return act(*args)
        except OSError as exc:
            exc.filename = "standard output"
            raise


def command_line(*words: str | Path, **options: str | float | bool | None) -> str:
    """Return a command that can be pasted into a shell, whatever its words contain.

    Options are named as in Python, `max_rate` for `--max-rate`. Those without a value are left out;
    True stands for a flag.
    """
    parts = ["sendcode", *map(str, words)]
    for name, value in options.items():
        if value is None or value is False or value == "":
            continue
        parts.append(f"--{name.replace('_', '-')}")
        if value is not True:
            parts.append(value if isinstance(value, str) else f"{value:.12g}")
    return shlex.join(parts)


def shows_on_terminal(output: Path) -> bool:
    """Return whether what is written there appears on a person's screen."""
    return str(output) == "-" and sys.stdout.isatty()


def printable(text: str) -> str:
    """Replace what could control a terminal: such text may come from a file or a server."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def run(command: Callable[[], None]) -> None:
    """Run the command line and end the process with its exit code, never with a traceback."""
    _prepare_streams()
    sys.exit(_code_of(command))


def _prepare_streams() -> None:
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by `>&-`: discard the output
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        reconfigure = getattr(getattr(sys, name), "reconfigure", None)
        if reconfigure is not None:  # do not fail for a character that the terminal lacks
            reconfigure(errors="backslashreplace")


def _code_of(command: Callable[[], None]) -> int | str | None:
    code: int | str | None = DONE
    try:
        try:
            command()
        except SystemExit as exc:
            code = exc.code
        except KeyboardInterrupt:
            code = INTERRUPTED
        stdout().flush()
    except BrokenPipeError:  # the reader has closed the pipe
        code = FAILED
        _discard_results()
    except Exception as exc:  # noqa: BLE001 (the seam: every error becomes a line and a code)
        code = exit_code_for(exc)
        _discard_results()
    if code == INTERRUPTED:
        complain("interrupted")
    return code


def _discard_results() -> None:
    """Discard what stdout's buffer holds if it cannot be written: the exit would fail on it."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def exit_code_for(exc: Exception) -> int:
    """Write what went wrong in one line (settings: one line each) and return the exit code."""
    from producer.cli.wording import error_in_words  # noqa: PLC0415 (not for `--help`)

    if os.environ.get(TRACEBACK):
        traceback.print_exception(exc)
    lines, code = error_in_words(exc)
    for line in lines:
        complain(line)
    return code


def complain(line: str) -> None:
    """Write what went wrong, in one line."""
    say(f"sendcode: {line}")
