# SPDX-License-Identifier: Apache-2.0
"""Time of the parts of a training step: Paddle's kernels compared with kernels/layers.py.

    python benchmarks/step_profile.py [--model NAME] [--size 448] [--batch 8] [--rounds 3]

Every convolution and every batch norm with its activation runs alone, forward and backward, on
input of its shape in the model; then the whole step does. Both kernels alternate; medians.
On a machine that others use, --clock cpu counts processor time, which is fair with one thread:
OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 before the command.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from paddlex_ml import paddle_runtime  # noqa: E402

paddle_runtime.prepare()

import paddle  # noqa: E402
from paddle import nn  # noqa: E402

from paddlex_ml.kernels import layers  # noqa: E402
from paddlex_ml.models import zoo  # noqa: E402
from paddlex_ml.models.blocks import ConvNorm  # noqa: E402
from paddlex_ml.training.losses import asymmetric_loss  # noqa: E402
from paddlex_ml.training.optimizer import build_optimizer  # noqa: E402

Clock = Callable[[], float]
Work = Callable[[], float]  # returns its seconds
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
WHOLE_STEP = "whole step"
WARM_UP = 3  # rounds that do not count: code is compiled, the heap grows


def main() -> int:
    """Measure all kinds of layers and the whole step, and print a Markdown table."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", default="PP-LCNet_x1_0_ML")
    for name, default in (("size", 448), ("batch", 8), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    options = parser.parse_args()
    clock = CLOCKS[options.clock]
    paddle.seed(0)
    model = zoo.build(options.model, 80)
    model.train()
    images = paddle.randn([options.batch, 3, options.size, options.size])
    works = _works(model, images, clock)
    works.append((WHOLE_STEP, _step(model, images, clock)))
    rounds: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    for number in range(WARM_UP + options.rounds):
        for fast, measured in rounds.items():
            measured.append(_round(works, fast=fast))
        print(f"round {number + 1} of {WARM_UP + options.rounds} done", file=sys.stderr)
    print(f"{options.model}, {options.size} px, batch {options.batch}, ms in one step\n")
    print("| part | Paddle's kernels | ours | ratio |\n|---|---|---|---|")
    for kind in rounds[True][0]:
        slow, quick = (
            statistics.median(each[kind] for each in rounds[fast][WARM_UP:])
            for fast in (False, True)
        )
        print(f"| {kind} | {1e3 * slow:.0f} | {1e3 * quick:.0f} | {slow / quick:.1f} |")
    return 0


def _works(model: nn.Layer, images: paddle.Tensor, clock: Clock) -> list[tuple[str, Work]]:
    """(kind, forward and backward) of both halves of every ConvNorm; a pass finds their shapes."""
    works: list[tuple[str, Work]] = []

    def note(layer: nn.Layer, inputs: tuple[paddle.Tensor], _: paddle.Tensor) -> None:
        assert isinstance(layer, ConvNorm)
        conv, bn, activation = layer.conv, layer.bn, layer.activation
        middle = conv(inputs[0])
        kernel, grouped = conv._kernel_size[0], conv._groups > 1
        kind = f"depthwise {kernel} x {kernel}" if grouped else f"dense {kernel} x {kernel}"
        kind = "pointwise" if kernel == 1 else kind
        works.append(
            (
                f"{kind} convolution",
                _both(lambda x: layers.convolve(conv, x), inputs[0], clock),
            )
        )
        works.append(
            (
                "batch norm, activation",
                _both(lambda x: layers.norm_activate(bn, activation, x), middle, clock),
            )
        )

    blocks = [layer for layer in model.sublayers() if isinstance(layer, ConvNorm)]
    # Paddle's stub does not know that inputs come as a tuple.
    hooks = [layer.register_forward_post_hook(note) for layer in blocks]  # type: ignore[arg-type]
    with paddle.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    return works


def _both(
    function: Callable[[paddle.Tensor], paddle.Tensor], example: paddle.Tensor, clock: Clock
) -> Work:
    """Forward and backward of a layer; without a gradient with respect to images."""
    shape = example.shape

    def work() -> float:
        features, begin = paddle.randn(shape), clock()
        features.stop_gradient = shape[1] == 3
        out = function(features)
        seconds, dout = clock() - begin, paddle.randn(out.shape)
        begin = clock()
        paddle.autograd.backward([out], [dout])
        return seconds + clock() - begin

    return work


def _step(model: nn.Layer, images: paddle.Tensor, clock: Clock) -> Work:
    optimizer = build_optimizer(model, weight_decay=1e-4)
    optimizer.set_lr(1e-4)
    targets = (paddle.rand([len(images), 80]) < 0.1).astype("float32")

    def work() -> float:
        begin = clock()
        asymmetric_loss(model(images), targets).backward()
        optimizer.step()
        optimizer.clear_grad()
        return clock() - begin

    return work


def _round(works: list[tuple[str, Work]], *, fast: bool) -> dict[str, float]:
    """Seconds by kind."""
    seconds: dict[str, float] = {}
    kernels = layers.kernels if fast else lambda: None
    with mock.patch.object(layers, "kernels", kernels):
        for kind, work in works:
            seconds[kind] = seconds.get(kind, 0.0) + work()
    return seconds


if __name__ == "__main__":
    sys.exit(main())
