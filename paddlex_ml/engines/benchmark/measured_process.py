# SPDX-License-Identifier: Apache-2.0
"""A process that loads one export in one run mode, and answers images when it is asked.

So each of them has a memory, an import and threads of its own, and only one computes at a time.
"""

from __future__ import annotations

import time
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np

from paddlex_ml.data.transforms import read_image
from paddlex_ml.engines.answering_process import AnsweringProcess, begin_answering, find_peak
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference.static_model import StaticModel


class Task(NamedTuple):
    """What a process loads, and the image that it answers first."""

    folder: Path
    run_mode: str
    device: str
    threads: int | None
    """Of the engine on a CPU; None: all cores."""
    image: Path


class Started(NamedTuple):
    """What a process has loaded; it has answered the image."""

    load_seconds: float
    """Import of the runtime, and the model."""
    run_mode: str
    """That it has: where Paddle refuses the one that was asked for, plain Paddle."""
    warnings: list[str]
    """What the package has logged meanwhile."""
    peak_bytes: int | None
    """Most memory that the process has had; None where the system does not tell."""


class Answers(NamedTuple):
    """Scores of images, answered one after the other."""

    scores: np.ndarray
    """float32 [N, C]."""
    seconds: list[float]
    """Of the network, for each image."""


class BatchTimes(NamedTuple):
    """Times of a batch that was answered again and again."""

    seconds: list[float]
    peak_bytes: int | None
    """Most memory that the process has had so far."""


class BatchRequest(NamedTuple):
    """Images to be answered together, for at least so many seconds: uint8 [B, H, W, 3]."""

    pixels: np.ndarray
    seconds: float


class MeasuredProcess(AnsweringProcess):
    """The parent's side. Close it, or use it in `with`."""

    def __init__(self, task: Task) -> None:
        """Start the process, and wait until it has answered its first image.

        Raises PaddlexMLError where it cannot load or run the model, or is killed.
        """
        begin = time.perf_counter()
        super().__init__(serve, task)
        try:
            self.loaded = self.receive(Started)
        except BaseException:
            self.close()
            raise
        self.first_answer_seconds = time.perf_counter() - begin

    def answer(self, pixels: np.ndarray) -> Answers:
        """Let it answer images one by one: uint8 [N, H, W, 3]. Raises as the start does."""
        self.send(pixels)
        return self.receive(Answers)

    def repeat(self, batch: BatchRequest) -> BatchTimes:
        """Let it answer a batch again and again. Raises as the start does."""
        self.send(batch)
        return self.receive(BatchTimes)


def serve(connection: Connection, task: Task) -> None:
    """Load the model of the task, and answer what is asked until the other end is closed."""
    warnings = begin_answering()
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent has enough
        try:
            begin = time.perf_counter()
            model = StaticModel(task.folder, task.device, task.run_mode, cpu_threads=task.threads)
            seconds = time.perf_counter() - begin
            model.run(model.preprocess(read_image(task.image))[None])
            connection.send(Started(seconds, model.run_mode, warnings, find_peak()))
            while True:
                request = connection.recv()
                reply = _repeat if isinstance(request, BatchRequest) else _answer
                connection.send(reply(model, request))
        except PaddlexMLError as error:
            connection.send(error)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except Exception as error:  # engines raise of all kinds: it is the end of this model alone
            lines = "".join(traceback.format_exception_only(error)).strip().splitlines()
            connection.send(
                PaddlexMLError(
                    f"it fails: {(lines or [type(error).__name__])[0][:200]}",
                    where=str(task.folder),
                    fix="another version of its runtime",
                )
            )


def _answer(model: StaticModel, pixels: np.ndarray) -> Answers:
    scores, seconds = [], []
    for image in pixels:
        batch = model.preprocess.normalise(image[None])
        begin = time.perf_counter()
        scores.append(model.run(batch))
        seconds.append(time.perf_counter() - begin)
    return Answers(np.concatenate(scores), seconds)


def _repeat(model: StaticModel, request: BatchRequest) -> BatchTimes:
    batch, seconds = model.preprocess.normalise(request.pixels), list[float]()
    model.run(batch)  # the first one of a size takes memory, and may choose kernels
    while sum(seconds) < request.seconds:
        begin = time.perf_counter()
        model.run(batch)
        seconds.append(time.perf_counter() - begin)
    return BatchTimes(seconds, find_peak())
