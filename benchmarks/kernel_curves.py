# SPDX-License-Identifier: Apache-2.0
"""Loss curves of a training with our kernels and with Paddle's: do they differ as two seeds do?

    python benchmarks/kernel_curves.py [--models PP-LCNet_x1_0_ML ...] [--steps 200]

Trains each model from random weights on drawn images, whose classes are the colours of squares in
them, by the very steps of mode train: with both kernels, and with several seeds (initial weights,
order of the images, dropout). The kernels round differently, and training enlarges a difference of
rounding, so single losses differ; what they must not differ in is the curve. The table shows the
mean loss in each quarter of the steps, and the root mean square difference of two curves, smoothed
over 10 steps: of the two kernels with the same seed, and of two seeds with the same kernels.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlex_ml import paddle_runtime

paddle_runtime.prepare()

import paddle  # noqa: E402

from benchmarks.train_speed import build_step  # noqa: E402
from paddlex_ml.kernels import layers  # noqa: E402
from paddlex_ml.training.loop import train_step  # noqa: E402
from paddlex_ml.training.schedule import build_schedule  # noqa: E402

CLASSES, IMAGES, SIDE = 8, 256, 12
SMOOTH = 10
KERNELS = {"ours": layers.kernels, "Paddle's": lambda _: None}


def main() -> int:
    """Train all, and print a table of each model."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["PP-LCNet_x1_0_ML", "PP-HGNetV2-B0_ML"])
    for name, default in (("steps", 200), ("seeds", 3), ("size", 96), ("batch", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    images, targets = draw(options.size)
    for model in options.models:
        curves: dict[tuple[str, int], np.ndarray] = {}
        for seed, kernels in itertools.product(range(options.seeds), KERNELS):
            with mock.patch.object(layers, "kernels", KERNELS[kernels]):
                curves[kernels, seed] = train(model, seed, options, images, targets)
            print(f"{model}, seed {seed}, {kernels} kernels: done", file=sys.stderr)
        show(model, curves, options.seeds)
    return 0


def draw(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Images [N, 3, S, S] of noise with squares of the colours of their classes [N, C]."""
    random = np.random.default_rng(0)
    targets = (random.random((IMAGES, CLASSES)) < 0.25).astype(np.float32)
    images = random.normal(0, 0.3, (IMAGES, 3, size, size)).astype(np.float32)
    colours = 2.0 * (np.arange(CLASSES)[:, None] >> np.arange(3) & 1) - 1
    for image, row in zip(images, targets, strict=True):
        for k in np.flatnonzero(row):
            y, x = random.integers(0, size - SIDE, 2)
            image[:, y : y + SIDE, x : x + SIDE] = colours[k][:, None, None]
    return images, targets


def train(
    model: str, seed: int, options: argparse.Namespace, images: np.ndarray, targets: np.ndarray
) -> np.ndarray:
    """Loss of every step."""
    step = build_step(model, options.batch, options.size, CLASSES, seed=seed)
    schedule = build_schedule(
        "cosine", 5e-4, epochs=1, steps_per_epoch=options.steps, warmup_epochs=0
    )
    plan = replace(step.plan, schedule=schedule, seed=seed)
    random, losses = np.random.default_rng(seed), []
    for _ in range(options.steps):
        chosen = random.integers(0, IMAGES, options.batch)
        batch = paddle.to_tensor(images[chosen]), paddle.to_tensor(targets[chosen])
        losses.append(train_step(step.training, plan, [batch])[1])
        step.training.progress.step += 1
    return np.array(losses)


def show(model: str, curves: dict[tuple[str, int], np.ndarray], seeds: int) -> None:
    """Print the table of a model."""
    smooth = {
        key: np.convolve(curve, np.full(SMOOTH, 1 / SMOOTH), "valid")
        for key, curve in curves.items()
    }

    def differ(one: tuple[str, int], other: tuple[str, int]) -> float:
        return float(np.sqrt(np.mean((smooth[one] - smooth[other]) ** 2)))

    print(f"\n{model}\n\n| seed, kernels | quarter 1 | 2 | 3 | 4 |\n|---|---:|---:|---:|---:|")
    for (kernels, seed), curve in curves.items():
        means = " | ".join(f"{part.mean():.3f}" for part in np.array_split(curve, 4))
        print(f"| {seed}, {kernels} | {means} |")
    same = [differ(("ours", seed), ("Paddle's", seed)) for seed in range(seeds)]
    pairs = itertools.combinations(range(seeds), 2)
    others = [differ((k, a), (k, b)) for a, b in pairs for k in KERNELS]
    for name, values in (("two kernels, same seed", same), ("two seeds, same kernels", others)):
        median, most = statistics.median(values), max(values)
        print(f"- {name}: difference {median:.3f} (median), {most:.3f} (largest)")


if __name__ == "__main__":
    sys.exit(main())
