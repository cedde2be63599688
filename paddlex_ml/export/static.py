# SPDX-License-Identifier: Apache-2.0
"""Format `paddle`: the static graph of Paddle 3.

<folder>/inference.json        the graph: "x" [B, 3, S, S] float32 -> scores [B, C], sigmoid inside
<folder>/inference.pdiparams   its weights
<folder>/inference.yml         what the model is
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paddle
from paddle.static import InputSpec

from paddlex_ml import paddle_runtime
from paddlex_ml.artifacts import earlier_export, inference_yml
from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.artifacts.run_folder import ExportedFiles
from paddlex_ml.export import parity
from paddlex_ml.progress import named


class _Scores(paddle.nn.Layer):
    """The model followed by a sigmoid."""

    def __init__(self, model: paddle.nn.Layer) -> None:
        super().__init__()
        self.model = model

    # Runs as it is written: Paddle would rewrite the source of every function that it calls, which
    # takes four times as long, and write it below the home folder. No model has a branch or a loop
    # that depends on the values of images.
    @paddle.jit.not_to_static
    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return paddle.nn.functional.sigmoid(self.model(x))


@named("exporting the model, and comparing its scores")
def save_static(model: paddle.nn.Layer, info: ModelInfo, folder: Path) -> float:
    """Write the static model into `folder`, in place of an earlier one; ends in eval mode.

    Returns the largest difference between the scores of model and graph on random images. Raises
    RuntimeError when it is too large.
    """
    model.eval()
    with earlier_export.replacing(folder) as fresh:
        write_graph(model, info.image_size, fresh)
        # Before the comparison: Paddle raises nothing when the disk is full, this write does.
        inference_yml.write(fresh, info)
        with paddle_runtime.near(fresh) as place:
            graph = paddle.jit.load(str(ExportedFiles(place).prefix))
        return parity.measure(
            model, lambda images: graph(paddle.to_tensor(images)).numpy(), info.image_size
        )


def write_graph(model: paddle.nn.Layer, image_size: int, folder: Path) -> None:
    """Write graph and weights as `<folder>/inference.*`, for batches of any size.

    Raises nothing when the disk is full.
    """
    save_graph(make_graph(model, image_size), folder)


def make_graph(model: paddle.nn.Layer, image_size: int) -> paddle.nn.Layer:
    """A layer that gives the scores of `model`, whose graph is made once, at the first save."""
    spec = InputSpec([None, 3, image_size, image_size], "float32", name="x")
    graph: paddle.nn.Layer = paddle.jit.to_static(
        _Scores(model), input_spec=[spec], full_graph=True
    )
    return graph


def save_graph(graph: paddle.nn.Layer, folder: Path) -> None:
    """Write a graph of `make_graph` with the weights that its model has now, as `write_graph`."""
    with paddle_runtime.near(folder) as place, _short_stacks():
        paddle.jit.save(graph, str(ExportedFiles(place).prefix))


@contextmanager
def _short_stacks() -> Iterator[None]:
    """Let Paddle note one frame for each operator in place of all: half of the time of a graph.

    It asks `traceback.extract_stack`, which obeys this limit, and leaves them out of the files.
    """
    before = getattr(sys, "tracebacklimit", None)
    sys.tracebacklimit = 1
    try:
        yield
    finally:
        if before is None:
            del sys.tracebacklimit
        else:
            sys.tracebacklimit = before
