# SPDX-License-Identifier: Apache-2.0
"""Watches over the processes of a team to their common end, and tells how it came about.

One error is told: that of the member that failed first, never the complaints of those that lost
contact with it. A member that dies, or that keeps the others waiting, ends the team within a
minute.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from paddlex_ml.distributed.group import PeerLost, Phase, SharedState
from paddlex_ml.errors import PaddlexMLError, Stopped

logger = logging.getLogger(__name__)

COLLECTIVE_LIMIT = 45.0
"""Seconds that members may wait for one that must come soon; on a CPU Paddle's network itself
gives up after 30."""
MAIN_WORK_LIMIT = 600.0
"""Seconds that they may wait for what the leader alone does, such as a large checkpoint."""
SAVE_LIMIT = 20.0
"""Seconds that the others have to save the state when a member has failed."""
CAUSE_LIMIT = 3.0
"""Seconds for the error behind a lost contact to arrive."""


class Outcome(NamedTuple):
    """How a member ended: what it returned, or what it raised."""

    result: Any = None
    error: BaseException | None = None
    died: bool = False
    """Whether the process ended without a word."""


@dataclass
class WorkerProcess:
    """The record of one process of this machine."""

    rank: int
    place: str
    process: Any
    reports: Connection
    outcome: Outcome | None = None
    ended: float = 0.0
    seen: tuple[int, int] = (-1, -1)
    """Phase and number of meetings."""
    since: float = 0.0
    """When both were first seen."""

    @property
    def failed(self) -> bool:
        """Whether its own error, not that of another, has ended it."""
        error = self.outcome.error if self.outcome else None
        return error is not None and not isinstance(error, PeerLost | Stopped)


def supervise(members: Sequence[WorkerProcess], shared: SharedState, others: Sequence[str]) -> Any:
    """Wait for all `members`; returns the leader's result, or None where it is elsewhere.

    `others` are the addresses of the other machines. Raises what ended the team.
    """
    with _Signals(shared):
        try:
            while alive := [m for m in members if m.outcome is None]:
                _listen(alive)
                if _is_over(members) or _wait_in_vain(members, shared):
                    _end(members)
        finally:
            for member in members:
                member.process.kill()  # nothing of a team stays behind
                member.process.join()
    return _conclude(members, shared, others)


class _Signals:
    """Passes SIGINT and SIGTERM on to the members, by the memory that they share."""

    def __init__(self, shared: SharedState) -> None:
        self.shared = shared

    def __enter__(self) -> None:
        self._before = {n: signal.signal(n, self._note) for n in (signal.SIGINT, signal.SIGTERM)}

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: object) -> None:
        if self.shared.stop[0] and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.shared.stop[0] = number
        logger.warning("%s: saving the state after this step", signal.Signals(number).name)


def _listen(alive: Sequence[WorkerProcess]) -> None:
    """Take in what members report, for half a second at most; a death is a report too."""
    waited = [m.reports for m in alive] + [m.process.sentinel for m in alive]
    ready = connection.wait(waited, timeout=0.5)
    for member in alive:
        if member.reports in ready or member.process.sentinel in ready:
            try:
                member.outcome = member.reports.recv()
            except (EOFError, OSError):  # it died without a word
                member.process.join()
                member.outcome = Outcome(error=_death(member), died=True)
            member.ended = time.monotonic()


def _is_over(members: Sequence[WorkerProcess]) -> bool:
    """Whether a failure is so long ago that the others have had their time to save."""
    failed = [m.ended for m in members if m.failed]
    lost = [m.ended for m in members if m.outcome and isinstance(m.outcome.error, PeerLost)]
    now = time.monotonic()
    return any(now > t + SAVE_LIMIT for t in failed) or any(now > t + CAUSE_LIMIT for t in lost)


def _wait_in_vain(members: Sequence[WorkerProcess], shared: SharedState) -> bool:
    """Whether a member has been waiting for others too long."""
    now, waiting = time.monotonic(), False
    for k, member in enumerate(members):
        seen = (shared.phases[k], shared.collectives[k])
        if seen != member.seen:
            member.seen, member.since = seen, now
        limit = {Phase.COLLECTIVE: COLLECTIVE_LIMIT, Phase.WAITING_FOR_MAIN: MAIN_WORK_LIMIT}.get(
            Phase(seen[0])
        )
        waiting |= limit is not None and member.outcome is None and now - member.since > limit
    return waiting


def _end(members: Sequence[WorkerProcess]) -> None:
    """Kill those that still run, and find among them the cause of the others' waiting, if any."""
    alive = [m for m in members if m.outcome is None]
    working = [m for m in alive if m.seen[0] == Phase.WORKING]
    complaints = any(m.outcome and isinstance(m.outcome.error, PeerLost) for m in members)
    # Who has lost contact has said so; who has not does not answer, whatever it was about to do.
    silent = working or (alive if complaints else [])
    if any(m.failed for m in members):
        silent = []
    for member in alive:
        member.process.kill()
        told = member in silent
        member.outcome = Outcome(error=_hang(member) if told else PeerLost("ended"))
        member.ended = time.monotonic()


def _conclude(members: Sequence[WorkerProcess], shared: SharedState, others: Sequence[str]) -> Any:
    """Return or raise what the whole team came to."""
    outcomes = [m.outcome for m in sorted(members, key=lambda m: m.ended) if m.outcome]
    errors = [o for o in outcomes if o.error is not None]
    own = [o for o in errors if not isinstance(o.error, PeerLost | Stopped)]
    asked = shared.stop[0] or signal.SIGTERM
    stopped = [o for o in errors if isinstance(o.error, Stopped)]
    if stopped or (errors and shared.stop[0]):  # who sends SIGTERM to all may kill some of them
        own = [o for o in own if not o.died]
        if not own:
            raise stopped[0].error if stopped and stopped[0].error else Stopped(asked)
    if own and own[0].error is not None:
        raise own[0].error
    if errors:
        raise PaddlexMLError(
            f"lost contact with the processes of another machine ({errors[0].error})",
            where=", ".join(others) or "the network of this machine",
            fix="look for the first error there; -o Train.resume_path=auto goes on from the last "
            "checkpoint",
        )
    first = min(members, key=lambda m: m.rank).outcome
    return first.result if first else None


def _death(member: WorkerProcess) -> PaddlexMLError:
    code = member.process.exitcode
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    return PaddlexMLError(
        f"process {member.rank} ({member.place}) {how}",
        where="training in several processes",
        fix="most often memory ran out: a smaller -o Train.batch_size or -o Train.num_workers; "
        "-o Train.resume_path=auto goes on from the last checkpoint",
    )


def _hang(member: WorkerProcess) -> PaddlexMLError:
    return PaddlexMLError(
        f"process {member.rank} ({member.place}) hangs: the others have waited for it in vain",
        where="training in several processes",
        fix="a disk or network folder that no longer answers, a debugger, or a stopped process; "
        "-o Train.resume_path=auto goes on from the last checkpoint",
    )
