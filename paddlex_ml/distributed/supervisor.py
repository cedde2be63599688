# SPDX-License-Identifier: Apache-2.0
"""Watches the worker processes of this machine until all have ended; returns or raises the outcome.

It raises one error: that of the process that failed first, not those of its peers, which only lost
the connection to it. A process that dies, or that its peers wait for too long, ends the training
within a minute.
"""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from paddlex_ml import ended_process, machine_memory, stop_signals
from paddlex_ml.distributed.group import PeerLost, Phase, SharedState
from paddlex_ml.errors import PaddlexMLError, Stopped

logger = logging.getLogger(__name__)

COLLECTIVE_LIMIT = 45.0
"""Seconds that a process may wait in a collective; on a CPU Paddle's network gives up after 30."""
MAIN_WORK_LIMIT = 600.0
"""Seconds that it may wait for work of the main process, such as a large checkpoint."""
SAVE_LIMIT = 20.0
"""Seconds that the others have to save the state after a process has failed."""
HURRY_LIMIT = 2.0
"""Seconds after which a stop is repeated."""
CAUSE_LIMIT = 3.0
"""Seconds for the error to arrive that caused a lost connection."""
EXIT_LIMIT = 10.0
"""Seconds that processes have to end by themselves once all have reported: one that is killed in
its last steps leaves semaphores, of which multiprocessing's tracker then warns."""

_WHERE = "training in several processes"
_RESUME = "-o Train.resume_path=auto goes on from the last checkpoint"


class Outcome(NamedTuple):
    """How a process ended: what it returned, or what it raised."""

    result: Any = None
    error: BaseException | None = None
    died: bool = False
    """Whether the process ended without a report."""


@dataclass
class WorkerProcess:
    """The record of one process of this machine."""

    rank: int
    device: str
    process: Any
    reports: Connection
    outcome: Outcome | None = None
    ended: float = 0.0
    seen: tuple[int, int] = (-1, -1)
    """Phase and number of collectives."""
    since: float = 0.0
    """When both were first seen."""

    @property
    def failed(self) -> bool:
        """Whether its own error, not that of a peer, has ended it."""
        error = self.outcome.error if self.outcome else None
        return error is not None and not isinstance(error, PeerLost | Stopped)


def supervise(workers: Sequence[WorkerProcess], shared: SharedState, others: Sequence[str]) -> Any:
    """Wait for all `workers`; returns the result of rank 0, or None where it is elsewhere.

    `others` are the addresses of the other machines. Raises what ended the training.
    """
    ends_before = machine_memory.count_ends()
    with _signals_passed_on(shared) as hurry:
        try:
            while running := [w for w in workers if w.outcome is None]:
                _receive_outcomes(running, ends_before)
                hurry(running)
                if _must_end(workers, shared):
                    _end(workers)
            latest = time.monotonic() + EXIT_LIMIT
            for worker in workers:
                worker.process.join(max(0.0, latest - time.monotonic()))
        finally:
            for worker in workers:
                worker.process.kill()  # no process may outlive the command
                worker.process.join()
    return _conclude(workers, shared, others)


@contextmanager
def _signals_passed_on(shared: SharedState) -> Iterator[Callable[[Sequence[WorkerProcess]], None]]:
    """Pass signals on to the workers through the memory that they share.

    Yields a function that sends SIGTERM to those that have not seen it after some seconds: one that
    waits for data stops waiting.
    """
    noted = math.inf

    def hurry(running: Sequence[WorkerProcess]) -> None:
        nonlocal noted
        if time.monotonic() > noted + HURRY_LIMIT:
            noted = math.inf
            for worker in running:
                worker.process.terminate()

    def note(number: int, _: object) -> None:
        if shared.stop[0] and number == signal.SIGINT:
            raise KeyboardInterrupt
        nonlocal noted
        shared.stop[0], noted = number, time.monotonic()
        name = signal.Signals(number).name
        stop_signals.log_received(logger, "%s: saving the state after this step", name)

    with stop_signals.received_by(note):
        yield hurry


def _receive_outcomes(running: Sequence[WorkerProcess], ends_before: int) -> None:
    """Receive what ended workers report, for half a second at most; a death counts as a report."""
    sources = [w.reports for w in running] + [w.process.sentinel for w in running]
    ready = connection.wait(sources, timeout=0.5)
    for worker in running:
        if worker.reports not in ready and worker.process.sentinel not in ready:
            continue
        try:
            worker.outcome = worker.reports.recv()
        except (EOFError, OSError):  # it died without a report
            worker.process.join()
            end = ended_process.explain(worker.process.exitcode, ends_before)
            fix = "use a smaller -o Train.batch_size or -o Train.num_workers"
            if not end.is_for_memory:
                fix = f"look for a damaged image or library; if memory is short here, {fix}"
            error = PaddlexMLError(
                f"process {worker.rank} ({worker.device}) {end.how}",
                where=f"{_WHERE}; {machine_memory.describe()}",
                fix=f"{fix}; {_RESUME}",
            )
            worker.outcome = Outcome(error=error, died=True)
        worker.ended = time.monotonic()


def _must_end(workers: Sequence[WorkerProcess], shared: SharedState) -> bool:
    """Whether the running workers have had time to save after a failure, or wait too long."""
    now = time.monotonic()
    limits = {Phase.COLLECTIVE: COLLECTIVE_LIMIT, Phase.WAITING_FOR_MAIN: MAIN_WORK_LIMIT}
    must_end = False
    for k, worker in enumerate(workers):
        if worker.outcome is not None:
            lost = isinstance(worker.outcome.error, PeerLost)
            must_end |= worker.failed and now > worker.ended + SAVE_LIMIT
            must_end |= lost and now > worker.ended + CAUSE_LIMIT
            continue
        seen = (shared.phases[k], shared.collectives[k])
        if seen != worker.seen:
            worker.seen, worker.since = seen, now
        limit = limits.get(Phase(seen[0]))
        must_end |= limit is not None and now > worker.since + limit
    return must_end


def _end(workers: Sequence[WorkerProcess]) -> None:
    """Kill the workers that still run, and find the hung one that the others wait for, if any."""
    running = [w for w in workers if w.outcome is None]
    hung = [w for w in running if w.seen[0] == Phase.WORKING]
    if not hung and any(w.outcome and isinstance(w.outcome.error, PeerLost) for w in workers):
        # A peer that lost the connection has reported it. Any other silent peer is hung.
        hung = running
    if any(w.failed for w in workers):
        hung = []
    for worker in running:
        worker.process.kill()
        error: Exception = PeerLost("ended")
        if worker in hung:
            error = PaddlexMLError(
                f"process {worker.rank} ({worker.device}) hangs: the others waited for it too long",
                where=_WHERE,
                fix="look for a disk or network folder that no longer responds, a debugger, or a "
                f"stopped process; {_RESUME}",
            )
        worker.outcome = Outcome(error=error)
        worker.ended = time.monotonic()


def _conclude(workers: Sequence[WorkerProcess], shared: SharedState, others: Sequence[str]) -> Any:
    """Return or raise the outcome of the training."""
    outcomes = [w.outcome for w in sorted(workers, key=lambda w: w.ended) if w.outcome]
    errors = [o for o in outcomes if o.error is not None]
    own = [o for o in errors if not isinstance(o.error, PeerLost | Stopped)]
    stopped = [o for o in errors if isinstance(o.error, Stopped)]
    if stopped or (errors and shared.stop[0]):
        own = [o for o in own if not o.died]  # a SIGTERM to all processes may kill some of them
        if not own:
            number = shared.stop[0] or signal.SIGTERM
            raise stopped[0].error if stopped and stopped[0].error else Stopped(number)
    if own and own[0].error is not None:
        raise own[0].error
    if errors:
        raise PaddlexMLError(
            f"lost the connection to the processes of another machine ({errors[0].error})",
            where=", ".join(others) or "the network of this machine",
            fix=f"look for the first error there; {_RESUME}",
        )
    first = min(workers, key=lambda w: w.rank).outcome
    return first.result if first else None
