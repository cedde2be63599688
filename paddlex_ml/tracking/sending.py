# SPDX-License-Identifier: Apache-2.0
"""Sends what a training measures to its trackers, in threads: no step waits for a tracker.

A training puts numbers into a queue for each tracker. A tracker that does not answer is told once
in the log and tried again; what did not arrive until the end is counted.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Condition, Event, Thread

from paddlex_ml.tracking import tracker
from paddlex_ml.tracking.tracker import Outcome, Point, TrackedRun, Tracker, Upload, describe
from paddlex_ml.wording import count

MOST_WAITING = 10_000
"""Entries of the queue of one tracker. With a line every 20 steps, that is 200,000 steps."""
MOST_POINTS = 100
"""Points that are sent together."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds between two attempts at a tracker that does not answer: doubled each time."""
PATIENCE, SHORT_PATIENCE = 20.0, 3.0
"""Seconds without progress after which the end of a training waits no more for a tracker: after the
last epoch, and after a signal or an error."""
SLOWEST = 0.5e6
"""Bytes per second: an upload has the time that this takes, too."""

logger = logging.getLogger(__name__)


class Sender:
    """The queue of one tracker, and the thread that empties it."""

    def __init__(self, name: str, begin: Callable[[], Tracker], history: Sequence[Point]) -> None:
        """history: the finished epochs, of which the tracker gets those that it does not have."""
        self.name = name
        self._begin, self._history = begin, history
        self._tracker: Tracker | None = None
        self._changed = Condition()  # for all that follows
        self._waiting: deque[Point | Upload] = deque()
        self._in_hand: Sequence[Point | Upload] = ()
        self._dropped = 0  # numbers that found the queue full
        self._outcome: Outcome | None = None  # set: the training is over
        self._advanced = time.monotonic()  # when something was delivered
        self._is_told = self._is_closed = False
        self._given_up = Event()
        self._thread = Thread(target=self._run, name=f"tracker {name}", daemon=True)
        self._thread.start()

    def put(self, item: Point | Upload) -> None:
        """Queue numbers or files; never waits for the tracker."""
        with self._changed:
            if isinstance(item, Point) and len(self._waiting) >= MOST_WAITING:
                self._dropped += len(item.numbers)
                return
            self._waiting.append(item)
            self._changed.notify_all()

    def end(self, outcome: Outcome) -> None:
        """Let the thread end when its queue is empty."""
        with self._changed:
            self._outcome = outcome
            self._advanced = time.monotonic()
            self._changed.notify_all()

    def wait(self, hurry: Callable[[], bool]) -> None:
        """Wait for the end of the queue while it advances, and log what did not arrive."""
        is_long = False
        while self._thread.is_alive():
            self._thread.join(0.1)
            stood = time.monotonic() - self._advanced
            if stood > self._patience(hurry):
                break
            if stood > SHORT_PATIENCE and not is_long:
                is_long = True
                logger.info("waiting for %s", self.name)
        self._given_up.set()
        with self._changed:
            left = [*self._in_hand, *self._waiting]
            numbers = self._dropped + sum(len(i.numbers) for i in left if isinstance(i, Point))
            files = sum(len(item.files) for item in left if isinstance(item, Upload))
        if numbers or files:
            logger.warning(
                "%s: %s and %s did not arrive. They are in the output folder, those within epochs "
                "in its log alone; -o Train.resume_path=auto sends the epochs and files again",
                *(self.name, count(numbers, "number"), count(files, "file")),
            )
        elif not self._is_closed:
            logger.warning("%s: the end of the training did not arrive", self.name)

    def _patience(self, hurry: Callable[[], bool]) -> float:
        if hurry() or self._outcome != "finished":
            return SHORT_PATIENCE
        sizes = [
            path.stat().st_size
            for item in self._in_hand
            if isinstance(item, Upload)
            for path in item.files.values()
            if path.exists()
        ]
        return PATIENCE + sum(sizes) / SLOWEST

    def _run(self) -> None:
        pause, most = FIRST_PAUSE, MOST_POINTS
        while self._take(most):
            try:
                self._send()
                pause, most = FIRST_PAUSE, MOST_POINTS
            except Exception as error:  # a tracker may raise anything: none may end a training
                self._tell(error)
                with self._changed:
                    # To the end of the queue, and alone from now on: numbers that a service refuses
                    # hold up no others.
                    self._waiting.extend(self._in_hand)
                    self._in_hand = ()
                    self._changed.wait_for(lambda: self._outcome is not None, pause)
                if self._outcome is not None and self._given_up.wait(FIRST_PAUSE):
                    return
                pause, most = min(2 * pause, LONGEST_PAUSE), 1
        while self._tracker is not None and self._outcome is not None:
            try:
                self._tracker.close(self._outcome)
                self._is_closed = True
                return
            except Exception as error:
                self._tell(error)
                if self._given_up.wait(FIRST_PAUSE):
                    return

    def _take(self, most: int) -> bool:
        """Take up to `most` entries into hand, or one upload; False: all is sent, or given up."""
        with self._changed:
            # Also with nothing to send: the training shows at the tracker when it begins.
            self._changed.wait_for(lambda: self._waiting or self._outcome or not self._tracker)
            if self._given_up.is_set() or (not self._waiting and self._tracker):
                return False
            taken: list[Point | Upload] = []
            while self._waiting and len(taken) < most:
                if isinstance(self._waiting[0], Upload) and taken:
                    break
                taken.append(self._waiting.popleft())
                if isinstance(taken[-1], Upload):
                    break
            self._in_hand = taken
            return True

    def _send(self) -> None:
        if self._tracker is None:
            begun = self._begin()
            missing = [point for point in self._history if point.step not in begun.known_steps]
            if missing:
                begun.log(missing)
            self._tracker = begun
        points = [item for item in self._in_hand if isinstance(item, Point)]
        if points:
            self._tracker.log(points)
        for item in self._in_hand:
            if isinstance(item, Upload):
                self._tracker.upload(item)
        with self._changed:
            self._in_hand, self._advanced = (), time.monotonic()

    def _tell(self, error: Exception) -> None:
        if not self._is_told:
            self._is_told = True
            text = "%s does not take the numbers of this training: %s. They wait in a queue"
            logger.warning(text, self.name, describe(error))


class Observer:
    """Gets what a training measures, and gives it to every tracker."""

    def __init__(self, senders: Sequence[Sender]) -> None:
        self._senders = senders

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Numbers that were measured after `step` updates, by name."""
        point = Point(step, dict(numbers), time.time())
        for sender in self._senders:
            sender.put(point)

    def upload(self, name: str, files: Mapping[str, Path]) -> None:
        """Files that belong together, by their path within the upload; those that exist."""
        found = Upload(name, {key: path for key, path in files.items() if path.is_file()})
        for sender in self._senders if found.files else ():
            sender.put(found)


@contextmanager
def observing(
    names: Sequence[str],
    run: TrackedRun,
    *,
    history: Sequence[Point] = (),
    hurry: Callable[[], bool] = lambda: False,
) -> Iterator[Observer]:
    """Track one training at these trackers. Raises PaddlexMLError where a package is broken.

    history: the epochs that it finished before. hurry: whether a signal wants it to end soon.
    """
    begins = {name: tracker.load(name) for name in names}
    senders = [Sender(name, partial(begin, run), history) for name, begin in begins.items()]
    outcome: Outcome = run.ended or "failed"
    try:
        yield Observer(senders)
        outcome = run.ended or ("stopped" if hurry() else "finished")
    finally:
        for sender in senders:
            sender.end(outcome)
        for sender in senders:
            sender.wait(hurry)
