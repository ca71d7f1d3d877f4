"""What the services answer, in the words of the console's language."""

from __future__ import annotations

from markupsafe import Markup

from jobs.batch import Batch
from jobs.codes import CODES, explain, explain_end, is_for_operations
from jobs.codes import find as find_code
from jobs.job import EVENT, JobRecord, State
from producer.deadletters import Reason, Why
from producer.stories import WaitsFor, reason_left
from producer.web.console.texts import Texts

_KEYS = {key: key for key in CODES}


class Words(Texts):
    """The texts of a language, and with them what codes, states and reasons mean."""

    def meaning(self, code: str) -> Markup:
        """Return what a code means, without a full stop."""
        return self.get(f"code.{_key(code)}", explain(code).meaning)

    def reason(self, code: str) -> Markup:
        """Return a failure's reason as a person's choice: its meaning, or that there is none."""
        return self.meaning(code) if code else self("dead.no_code")

    def remedy(self, code: str) -> Markup:
        """Return what a person can do about a job that ended with a code, without a full stop."""
        return self("job.tell_operations") if is_for_operations(code) else self._remedy(code)

    def technical(self, code: str) -> Markup | None:
        """Return what those who run sendcode can do, without a full stop, where only they can."""
        return self._remedy(code) if is_for_operations(code) else None

    def _remedy(self, code: str) -> Markup:
        return self.get(f"remedy.{_key(code)}", explain_end(code).remedy)

    def left_alone(self, reason: Reason) -> Markup:
        """Return why a job is left alone, and what helps."""
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
        """Return what became of a job, or where it is, as a sentence; never its number."""
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
            return text + " " + self("decision.reason", reason=self.said(reason))
        if state.is_for_a_person:
            name = "perhaps" if state is State.UNKNOWN else "dead"
            return self(f"job.{name}", why=self.reason(record.code))
        text = self(f"job.{state}")
        if state.is_sent and record.replaces:
            text += " " + self("job.to_corrected", number=record.phone.masked)
        if state.is_sent and record.possible_duplicate:
            text += " " + self("job.twice")
        return text


def _key(code: str) -> str:
    """Return the code under which a table has its entry: "InternalError*"."""
    return find_code(code, _KEYS) or "undocumented"
