# SPDX-License-Identifier: Apache-2.0
"""Measures several exports in turns, each in processes of its own.

A noisy machine then disturbs all alike, and ratios repeat where times do not:

    starts     each is started some times; the first start only fills caches, the last one stays
    images     each answers some images, one by one, then the next one does, until all are answered
    batches    each answers batches of a size for a moment, then the next one does
"""

from __future__ import annotations

import itertools
import logging
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from paddlex_ml import machine_memory
from paddlex_ml.artifacts.benchmark_result import BatchSpeed, Unmeasured
from paddlex_ml.engines.benchmark.candidates import Candidate
from paddlex_ml.engines.benchmark.measured_process import (
    BatchRequest,
    MeasuredProcess,
    Started,
    Task,
)
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.progress import named
from paddlex_ml.wording import count

STARTS = 3
"""Of each export, the first of which is not counted."""
TURNS = 12
"""In which the images are answered."""
ROUNDS = 3
"""In which each batch size is measured at least."""
MORE_ROUNDS = 6
"""That follow where Benchmark.minutes leaves time: all batch sizes in turns."""
PASSES_SECONDS = 0.3
"""That a batch size is measured in a round, at least."""
PAUSE = 0.25
"""Seconds before a turn: threads of OpenMP keep their cores busy for 0.2 s after their work."""
LEAST = 32
"""Images that are answered however short the time is."""
_LIFE = 5.0  # seconds without a line
_SMALLER = ": they would take longer than Benchmark.minutes"
_FEWER = ": more would take longer than Benchmark.minutes"
_MEMORY = 2.0  # what a process may take with larger batches, in multiples of what it took first
_SHARE = 0.8  # of the free memory that all processes together may take

logger = logging.getLogger(__name__)


class Wanted(NamedTuple):
    """What is to be measured, and how long it may take."""

    device: str
    threads: int | None
    image: Path
    """The first one that each process answers."""
    batch_sizes: tuple[int, ...]
    """From 2 on."""
    ends: float
    """Of `time.monotonic`, when it should be over."""


@dataclass
class MeasuredExport:
    """What is known of a candidate."""

    candidate: Candidate
    loads: list[float] = field(default_factory=list)
    first_answers: list[float] = field(default_factory=list)
    loaded: Started | None = None
    """Of the last start."""
    scores: list[np.ndarray] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    """For single images."""
    passes: dict[int, list[float]] = field(default_factory=dict)
    """Batch size -> seconds of a batch."""
    peaks: dict[int, int | None] = field(default_factory=dict)

    @property
    def speeds(self) -> list[BatchSpeed]:
        """Of single images, and of larger batches."""
        assert self.loaded is not None
        times = {1: self.seconds, **self.passes}
        peaks = {1: self.loaded.peak_bytes, **self.peaks}
        return [
            BatchSpeed(
                batch_size=size,
                images_per_second=size / statistics.median(seconds),
                peak_bytes=peaks[size],
            )
            for size, seconds in times.items()
        ]


class Turns:
    """Measures candidates; those that fail leave, and are in `unmeasured` then."""

    def __init__(self, candidates: Sequence[Candidate], wanted: Wanted, pixels: np.ndarray) -> None:
        """pixels: images in random order, uint8 [N, H, W, 3]."""
        self.measured = [MeasuredExport(candidate) for candidate in candidates]
        self.unmeasured: list[Unmeasured] = []
        self.notes: list[str] = []
        self.images = len(pixels)
        """That each of them answers, from the first one on: fewer where the time is short."""
        self._wanted, self._sizes, self._pixels = wanted, wanted.batch_sizes, pixels
        self._told = 0.0
        self._reserve = 0.0  # seconds that the batches will take

    def start_all(self) -> None:
        """Start each of them but for the last time, and plan what the time allows.

        Raises PaddlexMLError where none can be run.
        """
        spent = 0.0
        for number in range(1, STARTS):
            begin = time.monotonic()
            for each in [*self.measured]:
                with self._leaving(each), self._start(each, number) as process:
                    each.seconds = process.answer(self._pixels[:4]).seconds
            spent = time.monotonic() - begin
        if not self.measured:
            reasons = "; ".join(f"{each.name}: {each.reason}" for each in self.unmeasured)
            raise PaddlexMLError(
                f"no export can be run on this machine: {reasons}",
                where=f"device {self._wanted.device}",
                fix=next((each.fix for each in self.unmeasured if each.fix), "export it again"),
            )
        self._plan(spent)

    def leave(self, each: MeasuredExport, reason: str, fix: str) -> None:
        """Measure it no longer."""
        logger.warning("%s is not measured: %s", each.candidate.name, reason)
        self.measured.remove(each)
        form, run_mode = each.candidate.format, each.candidate.run_mode
        self.unmeasured.append(Unmeasured(format=form, run_mode=run_mode, reason=reason, fix=fix))

    def run(self) -> None:
        """Measure all of them, in groups that memory holds.

        Raises PaddlexMLError where none is left.
        """
        groups = self._group()
        if len(groups) > 1:
            self.notes.append(
                f"measured in {len(groups)} groups, one after the other, for want of memory: "
                "compare times of different groups with care"
            )
        for group in groups:
            with ExitStack() as stack:
                running = dict[int, MeasuredProcess]()
                for each in group:
                    with self._leaving(each):
                        running[id(each)] = stack.enter_context(self._start(each, STARTS))
                self._answer(group, running)
                self._repeat(group, running)
        if not self.measured:
            last = self.unmeasured[-1]
            raise PaddlexMLError(
                f"no export could be measured to the end; the last one, {last.name}: {last.reason}",
                where=machine_memory.describe(),
                fix=last.fix or "export it again",
            )

    @contextmanager
    def _leaving(self, each: MeasuredExport) -> Iterator[None]:
        """Let a candidate leave where it fails."""
        try:
            yield
        except PaddlexMLError as error:
            self.leave(each, error.what, error.fix)

    def _start(self, each: MeasuredExport, number: int) -> MeasuredProcess:
        """A process that has loaded it. Raises PaddlexMLError where it cannot be run."""
        wanted, candidate = self._wanted, each.candidate
        self._tell(f"start {number} of {STARTS}: {candidate.name}")
        device, threads, image = wanted.device, wanted.threads, wanted.image
        task = Task(candidate.folder, candidate.run_mode, device, threads, image)
        with named(f"loading {candidate.name}"):
            process = MeasuredProcess(task)
        each.loaded = process.loaded
        if each.loaded.run_mode != candidate.run_mode:
            process.close()
            raise PaddlexMLError(
                "; ".join(each.loaded.warnings) or f"it runs as {each.loaded.run_mode}",
                where=candidate.name,
                fix="",
            )
        if number > 1:
            each.loads.append(each.loaded.load_seconds)
            each.first_answers.append(process.first_answer_seconds)
        return process

    def _plan(self, starts: float) -> None:
        """Take fewer images and smaller batches where the time would not do for all.

        starts: seconds that it takes to start all of them once.
        """
        takes = [min(each.seconds) for each in self.measured]
        left = self._wanted.ends - time.monotonic() - starts - TURNS * PAUSE * len(takes)

        def estimate(size: int) -> float:
            """Seconds for all rounds of a batch size; the first batch of a round is not counted."""
            return ROUNDS * sum(
                PAUSE + size * each + max(size * each, PASSES_SECONDS) for each in takes
            )

        sizes, enough = [*self._sizes], min(2 * LEAST, self.images) * sum(takes)
        while sizes and left - sum(map(estimate, sizes)) < enough:
            sizes.pop()
        if len(sizes) < len(self._sizes):
            self._take_smaller(sizes)
        most = int((left - sum(map(estimate, sizes))) / sum(takes))
        if most < self.images:
            self._take_fewer(max(most, min(LEAST, self.images)))
        self._reserve = sum(map(estimate, sizes))

    def _take_smaller(self, sizes: Sequence[int]) -> None:
        self.notes = [note for note in self.notes if not note.endswith(_SMALLER)]
        self.notes.append(
            f"no batches of more than {count(sizes[-1] if sizes else 1, 'image')}{_SMALLER}"
        )
        self._sizes = tuple(sizes)

    def _take_fewer(self, images: int) -> None:
        self.notes = [note for note in self.notes if not note.endswith(_FEWER)]
        self.notes.append(f"{count(images, 'image')} in place of {len(self._pixels)}{_FEWER}")
        self.images = images

    def _group(self) -> list[list[MeasuredExport]]:
        """The candidates, together as far as the free memory holds their processes."""
        free, taken, groups = machine_memory.available() * _SHARE, 0.0, list[list[MeasuredExport]]()
        for each in self.measured:
            assert each.loaded is not None
            each.seconds = []
            takes = (each.loaded.peak_bytes or 0) * _MEMORY
            if not groups or taken + takes > free:
                groups.append([])
                taken = 0.0
            groups[-1].append(each)
            taken += takes
        return groups

    def _answer(self, group: list[MeasuredExport], running: dict[int, MeasuredProcess]) -> None:
        """Let all of a group answer the images one by one, in turns.

        The first group ends early where the machine has become slower than was planned.
        """
        is_first = not any(each.seconds for each in self.measured)
        for part in np.array_split(np.arange(self.images), min(TURNS, self.images)):
            is_late = time.monotonic() > self._wanted.ends - self._reserve
            if is_first and is_late and part[0] >= min(LEAST, self.images):
                self._take_fewer(int(part[0]))
                break
            for each in [each for each in group if each in self.measured]:
                self._tell(f"images {part[0] + 1} to {part[-1] + 1}: {each.candidate.name}")
                time.sleep(PAUSE)
                with self._leaving(each):
                    answers = running[id(each)].answer(self._pixels[part])
                    each.scores.append(answers.scores)
                    # The first one finds caches that other processes have filled.
                    each.seconds += answers.seconds[len(part) > 1 :]

    def _repeat(self, group: list[MeasuredExport], running: dict[int, MeasuredProcess]) -> None:
        """Let all of a group answer batches of each size, in turns.

        Where the machine has become slower than was planned, each size that the first group begins
        has one round at least, and larger ones none.
        """
        is_first, takes = not any(each.passes for each in self.measured), dict[int, float]()
        for size, number in itertools.product(self._sizes, range(ROUNDS)):
            if time.monotonic() > self._wanted.ends and (number or is_first):
                if not number:
                    self._take_smaller([each for each in self._sizes if each < size])
                    break
                continue
            takes[size] = self._time_batches(size, group, running)
        if all(each in group for each in self.measured):  # no other group needs the time
            for size in [*takes] * MORE_ROUNDS:
                if time.monotonic() + takes[size] < self._wanted.ends:
                    takes[size] = self._time_batches(size, group, running)

    def _time_batches(
        self, size: int, group: list[MeasuredExport], running: dict[int, MeasuredProcess]
    ) -> float:
        """One round of batches of a size; returns the seconds that it took."""
        began = time.monotonic()
        batch = BatchRequest(self._pixels[np.arange(size) % self.images], PASSES_SECONDS)
        for each in [each for each in group if each in self.measured]:
            self._tell(f"batches of {size}: {each.candidate.name}")
            time.sleep(PAUSE)
            with self._leaving(each), named(f"batches of {size}: {each.candidate.name}"):
                passes = running[id(each)].repeat(batch)
                each.passes.setdefault(size, []).extend(passes.seconds)
                each.peaks[size] = passes.peak_bytes
        return time.monotonic() - began

    def _tell(self, step: str) -> None:
        """Log what is done now, at times."""
        if time.monotonic() - self._told > _LIFE:
            logger.info("%s", step)
            self._told = time.monotonic()
