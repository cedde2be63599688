# SPDX-License-Identifier: Apache-2.0
"""Dense 3 x 3 convolutions, forward and backward: Paddle's, our direct ones and Winograd's.

    OMP_NUM_THREADS=1 python benchmarks/dense_layers.py
    OMP_NUM_THREADS=1 python benchmarks/dense_layers.py --model PP-HGNetV2-B6_ML --batch 1

Milliseconds of processor time (medians of rounds in which the ways take turns), the ratio of
Paddle's to Winograd's, and the largest difference to Paddle's results, as a share of their largest
value. The sizes are those of layers of PP-HGNetV2 and ResNet-50 at 448 px. With --model: training
steps of the whole model with and without Winograd's algorithm, in turns.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from paddlex_ml import paddle_runtime  # noqa: E402

paddle_runtime.prepare()
import paddle  # noqa: E402
from paddle import nn  # noqa: E402

from benchmarks.train_speed import build_step  # noqa: E402
from paddlex_ml.kernels import layers, winograd_layers  # noqa: E402
from paddlex_ml.models import zoo  # noqa: E402

SHAPES = (
    *((2, 32, 32, 112), (2, 48, 48, 112), (2, 64, 64, 112), (2, 64, 64, 56)),
    *((2, 128, 128, 56), (2, 256, 256, 28), (8, 256, 256, 28), (8, 128, 128, 28)),
    *((1, 96, 96, 112), (1, 192, 96, 112), (1, 192, 192, 56), (1, 512, 192, 56)),
)
"""Images, channels of the input and of the output, height and width of the map."""
WAYS = ("Paddle's", "ours, direct", "Winograd")
Results: TypeAlias = list[paddle.Tensor]


def main() -> int:
    """Measure all shapes and print a table."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--model", choices=zoo.MODEL_SPECS, help="whole steps of it, instead")
    parser.add_argument("--batch", type=int, default=2, help="images of such a step, 448 px")
    options = parser.parse_args()
    if options.model:
        _compare_steps(options.model, options.batch, options.rounds)
        return 0
    titles = ["images x input -> output, map", *WAYS, "ratio", "difference"]
    print(f"| {' | '.join(titles)} |\n|---|{'---:|' * (len(titles) - 1)}")
    for batch, inputs, outputs, size in SHAPES:
        layer = nn.Conv2D(inputs, outputs, 3, padding=1, bias_attr=False)
        maps = paddle.randn([batch, inputs, size, size])
        maps.stop_gradient = False
        weights = paddle.randn([batch, outputs, size, size])
        ways = _ways(layer, maps, weights)
        expected, *_, found = (way() for way in ways.values())
        difference = max(_differ(a, b) for a, b in zip(found, expected, strict=True))
        rounds = [{name: _time(way) for name, way in ways.items()} for _ in range(options.rounds)]
        medians = {name: statistics.median(r[name] for r in rounds) for name in ways}
        ratio = statistics.median(r["Paddle's"] / r["Winograd"] for r in rounds)
        cells = " | ".join(f"{1000 * seconds:.1f}" for seconds in medians.values())
        shape = f"{batch} x {inputs} -> {outputs}, {size} x {size}"
        print(f"| {shape} | {cells} | {ratio:.2f} | {difference:.1e} |", flush=True)
    return 0


def _compare_steps(model: str, batch: int, rounds: int) -> None:
    """Print the processor time of a step with Winograd's algorithm, and without."""
    step, usual = build_step(model, batch, 448, 80), winograd_layers.LEAST_CHANNELS
    seconds: dict[tuple[int, str], float] = {}
    settings = {"Winograd": usual, "without": 2**31}
    with step.meter.bar:
        for number in range(rounds + 1):  # the first finds memory
            for name in settings if number % 2 else reversed(settings):
                winograd_layers.LEAST_CHANNELS = settings[name]
                seconds[number, name] = _time(step.run)
    winograd_layers.LEAST_CHANNELS = usual
    every = [[seconds[k, name] for name in settings] for k in range(1, rounds + 1)]
    fast, slow = map(statistics.median, zip(*every, strict=True))
    ratio = statistics.median(b / a for a, b in every)
    print(f"{model}, batch {batch}: {fast:.2f} s, without {slow:.2f} s, ratio {ratio:.2f}")


def _ways(
    layer: nn.Conv2D, maps: paddle.Tensor, weights: paddle.Tensor
) -> dict[str, Callable[[], Results]]:
    """Output and gradients by each way; the direct one is Paddle's above 64 channels."""

    def run(convolve: Callable[[paddle.Tensor], paddle.Tensor]) -> Results:
        out = convolve(maps)
        return [out, *paddle.grad(out, [maps, layer.weight], weights)]

    direct, winograd = (
        lambda: run(lambda x: layers.convolve(layer, x)),
        lambda: run(lambda x: winograd_layers._Winograd.apply(x, layer.weight)),  # type: ignore[no-untyped-call]
    )
    return dict(zip(WAYS, (lambda: run(layer), direct, winograd), strict=True))


def _differ(found: paddle.Tensor, expected: paddle.Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def _time(way: Callable[[], object]) -> float:
    begin = time.process_time()
    way()
    return time.process_time() - begin


if __name__ == "__main__":
    layers.kernels("dense")
    layers.kernels("winograd")
    sys.exit(main())
