# SPDX-License-Identifier: Apache-2.0
"""Validation within a training on the CPU: the exported graph of the model, computed by oneDNN.

It is the engine of prediction, three times as fast as the model itself. Every evaluation writes the
weights of that moment into a folder within the output, from which Paddle Inference reads them; then
the folder is removed, and what a kill left there by the next training. The model scores the first
image of every evaluation too: where the engine fails, or gives other scores, the model scores all
images itself.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import paddle

from paddlex_ml import paddle_runtime
from paddlex_ml.artifacts.run_folder import ExportedFiles
from paddlex_ml.config.schema import Config
from paddlex_ml.evaluation import Network, Scoring, scoring
from paddlex_ml.export import static
from paddlex_ml.inference import paddle_engine
from paddlex_ml.storage import folders, temporary

logger = logging.getLogger(__name__)

TOLERANCE = 5e-6
"""Largest difference of a score from that of the model: some times what rounding makes of it
(docs/benchmarks.md)."""
LEAST_PIXELS = 100 * 448 * 448
"""Of all images of a process: for fewer, writing and reading the weights takes longer."""
BATCH = 8
"""Images that oneDNN is given at once: with more of them it was slower (docs/benchmarks.md)."""


def choose(config: Config, images: int, rank: int) -> Scoring:
    """How the process `rank` scores its share of the validation images, `images` of them."""
    size, output = config.Train.image_size, config.Global.output
    if rank == 0:
        for left in output.glob(".validation.*"):
            folders.discard(left)
    if images * size**2 < LEAST_PIXELS or paddle.device.get_device() != "cpu":
        return scoring
    # Other machines may not see the output folder.
    folder = output if output.is_dir() else temporary.own_folder()
    return StaticScoring(size, folder / f".validation.{rank}")


def choose_for_teacher(size: int, images: int) -> Scoring:
    """How a teacher scores `images` images of `size` pixels in a training."""
    if images * size**2 < LEAST_PIXELS or paddle.device.get_device() != "cpu":
        return scoring
    return StaticScoring(size, temporary.own_folder() / f"teacher.{os.getpid()}")


class StaticScoring:
    """Called with a model in evaluation mode, gives the network that scores with its weights."""

    def __init__(self, image_size: int, folder: Path) -> None:
        self._size, self._folder, self._is_usable = image_size, folder, True
        folders.discard(folder)
        # A graph for each model, made once: Paddle keeps every graph that was made.
        self._graphs: dict[int, paddle.nn.Layer] = {}

    def __call__(self, model: paddle.nn.Layer) -> Network:
        """The scores of `model` by oneDNN, or by the model itself where that cannot be."""
        plain = scoring(model)
        if not self._is_usable:
            return plain
        try:
            engine = self._load(model)
        except Exception as error:  # Paddle's errors have no other class in common
            return self._give_up(f"cannot be used: {error}", plain)
        is_compared = False

        def score(images: paddle.Tensor) -> paddle.Tensor:
            nonlocal is_compared
            if not self._is_usable:
                return plain(images)
            parts = np.array_split(images.numpy(), range(BATCH, len(images), BATCH))
            scores = np.concatenate([engine(part) for part in parts])
            # Every run of the engine changes it for all, and the last digits of the training.
            paddle_runtime.use_own_threads()
            if not is_compared:
                is_compared = True
                difference = float(np.abs(scores[:1] - plain(images[:1]).numpy()).max())
                if not difference <= TOLERANCE:  # NaN is above it too
                    return self._give_up(f"differs by {difference:.1e}", plain)(images)
            if ((scores == 0) | (scores == 1)).any():
                return plain(images)  # which tells very large logits from infinite ones
            return paddle.to_tensor(scores)

        return score

    def _load(self, model: paddle.nn.Layer) -> paddle_engine.Network:
        graph = self._graphs.get(id(model))
        if graph is None:
            graph = self._graphs[id(model)] = static.make_graph(model, self._size)
        probe = np.zeros((1, 3, self._size, self._size), np.float32)
        files = ExportedFiles(self._folder)
        try:
            files.folder.mkdir()
            static.save_graph(graph, files.folder)
            return paddle_engine.load_one_dnn(
                files.graph, files.parameters, threads=paddle_runtime.own_threads(), probe=probe
            )
        finally:
            folders.discard(files.folder)

    def _give_up(self, reason: str, plain: Network) -> Network:
        self._is_usable = False
        logger.info(
            "validation computes without oneDNN, which is slower: it %s",
            " ".join(reason.split())[:300],
        )
        return plain
