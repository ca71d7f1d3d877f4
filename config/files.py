"""Files that hold settings and secrets: their content, and who else can read or change it.

Whoever can change such a file decides where codes and credentials go. So it must belong to this
user or to root, and nobody else may write to it; one that others can read is warned about.

A file on a read-only mount, such as a container's secret, is accepted as it is: owner and mode are
those of the machine that it was mounted from, and whoever mounted it chose it.
"""

from __future__ import annotations

import os
import pwd
import re
from io import StringIO
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from config import SendcodeError

_ROOT = 0
_OTHERS_WRITE = 0o022


class UnfitFileError(SendcodeError):
    """A file of settings or secrets can be changed by others, or is not text.

    The message has the reason and the remedy.
    """


def read_text(path: str | os.PathLike[str]) -> str:
    """Return a file's text, without a byte-order mark.

    Raises:
        UnfitFileError: others could have written it, or it is not UTF-8.
        OSError: it cannot be read.
    """
    with Path(path).open(encoding="utf-8-sig") as file:
        _refuse_changeable(path, file.fileno())
        try:
            return file.read()
        except UnicodeDecodeError:
            raise UnfitFileError("is not UTF-8 text; save it as UTF-8") from None


def read_env_file(path: str | os.PathLike[str]) -> tuple[dict[str, str], list[str]]:
    """Return the values of an env file, if there is one, and what is wrong with it."""
    try:
        text = read_text(path)
    except (FileNotFoundError, IsADirectoryError):  # a virtual environment may be called so
        return {}, []
    except UnfitFileError as exc:
        return {}, [f"{path}: {exc}"]
    except OSError as exc:
        return {}, [f"{path}: cannot be read ({(exc.strerror or 'failed').lower()})"]
    if wrong := [each.original for each in parse_stream(StringIO(text)) if each.error]:
        # the parsed text begins with the blank lines before it
        lines = [each.line + re.split(r"\S", each.string)[0].count("\n") for each in wrong]
        return {}, [f"{path}, line {line}: is not NAME=value" for line in lines]
    values = dotenv_values(stream=StringIO(text), interpolate=False)  # a key may hold ${x}
    return {name.upper(): value for name, value in values.items() if value}, []


def is_exposed(path: str | os.PathLike[str]) -> bool:
    """Return whether users other than its owner and root can read a file and reach its folder."""
    try:
        place = Path(path).resolve(strict=True)
        if os.statvfs(place).f_flag & os.ST_RDONLY:
            return False
        status = place.stat()
        folders = [folder.stat().st_mode for folder in place.parents]
    except OSError:
        return False
    # a file of root's may be readable by its group: that is how a service gets it
    access = [(0o004, 0o001)] if status.st_uid == _ROOT else [(0o004, 0o001), (0o040, 0o010)]
    return any(
        status.st_mode & read and all(mode & enter for mode in folders) for read, enter in access
    )


def _refuse_changeable(path: str | os.PathLike[str], descriptor: int) -> None:
    if os.fstatvfs(descriptor).f_flag & os.ST_RDONLY:
        return
    status = os.fstat(descriptor)
    # somebody else's link could choose among our files
    for owner in (status.st_uid, os.lstat(path).st_uid):
        if owner not in {_ROOT, os.geteuid()}:
            raise UnfitFileError(
                f"belongs to {_user(owner)}, who can change it; if it is to be trusted: "
                f"chown {_user(os.geteuid())} {path}"
            )
    if status.st_mode & _OTHERS_WRITE:
        raise UnfitFileError(
            f"can be changed by others (mode {status.st_mode & 0o777:o}); check what is in it, "
            f"then: chmod go-w {path}"
        )


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
