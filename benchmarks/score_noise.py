# SPDX-License-Identifier: Apache-2.0
"""Measures how far the scores of the same image differ by rounding alone.

    python benchmarks/score_noise.py --data DIR [--models NAME ...] [--size 96] [--images 32]

DIR of --data holds the data set natural_scenes. Each model scores the same photographs in batches
of 1, 4, 8 and 32, as layers and as the exported static graph; with random weights, after three
steps of training, which leave some models with one score for all images, and after some more. Sums
of float32 in another order have other last digits, so the scores differ, but the images do not.
Prints Markdown; `paddlex_ml/metrics/ties.py` takes its limit from it.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlex_ml import paddle_runtime
from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.data import annotation
from paddlex_ml.data.preprocess import standard
from paddlex_ml.data.transforms import read_image

if TYPE_CHECKING:
    import paddle

ROOT = Path(__file__).resolve().parent.parent
BATCH_SIZES = (1, 4, 8, 32)
RATE = 3e-4
STEPS = {"random": 0, "3 steps": 3, "20 steps": 20}
"""Steps of training before each measurement."""
LARGEST = 3.0
"""Log odds up to which those of float32 scores are compared: beyond, their last digit is coarser
than the noise."""


def main() -> int:
    """Measure every model, and print a line for each of its weights."""
    parser = argparse.ArgumentParser(description="Rounding noise of scores")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--models", nargs="+", help="default: all")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--images", type=int, default=32)
    options = parser.parse_args()
    paddle_runtime.prepare()
    import paddle

    from paddlex_ml.models import zoo

    images, targets = _read(options.data / "natural_scenes", options.images, options.size)
    print(f"{len(images)} photographs, {options.size} px\n")
    print("| model | weights | logits | between images | by batch size | static graph |")
    print("|---|---|---|---|---|---|")
    for name in options.models or zoo.MODEL_SPECS:
        paddle.seed(0)
        model = zoo.build(name, targets.shape[1])
        info = ModelInfo(name, [str(i) for i in range(targets.shape[1])], options.size)
        for weights, steps in STEPS.items():
            _train(model, images, targets, steps)
            print(f"| {name} | {weights} | {_measure(model, info, images)} |", flush=True)
        del model
        gc.collect()
    return 0


def _read(folder: Path, count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Photographs [N, 3, S, S] and their targets [N, C], float32."""
    val = annotation.read(folder, lists=("val",)).val
    prepare = standard(size)
    images = np.stack([prepare(read_image(val.path(i))) for i in range(count)])
    return images.astype(np.float32), val.targets[:count].astype(np.float32)


def _train(model: paddle.nn.Layer, images: np.ndarray, targets: np.ndarray, steps: int) -> None:
    import paddle

    optimizer = paddle.optimizer.AdamW(RATE, parameters=model.parameters())
    for layer in model.sublayers():
        if isinstance(layer, paddle.nn.BatchNorm2D) and steps > 3:
            layer._momentum = 0.5  # few steps: its statistics must keep up
    model.train()
    for step in range(steps):
        chosen = np.arange(8) + 8 * step
        logits = model(paddle.to_tensor(images[chosen % len(images)]))
        truth = paddle.to_tensor(targets[chosen % len(images)])
        paddle.nn.functional.binary_cross_entropy_with_logits(logits, truth).backward()
        optimizer.step()
        optimizer.clear_grad()


def _measure(model: paddle.nn.Layer, info: ModelInfo, images: np.ndarray) -> str:
    """Cells: range of the logits, their spread over the images, and the noise of log odds."""
    import paddle

    from paddlex_ml.export.static import save_static
    from paddlex_ml.inference.static_model import StaticModel

    model.eval()

    def run_layers(batch: np.ndarray) -> np.ndarray:
        with paddle.no_grad():
            return np.asarray(model(paddle.to_tensor(batch)).numpy())

    logits = {size: _in_batches(run_layers, images, size) for size in BATCH_SIZES}
    first = logits[BATCH_SIZES[0]].astype(np.float64)
    noise = max(_difference(first, each) for each in logits.values())
    with tempfile.TemporaryDirectory() as folder:
        save_static(model, info, Path(folder) / "inference")
        static = StaticModel(Path(folder) / "inference", "cpu", None)
        scores = [_in_batches(static.run, images, size) for size in BATCH_SIZES]
    near = np.abs(first) < LARGEST
    graph = max(_difference(first[near], _log_odds(each[near])) for each in scores)
    spread = float(np.ptp(first, axis=0).max())
    return f"{first.min():.2f} to {first.max():.2f} | {spread:.1e} | {noise:.1e} | {graph:.1e}"


def _in_batches(
    run: Callable[[np.ndarray], np.ndarray], images: np.ndarray, size: int
) -> np.ndarray:
    starts = range(0, len(images), size)
    return np.concatenate([run(images[start : start + size]) for start in starts])


def _difference(first: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(first - other).max())


def _log_odds(scores: np.ndarray) -> np.ndarray:
    exact = scores.astype(np.float64)
    odds: np.ndarray = np.log(exact / (1 - exact))
    return odds


if __name__ == "__main__":
    sys.exit(main())
