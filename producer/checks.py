"""Files that people uploaded to have checked, and what is known of each: on disk, for an hour.

A check is a folder that only this machine's user can read. Processes of that user on this machine
share it, so a person finds a check again whichever of them answers. Nothing in it says who works on
it: that is whoever holds its lock, and a lock ends with its process. These files contain numbers,
so a check is removed an hour after its upload, or soon after it became a batch; the next process
removes what a crash leaves behind. A confirmed check stays until it is a batch: it is kept where
the machine keeps its state, as losing it in a restart could make a person send the file twice.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from pydantic import TypeAdapter, ValidationError

from config.settings import Settings
from jobs.identity import state_file
from producer.importing import Terms
from producer.row_decisions import RowDecisions
from producer.sheet import Leaving, Sheet, open_sheet
from producer.sheet.leaving import NOTHING

KEPT_S = 3_600
"""A file that nobody submits is removed after that."""
MOST_KEPT = 100
MOST_KEPT_OF_OWNER = 20
MOST_BYTES = 1_000_000_000
"""Of all files that are kept at once."""
LONGEST_CELL = 1_000
_FORM = 5
"""Version of what a reading found: a release with another one reads the file again."""
_ID = re.compile(r"[0-9a-f]{12}")


class TooManyChecksError(Exception):
    """No more files are kept at once."""


@dataclass(frozen=True, slots=True)
class Choices:
    """How a person wants the file to be read; None: as detected."""

    phone_column: str | None = None
    country_column: str | None = None
    sheet: str | None = None
    encoding: str | None = None
    skip_sent: bool | None = None
    """Whether customers who got a code are left out; None, for no, until a person decides."""


@dataclass(frozen=True, slots=True)
class Check:
    """One file, how it is to be read, and what a person decided about it."""

    check_id: str
    owner: str
    file_name: str
    size: int
    created_s: float
    """Unix seconds."""
    revision: int = 0
    """Counts the changes after which the file must be read again."""
    choices: Choices = Choices()
    corrections: dict[int, dict[int, str]] = field(default_factory=dict)
    leaving: Leaving = NOTHING
    """The rows that are left out."""
    wishes: Terms = field(default_factory=Terms)
    """The terms that a person chose so far."""
    undone: int = 0
    """How often it was sent and taken back before its first code left."""
    confirmed: bool = False
    submitted: bool = False
    """It is a batch, with all its rows."""
    refused: str = ""
    """Why it could not become one, as a `Refusal`."""
    continues: str = ""
    """The batch of the same content that was cut off, if this is to complete it."""

    @property
    def version(self) -> str:
        """Changes with all that a page shows of it, so that a decision is about what was shown."""
        wishes = hashlib.sha256(repr(self.wishes).encode()).hexdigest()[:8]
        return f"{self.revision}-{wishes}"

    @property
    def batch_id(self) -> str:
        """The batch that it becomes: the same however often it is confirmed."""
        if self.continues:
            return self.continues
        return f"{self.check_id}.{self.undone}" if self.undone else self.check_id

    @property
    def ends_s(self) -> float:
        """When it is removed, in Unix seconds."""
        return self.created_s + KEPT_S

    def terms(self) -> Terms:
        return replace(
            self.wishes,
            name=self.wishes.name or self.file_name,
            again=self.wishes.again and not self.continues,
            skip_sent=bool(self.choices.skip_sent),
            by=self.owner,
        )


_CHECK, _DOCUMENT = TypeAdapter(Check), TypeAdapter[Any](Any)


def check_of_batch(batch_id: str) -> str:
    """Return the check that a batch of this id may have been made from."""
    return batch_id.partition(".")[0]


def next_batch_id(batch_id: str) -> str:
    """Return the batch that a check becomes after this one was undone."""
    check_id, _, undone = batch_id.partition(".")
    return f"{check_id}.{int(undone) + 1 if undone.isdecimal() else 1}"


def checks_folder(settings: Settings) -> Path:
    """Return where this user's processes keep the checks of one ledger."""
    place = f"{settings.redis.place} {settings.sendcode_key_prefix}"
    name = f"checks-{hashlib.sha256(place.encode()).hexdigest()[:12]}"
    state = state_file(settings)
    if state is None:  # a user without a home
        return Path(tempfile.gettempdir()) / f"sendcode-{os.getuid()}-{name}"
    return state.parent / name


class Checks:
    """The checks in one folder. Safe for threads and processes."""

    def __init__(
        self,
        folder: Path,
        most: int = MOST_KEPT,
        most_of_owner: int = MOST_KEPT_OF_OWNER,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._folder = folder
        self._most, self._most_of_owner, self._most_bytes = most, most_of_owner, most_bytes

    def add(self, owner: str, file_name: str, file: IO[bytes]) -> Check:
        """Keep a file that was uploaded.

        Raises:
            TooManyChecksError: too many are kept already, in all or of this owner, or too big ones.
            PermissionError: the folder is somebody else's.
        """
        self._make_folder()
        kept = self.all()
        is_full = sum(check.size for check in kept) + file.seek(0, 2) > self._most_bytes
        own = sum(check.owner == owner for check in kept)
        if is_full or len(self._ids()) >= self._most or own >= self._most_of_owner:
            raise TooManyChecksError
        check_id = secrets.token_hex(6)
        # complete before others see it
        hidden = self._folder / f".{check_id}"
        hidden.mkdir(mode=0o700)
        try:
            with os.fdopen(_create(hidden / "file"), "wb") as copy:
                file.seek(0)
                shutil.copyfileobj(file, copy, 1 << 20)
                size = copy.tell()
            check = Check(check_id, owner, file_name, size, time.time())
            for name in ("lock", "work"):
                os.close(_create(hidden / name))
            _write(hidden / "check.json", check)
            hidden.rename(self._folder / check_id)
        except BaseException:
            shutil.rmtree(hidden, ignore_errors=True)
            raise
        return check

    def get(self, check_id: str) -> Check | None:
        """Return a check; None if there is none that can be read, or if its time is over.

        One that is confirmed is kept until it is a batch.
        """
        try:
            check = _CHECK.validate_python(self._read(check_id, "check.json"))
        except ValidationError:  # no check, or a damaged one
            return None
        is_kept = (check.confirmed and not check.submitted) or time.time() < check.ends_s
        return check if is_kept and check.check_id == check_id else None

    def all(self) -> list[Check]:
        """Return all checks, the newest first."""
        found = [check for check_id in self._ids() if (check := self.get(check_id)) is not None]
        return sorted(found, key=lambda check: -check.created_s)

    @contextmanager
    def change(self, check_id: str) -> Iterator[_Change]:
        """Lock a check, and save what the block changes.

        Raises:
            FileNotFoundError: there is no such check any more.
        """
        with self._path(check_id, "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            check = self.get(check_id)
            if check is None:
                raise FileNotFoundError(check_id)
            change = _Change(check)
            yield change
            if change.check != check:
                _write(self._path(check_id, "check.json"), change.check)

    @contextmanager
    def work(self, check_id: str) -> Iterator[bool]:
        """Claim the work on a check; yield False if somebody else has it, or the check is gone."""
        try:
            lock = self._path(check_id, "work").open("rb")
        except FileNotFoundError:
            yield False
            return
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def found(self, check: Check) -> dict[str, Any] | None:
        """Return what the reading of this revision found; None if it is not done yet."""
        document = self._read(check.check_id, "found.json")
        if not isinstance(document, dict) or document.get("form") != _FORM:
            return None
        return document if document.get("revision") == check.revision else None

    def keep_found(self, check: Check, document: Mapping[str, Any]) -> None:
        found = {**document, "revision": check.revision, "form": _FORM}
        with suppress(FileNotFoundError):  # it was removed meanwhile
            _write(self._path(check.check_id, "found.json"), found)

    def progress(self, check_id: str) -> tuple[int, float, str]:
        """Return how many rows were read or submitted, the file's share, and which of the two."""
        document = self._read(check_id, "progress.json") or [0, 0.0, "read"]
        rows, share, what = document
        return rows, share, what

    def keep_progress(self, check: Check, rows: int, share: float, what: str) -> None:
        """Save the progress.

        Raises:
            FileNotFoundError: the check was removed.
        """
        _write(self._path(check.check_id, "progress.json"), [rows, round(share, 3), what])

    def open_sheet(self, check: Check) -> Sheet:
        """Open the file with a person's choices and corrections.

        Raises:
            SheetError: as `producer.sheet.open_sheet`.
            FileNotFoundError: the check was removed.
        """
        choices = check.choices
        return open_sheet(
            check.file_name,
            upload=self._path(check.check_id, "file").open("rb"),
            encoding=choices.encoding,
            sheet=choices.sheet,
            phone_column=choices.phone_column,
            country_column=choices.country_column,
            corrections=check.corrections,
            leaving=check.leaving,
        )

    def confirm(self, check_id: str, version: str) -> bool:
        """Confirm that a check becomes a batch; False if it is no longer the `version` shown.

        Raises:
            FileNotFoundError: there is no such check any more.
        """
        with self.change(check_id) as change:
            check = change.check
            found = self.found(check)
            if not check.confirmed:
                if check.version != version or found is None or found["error"]:
                    return False
                begun = found["continues"]
                continues = begun["batch_id"] if begun else ""
                change.set(confirmed=True, refused="", continues=continues)
            return True

    def decide(self, check_id: str, version: str, rows: RowDecisions) -> bool:
        """Correct cells and leave rows out, or take that back, and have the file read again.

        Return False, and change nothing, if the check is no longer the `version` shown.

        Raises:
            FileNotFoundError: there is no such check any more.
            NotOfferedError: a cell or row that cannot be corrected or left out here, or too many.
        """
        with self.change(check_id) as change:
            check, found = change.check, self.found(change.check)
            if check.confirmed or check.version != version or found is None or found["error"]:
                return False
            corrections = rows.corrections(check.corrections, found)
            leaving = rows.leaving(check.leaving, found)
            if (corrections, leaving) != (check.corrections, check.leaving):
                change.read_again(refused="", corrections=corrections, leaving=leaving)
            return True

    def forget(self, check_id: str) -> bool:
        """Remove a check and its file, unless it was confirmed; return whether it is gone."""
        with suppress(FileNotFoundError), self.change(check_id) as change:
            if change.check.confirmed:
                return False
            shutil.rmtree(self._folder / check_id, ignore_errors=True)
        return True

    def sweep(self, submitted_for_s: float) -> None:
        """Remove checks that are an hour old or were submitted long ago, and what a crash left.

        Also in this user's folders for other ledgers, which no process may ever use again.
        """
        user = self._folder.name.rpartition("-")[0]
        others = self._folder.parent.glob(f"{user}-*") if user else ()
        for folder in {self._folder, *others}:
            if _is_own(folder):
                Checks(folder)._sweep(submitted_for_s)

    def _sweep(self, submitted_for_s: float) -> None:
        for each in self._entries():
            check = self.get(each.name)
            try:
                since_s = time.time() - each.stat().st_mtime
            except FileNotFoundError:
                continue
            if check is None:
                is_over = each.name[0] != "." or since_s > KEPT_S
            else:
                is_over = check.submitted and since_s > submitted_for_s
            if is_over:
                shutil.rmtree(each, ignore_errors=True)

    def _ids(self) -> list[str]:
        return [each.name for each in self._entries() if _ID.fullmatch(each.name)]

    def _entries(self) -> list[Path]:
        return list(self._folder.iterdir()) if _is_own(self._folder) else []

    def _make_folder(self) -> None:
        self._folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            self._folder.mkdir(mode=0o700)
        if not _is_own(self._folder):
            raise PermissionError(f"{self._folder} is not this user's own folder")

    def _path(self, check_id: str, name: str) -> Path:
        # files that somebody else put there would be sent as this user's
        if not _ID.fullmatch(check_id) or not _is_own(self._folder):
            raise FileNotFoundError(check_id)
        return self._folder / check_id / name

    def _read(self, check_id: str, name: str) -> Any:
        try:
            return json.loads(self._path(check_id, name).read_text("utf-8"))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None


class _Change:
    """A locked check."""

    def __init__(self, check: Check) -> None:
        self.check = check

    def set(self, **values: Any) -> None:
        self.check = replace(self.check, **values)

    def read_again(self, **values: Any) -> None:
        """Change what decides how the file is read."""
        self.set(revision=self.check.revision + 1, **values)


def _is_own(folder: Path) -> bool:
    """Return whether a folder is this user's, and closed to everybody else."""
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return False
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    return is_ours and not found.st_mode & 0o077


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


def _write(path: Path, document: Any) -> None:
    """Replace a file atomically, so that no reader sees half of it."""
    hidden = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(_create(hidden), "wb") as file:
        file.write(_DOCUMENT.dump_json(document))
    hidden.replace(path)
