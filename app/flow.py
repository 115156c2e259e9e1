"""The compute part of THE FLOW (see recommender.py), for a batch of calls:

    history -> user vector -> candidates from several sources -> filters -> ranking -> top k -> answer

The filters act inside candidate generation, so that sources bring allowed items only, and once more on the final list.
"""

import time
from collections.abc import Callable, Sequence

from app.answer import answer
from app.call import Call, read_user
from app.candidates import popular_candidates, retrieve
from app.deadline import StageTimes
from app.ranking import rank
from app.settings import Settings
from app.wire import Degraded, Recommendation


class Flow:
    """Runs in one thread at a time.  clock: seconds, monotonic.  observe: called with each stage and its seconds."""

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float] = time.perf_counter,
        observe: Callable[[str, float], None] | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self.times = StageTimes(clock, observe)

    def run(self, calls: Sequence[Call]) -> list[Recommendation]:
        """One answer per call, in order. All calls are of one engine."""
        for call in calls:
            read_user(call)
        if personal := self._that_fit("retrieval", [call for call in calls if len(call.history)]):
            started = self._clock()
            retrieve(personal, self._settings.candidates)
            self.times.since(started, "retrieval")
        if ranked := self._that_fit("ranking", [call for call in calls if _to_rank(call)]):
            started = self._clock()
            rank(ranked)
            self.times.since(started, "ranking")
        started = self._clock()
        answers = [self._finish(call) for call in calls]
        self.times.since(started, "answer")
        return answers

    def _that_fit(self, stage: Degraded, calls: Sequence[Call]) -> list[Call]:
        """The calls with time left for this stage; of the others, `degraded` says that it was left out."""
        end_s = self._clock() + self.times.p95(stage)
        for call in calls:
            if call.deadline_s < end_s:
                call.degraded.append(stage)
        return [call for call in calls if call.deadline_s >= end_s]

    def _finish(self, call: Call) -> Recommendation:
        if call.candidates is None:
            call.candidates = popular_candidates(call)
            call.scores = call.candidates.scores
        found = answer(call, self._settings.reason_threshold)
        found["took_ms"] = round((self._clock() - call.started_s) * 1000, 3)
        return found


def _to_rank(call: Call) -> bool:
    """A bundle without a ranker serves the retrieval order, and that is no degradation."""
    return call.served_by == "retrieval" and call.engine.ranking is not None
