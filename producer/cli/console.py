"""What all commands share: where results and talk go, JSON, and errors as one clear line.

Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 misused (options,
settings, input), 130 interrupted. A command lets exceptions out; `exit_code_for` words them.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import IO, TYPE_CHECKING, Annotated, Any, BinaryIO, Final, cast

import typer

from config.logging import escaped

if TYPE_CHECKING:
    from pathlib import Path

    import redis
    from rich.console import Console

    from config.settings import Settings
    from producer.sheet import SheetWriter

DONE: Final = 0
FAILED: Final = 1
MISUSED: Final = 2
INTERRUPTED: Final = 130

TRACEBACK: Final = "SENDCODE_TRACEBACK"
"""Set to anything, an unexpected error shows where it comes from: for developers."""

_LONGEST_INPUT = 1_000
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace the file of --output if it exists.")
]
SeparatorOption = Annotated[
    str | None,
    typer.Option(
        help="Between the cells of the file written: comma, semicolon (an Excel in German, French "
        "…) or tab (default: semicolon where your file has them, else comma)."
    ),
]

FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="csv (for spreadsheet programs), plain (CSV for programs: no shields) or xlsx "
        "(default: by the name of --output, else csv).",
    ),
]
RevealOption = Annotated[
    bool, typer.Option("--reveal", help="Show full phone numbers on this terminal.")
]

_WRONG_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)


@dataclass(frozen=True, slots=True)
class Target:
    """A file to write, as a person asked for it; "-" is standard output."""

    path: Path
    overwrite: bool
    delimiter: str
    form: str = "csv"

    @contextmanager
    def writer(self, header: Sequence[str], ours: Sequence[str]) -> Iterator[SheetWriter]:
        """Open it for rows of these columns."""
        from producer.sheet.writing import written_sheet

        with written_sheet(
            self.path,
            header,
            ours,
            stdout=results_in_bytes(),
            overwrite=self.overwrite,
            delimiter=self.delimiter,
            form=self.form,
            show=escaped if shows_on_terminal(self.path) else str,
        ) as writer:
            yield writer


class CommandFailedError(Exception):
    """The command could not do what was asked: one line says what and what to do. Exit 1."""


class MisusedError(Exception):
    """The command was asked for something that makes no sense. One line; exit 2."""


@cache
def results() -> Console:
    """Stdout, for what the command was asked for."""
    from rich.console import Console

    return Console(file=cast("IO[str]", _Named(lambda: sys.stdout)), highlight=False)


@cache
def talk() -> Console:
    """Stderr, for all that is said on the way: progress, hints, warnings."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """Write a line of talk as it is: no markup, no wrapping, no control characters."""
    talk().print(printable(text), markup=False, soft_wrap=True)


def show(text: str) -> None:
    """Write a line of results as it is: no markup, no wrapping, no control characters."""
    results().print(printable(text), markup=False, soft_wrap=True)


def show_json(document: Any) -> None:
    """Write the one JSON document of a command with `--json`."""
    results().file.write(escaped(json.dumps(document, ensure_ascii=False, indent=2), "\n") + "\n")


def results_in_bytes() -> BinaryIO:
    """Stdout, for a file's content."""
    return cast("BinaryIO", _Named(lambda: sys.stdout.buffer))


def input_in_bytes() -> BinaryIO | None:
    """Stdin, for a file's content; None if it is closed."""
    return getattr(sys.stdin, "buffer", None)


def is_terminal() -> bool:
    """Whether somebody is there to be asked."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def ask_first(question: str, *, yes: bool) -> None:
    """Ask before what cannot be taken back; where nobody can be asked, `--yes` must say it.

    Raises:
        MisusedError: nobody is there, and `yes` is not given.
        typer.Abort: the answer is no.
    """
    if yes:
        return
    if not is_terminal():
        raise MisusedError(f"{question} Nobody is here to be asked: --yes says yes")
    typer.confirm(question, abort=True, err=True)


def number_asked_for() -> str:
    """Read a phone number, so that none is in a process list: hidden at a terminal, else on stdin.

    Raises:
        MisusedError: there is not one line of it.
    """
    if sys.stdin is not None and sys.stdin.isatty():
        return str(
            typer.prompt("Phone number (what you type stays hidden)", hide_input=True, err=True)
        )
    try:
        text = sys.stdin.read(_LONGEST_INPUT) if sys.stdin is not None else ""
    except UnicodeDecodeError:
        text = ""
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) != 1:
        raise MisusedError(
            f"standard input: must be one line with one phone number, not {len(lines)} lines; "
            "or name it with --phone"
        )
    return lines[0]


class _Named:
    """Stdout, as it is at each call; an error of it says whose it is."""

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


def command_line(
    *words: str | Path, options: Mapping[str, str | float | bool | None] | None = None
) -> str:
    """Word a command that can be pasted into a shell, whatever is in its words.

    Options without a value are left out; True stands for one that takes none.
    """
    parts = ["sendcode", *map(str, words)]
    for name, value in (options or {}).items():
        if value is None or value is False or value == "":
            continue
        parts.append(name)
        if value is not True:
            parts.append(value if isinstance(value, str) else f"{value:.12g}")
    return shlex.join(parts)


def rate_of(option: str, per_second: float | None) -> float | None:
    """Give back a rate that was asked for, if any.

    Raises:
        MisusedError: it makes no sense.
    """
    from producer import bounds

    try:
        return None if per_second is None else bounds.rate(per_second)
    except ValueError as exc:
        raise MisusedError(f"{option}: {exc}") from None


def target_of(
    output: Path,
    *,
    overwrite: bool,
    reveal: bool,
    form: str | None,
    separator: str | None,
    own: str = ",",
) -> Target:
    """Make out what to write, and where; `own` is the separator of the customer's file.

    Raises:
        MisusedError: there is no such form or separator, or it would show full numbers on a
            terminal, unasked.
    """
    from producer.sheet.writing import FORMS, separator_for

    if shows_on_terminal(output) and not reveal:
        raise MisusedError(
            "this would show full phone numbers: write a file with --output FILE, or add --reveal"
        )
    form = form or ("xlsx" if output.suffix.lower() == ".xlsx" else "csv")
    if form not in FORMS:
        raise MisusedError(f"--format: must be one of {', '.join(FORMS)}")
    if form == "xlsx" and shows_on_terminal(output):
        raise MisusedError("--format: a workbook cannot be shown here; add --output FILE")
    try:
        return Target(output, overwrite, separator_for(own, separator), form)
    except ValueError as exc:
        raise MisusedError(f"--separator: {exc}") from None


def shows_on_terminal(output: Path) -> bool:
    """Whether what is written there appears on a person's screen."""
    return str(output) == "-" and sys.stdout.isatty()


def reason_to_keep(reason: str) -> str:
    """Mask phone numbers in what is kept for others to read, and say so."""
    from producer.wording import without_numbers

    kept = without_numbers(reason)
    if kept != reason:
        say(f'--reason: kept as "{kept}": others read it, so it is to have no full number')
    return kept


def printable(text: str) -> str:
    """Replace what could steer a terminal: such text may come from a file or a server."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def settings_here() -> Settings:
    """Load the settings of this folder; name what looks like one and is none."""
    from config.settings import load_settings, misspelt

    settings = load_settings()
    for name, remedy in misspelt().items():
        _say_once(f"{name} is no setting and changes nothing: {remedy}")
    return settings


@cache
def _say_once(text: str) -> None:
    say(text)


@contextmanager
def ledger_connection(*, any_version: bool = False) -> Iterator[tuple[Settings, redis.Redis]]:
    """Load the settings and connect to Redis.

    With `any_version` the first command is the first contact.

    Raises:
        LedgerRefusedError: it holds data that this release cannot read.
    """
    from config.redis import connect
    from jobs.upgrade import refuse_newer

    settings = settings_here()
    client = connect(settings)
    try:
        if not any_version:
            refuse_newer(client, settings)
        yield settings, client
    finally:
        client.close()


def run(command: Callable[[], None]) -> None:
    """Run the command line and end the process with its exit code, never with a traceback."""
    _prepare_streams()
    sys.exit(_code_of(command))


def _prepare_streams() -> None:
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed (`>&-`): the same as thrown away
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        reconfigure = getattr(getattr(sys, name), "reconfigure", None)
        if reconfigure is not None:  # a terminal that lacks a character is no reason to fail
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
        results().file.flush()
    except BrokenPipeError:  # whoever reads has had enough
        code = FAILED
        _forget_results()
    except Exception as exc:  # noqa: BLE001 (the seam: every error becomes a line and a code)
        code = exit_code_for(exc)
        _forget_results()
    if code == INTERRUPTED:
        _complain("interrupted")
    return code


def _forget_results() -> None:
    """Leave nothing in stdout's buffer that cannot be written when the process ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def exit_code_for(exc: Exception) -> int:
    """Say what went wrong in one line (settings: one line each) and give the exit code."""
    if os.environ.get(TRACEBACK):
        traceback.print_exception(exc)
    lines, code = _in_words(exc)
    for line in lines:
        _complain(line)
    return code


def _complain(line: str) -> None:
    say(f"sendcode: {line}")


def _in_words(exc: Exception) -> tuple[list[str], int]:
    import redis

    from config.settings import SettingsError
    from config.unavailable import RedisUnavailableError
    from jobs.identity import LedgerRefusedError
    from jobs.phone import PhoneError
    from producer.cli.wording import no_such_job_in_words, refused_import_in_words
    from producer.importing import ImportRefusedError
    from producer.sheet import SheetError
    from producer.stories import NoSuchJobError

    lines, code = [str(exc)], FAILED
    match exc:
        case MisusedError() | PhoneError() | SheetError():
            code = MISUSED
        case ImportRefusedError():
            lines, code = [refused_import_in_words(exc)], MISUSED
        case NoSuchJobError():
            lines = [no_such_job_in_words(exc)]
        case SettingsError():
            lines, code = [f"wrong setting: {line}" for line in str(exc).splitlines()], MISUSED
        case CommandFailedError() | RedisUnavailableError() | LedgerRefusedError():
            pass
        case redis.RedisError():
            lines = [_no_redis(exc)]
        case OSError():
            if exc.filename is not None:
                lines = [f"{exc.filename}: {(exc.strerror or 'failed').lower()}"]
            elif exc.strerror:
                lines = [exc.strerror.lower()]
            code = MISUSED if isinstance(exc, _WRONG_FILE) else FAILED
        case _:
            lines = [
                f"unexpected {type(exc).__name__}; this is a defect, please report it "
                f"({TRACEBACK}=1 shows where it comes from)"
            ]
    return lines, code


def _no_redis(exc: redis.RedisError) -> str:
    from config.settings import Settings, SettingsError, load_settings
    from config.unavailable import RedisUnavailableError

    try:
        settings = load_settings()
    except SettingsError:  # the command was given others
        settings = Settings()
    return str(RedisUnavailableError.from_redis(exc, settings))
