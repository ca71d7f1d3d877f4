"""What several commands need: options, a file to read or to write, the settings, the ledger."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, TypeAlias

import redis
import typer

from config.logging import escaped
from config.redis import connect
from config.settings import DATA_KEYS, Settings, load_settings, misspelt
from jobs.masking import without_numbers
from jobs.upgrade import refuse_newer
from producer import bounds
from producer.cli.console import (
    MisusedError,
    command_line,
    input_in_bytes,
    results_in_bytes,
    say,
    shows_on_terminal,
)
from producer.sheet import Sheet, SheetWriter, open_sheet
from producer.sheet.writing import FORMS, separator_for, written_sheet

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
OutputOption = Annotated[
    Path, typer.Option("--output", "-o", help="The file to write; - is standard output.")
]
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
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
RevealOption = Annotated[
    bool, typer.Option("--reveal", help="Show full phone numbers on this terminal.")
]
FileArgument = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="CSV, Excel .xlsx or JSON Lines, also packed as .gz; - is standard input.",
    ),
]
EncodingOption = Annotated[
    str | None,
    typer.Option(help="The text's encoding, such as gb18030, where it is not detected correctly."),
]
SheetOption = Annotated[
    str | None, typer.Option("--sheet", help="The workbook's sheet (default: the first).")
]
PhoneColumnOption = Annotated[
    str | None,
    typer.Option("--phone-column", help="The column of the numbers (default: by name and cells)."),
]
CountryColumnOption = Annotated[
    str | None,
    typer.Option("--country-column", help="The column of the countries or their calling codes."),
]
IdOption = Annotated[
    str | None,
    typer.Option("--id", help="The batch's id (default: from the file's content)."),
]
RateOption = Annotated[
    float | None, typer.Option(help="Jobs per second at most, below the account's limit.")
]
SkipSentOption = Annotated[
    bool,
    typer.Option("--skip-sent", help="Leave out rows whose number got a code, or waits for one."),
]


@dataclass(frozen=True, slots=True)
class InputFile:
    """A customer's file, and how a person wants it read; "-" is standard input.

    The fields are arguments of `open_sheet`, and options of the commands.
    """

    path: Path
    encoding: str | None
    sheet: str | None
    phone_column: str | None
    country_column: str | None

    def open(self) -> Sheet:
        return open_sheet(stdin=input_in_bytes(), **asdict(self))

    def command(self, verb: str, **options: str | float | bool | None) -> str:
        """Return the command `sendcode batch VERB` for this file, read in the same way."""
        options |= asdict(self)
        del options["path"]
        return command_line("batch", verb, self.path, **options)


WrittenSheet: TypeAlias = Callable[..., AbstractContextManager[SheetWriter]]
"""`written_sheet` with all that a person chose; it still needs the columns."""


@contextmanager
def blaming(option: str) -> Iterator[None]:
    """Turn a ValueError into a MisusedError that names the option."""
    try:
        yield
    except ValueError as exc:
        raise MisusedError(f"{option}: {exc}") from None


def rate_of(option: str, per_second: float | None) -> float | None:
    """Return a rate that was asked for, if any."""
    with blaming(option):
        return None if per_second is None else bounds.rate(per_second)


def target_of(
    output: Path,
    *,
    overwrite: bool,
    reveal: bool,
    form: str | None,
    separator: str | None,
    own: str = ",",
) -> WrittenSheet:
    """Return what opens the file that a person asked for; "-" is standard output.

    `own` is the separator of the customer's file.
    """
    if shows_on_terminal(output) and not reveal:
        raise MisusedError(
            "this would show full phone numbers: write a file with --output FILE, or add --reveal"
        )
    form = form or ("xlsx" if output.suffix.lower() == ".xlsx" else "csv")
    if form not in FORMS:
        raise MisusedError(f"--format: must be one of {', '.join(FORMS)}")
    if form == "xlsx" and shows_on_terminal(output):
        raise MisusedError("--format: a workbook cannot be shown here; add --output FILE")
    with blaming("--separator"):
        delimiter = separator_for(own, separator)
    return partial(
        written_sheet,
        output,
        stdout=results_in_bytes(),
        overwrite=overwrite,
        delimiter=delimiter,
        form=form,
        show=escaped if shows_on_terminal(output) else str,
    )


def reason_to_keep(reason: str) -> str:
    """Mask phone numbers in what is kept for others to read, and say so."""
    kept = without_numbers(reason)
    if kept != reason:
        say(f'--reason: kept as "{kept}": others read it, so it must not hold a full number')
    return kept


_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d)?")
_UNIT_S = {None: 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}


def seconds_of(option: str, text: str) -> float:
    """Read "90", "90s", "30min", "8h" or "2d"; for anything else raise an error with the option."""
    found = _DURATION.fullmatch(text.strip().lower())
    if found is None:
        raise MisusedError(f"{option}: must be a time such as 90s, 30min, 8h or 2d")
    return float(found[1]) * _UNIT_S[found[2]]


def settings_here(*, required: Collection[str] = (DATA_KEYS,)) -> Settings:
    """Load the settings of this folder; report variables that only look like settings.

    Raises:
        SettingsError: some are wrong, or of the `required` ones missing.
    """
    settings = load_settings(required=required)
    for name, remedy in misspelt().items():
        say(f"{name} is not a setting and changes nothing: {remedy}")
    return settings


@contextmanager
def ledger_connection(
    *, any_version: bool = False, required: Collection[str] = (DATA_KEYS,)
) -> Iterator[tuple[Settings, redis.Redis]]:
    """Load the settings and connect to Redis.

    With `any_version` nothing is sent to Redis before the first command.

    Raises:
        LedgerRefusedError: it holds data that this release cannot read.
        SettingsError: some are wrong, or of the `required` ones missing.
    """
    settings = settings_here(required=required)
    with connect(settings) as client:
        if not any_version:
            refuse_newer(client, settings)
        yield settings, client
