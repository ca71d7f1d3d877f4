"""The console's texts: one catalogue per language, and the words for what the services return.

A catalogue has a table for each page. A text has named places, `{count}`; one that depends on a
number is a table of `one` and `other`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from markupsafe import Markup, escape

from jobs.batch import Batch
from jobs.codes import CODES, explain, explain_end, is_for_operations
from jobs.codes import find as find_code
from jobs.job import EVENT, JobRecord, State
from jobs.vault import CHANGED, UNOPENED
from producer.deadletters import Reason, Why
from producer.stories import WaitsFor, reason_left

_KEYS = {key: key for key in CODES}
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3_600, 86_400

LANGUAGES = {"en": "en", "zh": "zh-Hans"}
"""By catalogue: the `lang` of its pages."""


class Texts:
    """The texts of a language. Called with a text's key and values it returns safe HTML."""

    def __init__(self, language: str) -> None:
        self.language = language
        self._texts = catalogue(language)

    def __call__(self, key: str, /, **values: Any) -> Markup:
        """Return a text with its values, which are escaped.

        Raises:
            KeyError: there is no such text, or it has a place without a value.
        """
        text = self._texts[key]
        if not isinstance(text, str):
            text = text["one" if values["count"] == 1 and "one" in text else "other"]
        shown = {
            name: f"{value:,}" if isinstance(value, int) else value
            for name, value in values.items()
        }
        return Markup(escape(text)).format(**shown)  # noqa: S704 (escaped)

    def span(self, seconds: float) -> Markup:
        """Return how long something takes: "48 s", "3 min", "2 h 5 min", "3 d 4 h"."""
        whole = max(0, round(seconds))
        if whole < 2 * _MINUTE_S:
            return self("time.seconds", count=whole)
        if whole < _HOUR_S:
            return self("time.minutes", count=round(whole / _MINUTE_S))
        if whole < _DAY_S:
            hours, rest = divmod(whole, _HOUR_S)
            return self("time.hours", count=hours, minutes=rest // _MINUTE_S)
        days, rest = divmod(whole, _DAY_S)
        return self("time.days", count=days, hours=rest // _HOUR_S)

    def get(self, key: str, default: str, /, **values: Any) -> Markup:
        """Return a text, or a default, such as the English words that come with a code."""
        return self(key, **values) if key in self._texts else escape(default)

    def readable(self, text: str) -> str:
        """Return a person's text; if it could not be decrypted, with a note in this language."""
        for stand_in, key in ((UNOPENED, "frame.unopened"), (CHANGED, "frame.changed")):
            if stand_in in text:
                text = text.replace(stand_in, self(key).unescape())
        return text

    def fault(self, found: Mapping[str, str], values: Mapping[str, Mapping[str, str]]) -> Markup:
        """Return what is wrong with a row, in words: by default its English message.

        `values`: the values in messages, by message.
        """
        code, message = found["code"], found["message"]
        if message in values and f"fault_exact.{code}" in self._texts:
            return self(f"fault_exact.{code}", **values[message])
        return self.get(f"fault.{code}", message[:1].upper() + message[1:])

    def meaning(self, code: str) -> Markup:
        """Return what a code means, without a full stop."""
        return self.get(f"code.{_key(code)}", explain(code).meaning)

    def reason(self, code: str) -> Markup:
        """Return a failure's reason for people: the code's meaning, or that there is no code."""
        return self.meaning(code) if code else self("dead.no_code")

    def remedy(self, code: str) -> Markup:
        """Return what a person can do about a job that ended with a code, without a full stop."""
        return self("job.tell_operations") if is_for_operations(code) else self._remedy(code)

    def technical(self, code: str) -> Markup | None:
        """Return what those who run sendcode can do, if only they can, without a full stop."""
        return self._remedy(code) if is_for_operations(code) else None

    def _remedy(self, code: str) -> Markup:
        return self.get(f"remedy.{_key(code)}", explain_end(code).remedy)

    def left_alone(self, reason: Reason) -> Markup:
        """Return why a job is left alone, and what to do about it."""
        if reason.why is Why.PERMANENT:
            why = "why.permanent_technical" if is_for_operations(reason.about) else "why.permanent"
            return self(why, meaning=self.meaning(reason.about))
        if reason.why is Why.WAITS_ELSEWHERE:
            if reason.about in {EVENT, ""}:
                return self("why.waits_as_event")
            return self("why.waits_elsewhere", batch=reason.about)
        return self(f"why.{reason.why.name.lower()}")

    def ending(
        self, record: JobRecord, waits_for: WaitsFor = "its time", batch: Batch | None = None
    ) -> Markup:
        """Return a sentence on what became of a job, or where it is; never with its number."""
        if batch is not None and batch.is_undone and record.state is State.CANCELLED:
            return self("job.undone")
        text = self._ending(record, waits_for)
        return self("job.test") + " " + text if record.is_test else text

    def _ending(self, record: JobRecord, waits_for: WaitsFor) -> Markup:
        state = record.state
        if state is State.PARKED:
            words = {"its time": "due", "its turn": "turn", "sending": "halted"}[waits_for]
            if not record.code:
                return self(f"job.waiting_{words}")
            return self(f"job.parked_{words}", why=self.meaning(record.code))
        if state.is_for_a_person and record.dropped_ms:
            text = self("job.left_perhaps" if state is State.UNKNOWN else "job.left")
            if not (reason := reason_left(record)):
                return text
            return text + " " + self("decision.reason", reason=self.readable(reason))
        if state.is_for_a_person:
            name = "perhaps" if state is State.UNKNOWN else "dead"
            return self(f"job.{name}", why=self.reason(record.code))
        text = self(f"job.{state}")
        if state.is_sent and record.replaces:
            text += " " + self("job.to_corrected", number=record.phone.masked)
        if state.is_sent and record.possible_duplicate:
            text += " " + self("job.twice")
        return text


@cache
def catalogue(language: str) -> Mapping[str, str | Mapping[str, str]]:
    """Return all texts of a language by "page.name"."""
    path = files("producer.web") / "pages" / "texts" / f"{language}.toml"
    pages: dict[str, dict[str, Any]] = tomllib.loads(path.read_text(encoding="utf-8"))
    return {f"{page}.{name}": text for page, names in pages.items() for name, text in names.items()}


def language_for(accepted: str) -> str:
    """Return the language that suits an Accept-Language header best."""
    best, weight = "en", 0.0
    for part in accepted.split(","):
        name, _, options = part.strip().partition(";")
        found = name.strip().lower().partition("-")[0]
        quality = options.strip().removeprefix("q=")
        try:
            wanted = float(quality) if quality else 1.0
        except ValueError:
            continue
        if found in LANGUAGES and wanted > weight:
            best, weight = found, wanted
    return best


def _key(code: str) -> str:
    """Return the code under which a table has its entry: "InternalError*"."""
    return find_code(code, _KEYS) or "undocumented"
