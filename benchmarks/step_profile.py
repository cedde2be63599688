# SPDX-License-Identifier: Apache-2.0
"""Time of the parts of a training step, for any model: Paddle's kernels compared with ours.

    python benchmarks/step_profile.py [--model NAME] [--size 448] [--batch 8] [--rounds 3]

Every part of the network runs alone, forward and backward, on input of its shape in the model; so
do the loss, the optimizer, the averaged weights and the check of the loss. Then the whole step of
mode train does; the last row is what the parts leave of it: additions, activations between blocks,
concatenations, the bookkeeping of gradients. Both kernels alternate; medians.
On a machine that others use, --clock cpu counts processor time, which is fair with one thread:
OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 before the command.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from paddlex_ml import paddle_runtime  # noqa: E402

paddle_runtime.prepare()

import paddle  # noqa: E402
from paddle import nn  # noqa: E402

from benchmarks.train_speed import Step, build_step  # noqa: E402
from paddlex_ml.kernels import layers, transformer_layers, winograd_layers  # noqa: E402
from paddlex_ml.models import clip_vit, pp_lcnet, zoo  # noqa: E402
from paddlex_ml.models.blocks import ConvNorm  # noqa: E402
from paddlex_ml.models.ml_decoder import MLDecoder  # noqa: E402
from paddlex_ml.training.losses import asymmetric_loss  # noqa: E402

Clock = Callable[[], float]
Work = Callable[[], float]  # returns its seconds
Function = Callable[[paddle.Tensor], paddle.Tensor]
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
CLASSES = 80
WHOLE_STEP, REST = "whole step", "rest"
WARM_UP = 2  # rounds that do not count: code is compiled, the heap grows
PARTS: dict[type[nn.Layer], str] = {  # parts that run as one, with all that is inside
    MLDecoder: "head (ML-Decoder)",
    pp_lcnet._SqueezeExcite: "squeeze and excitation",
    clip_vit.SelfAttention: "attention, residual",
    clip_vit._MLP: "linear layers with GELU, residual",
    nn.LayerNorm: "LayerNorm",
    nn.Linear: "linear layer",
    nn.Dropout: "dropout before the head",
}


def main() -> int:
    """Measure all kinds of parts and the whole step, and print a Markdown table."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model", choices=zoo.MODEL_SPECS, default="PP-LCNet_x1_0_ML")
    for name, default in (("size", 448), ("batch", 8), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    clock = CLOCKS[options.clock]
    step = build_step(options.model, options.batch, options.size, CLASSES)
    works = [*_works(step, clock), *_after(step, clock), (WHOLE_STEP, _timed(step.run, clock))]
    rounds: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    for number in range(WARM_UP + options.rounds):
        for fast, measured in rounds.items():
            measured.append(_round(works, fast=fast))
        print(f"round {number + 1} of {WARM_UP + options.rounds} done", file=sys.stderr)
    print(f"{options.model}, {options.size} px, batch {options.batch}, ms in one step\n")
    print("| part | Paddle's kernels | our kernels | ratio |\n|---|---:|---:|---:|")
    parts = dict.fromkeys(kind for kind, _ in works)
    medians = [
        {kind: statistics.median(each[kind] for each in rounds[fast][WARM_UP:]) for kind in parts}
        for fast in (False, True)
    ]
    for kind in parts:
        slow, quick = (median[kind] for median in medians)
        print(f"| {kind} | {1e3 * slow:.1f} | {1e3 * quick:.1f} | {slow / quick:.1f} |")
    rest = (2e3 * median[WHOLE_STEP] - 1e3 * sum(median.values()) for median in medians)
    print(f"| {REST} | {' | '.join(f'{milliseconds:.1f}' for milliseconds in rest)} | |")
    return 0


def _works(step: Step, clock: Clock) -> list[tuple[str, Work]]:
    """(kind, forward and backward) of every part of the network; a pass finds their shapes."""
    works: list[tuple[str, Work]] = []

    def note(layer: nn.Layer, inputs: tuple[paddle.Tensor], out: paddle.Tensor) -> None:
        for kind, function, example in _parts(layer, inputs[0], out):
            works.append((kind, _both(function, example.shape, clock)))

    model, (images, _) = step.training.model, step.batch
    # Paddle's stub does not know that inputs come as a tuple.
    hooks = [
        layer.register_forward_post_hook(note)  # type: ignore[arg-type]
        for layer in _measured(model)
    ]
    with paddle.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    return works


def _measured(layer: nn.Layer) -> Iterator[nn.Layer]:
    """The layers below `layer` that are measured; not those inside a part that runs as one."""
    for child in layer.children():
        if isinstance(child, (ConvNorm, nn.Conv2D, nn.MaxPool2D, *PARTS)):
            yield child
            continue
        yield from _measured(child)


def _parts(
    layer: nn.Layer, features: paddle.Tensor, out: paddle.Tensor
) -> Iterator[tuple[str, Function, paddle.Tensor]]:
    """(kind, what it computes, an input) of each part of a layer that got `features`."""
    if isinstance(layer, ConvNorm):
        conv, bn, activation = layer.conv, layer.bn, layer.activation
        yield f"{_kind(conv)} convolution", partial(winograd_layers.convolve, conv), features
        yield (
            "batch norm, activation",
            partial(layers.norm_activate, bn, activation),
            conv(features),
        )
        if layer.lab is not None:
            yield "learnable affine block", layer.lab, out
    elif isinstance(layer, nn.Conv2D):
        yield f"{_kind(layer)} convolution", layer, features
    elif isinstance(layer, clip_vit.SelfAttention | clip_vit._MLP):
        yield PARTS[type(layer)], lambda tokens: layer(tokens, tokens), features
    elif isinstance(layer, nn.LayerNorm):
        yield PARTS[type(layer)], partial(transformer_layers.norm, layer), features
    elif isinstance(layer, nn.MaxPool2D):
        yield "max pooling", partial(layers.max_pool, layer), features
    else:
        yield PARTS[type(layer)], layer, features


def _kind(conv: nn.Conv2D) -> str:
    """The kind of a convolution, for its row."""
    kernel = conv._kernel_size[0]
    if kernel == 1:
        return "pointwise"
    return f"{'depthwise' if conv._groups > 1 else 'dense'} {kernel} x {kernel}"


def _both(function: Function, shape: list[int], clock: Clock) -> Work:
    """Forward and backward of a part; without a gradient with respect to images."""

    def work() -> float:
        features, begin = paddle.randn(shape), clock()
        features.stop_gradient = shape[1] == 3
        out = function(features)
        seconds, dout = clock() - begin, paddle.randn(out.shape)
        begin = clock()
        paddle.autograd.backward([out], [dout])
        return seconds + clock() - begin

    return work


def _after(step: Step, clock: Clock) -> list[tuple[str, Work]]:
    """(kind, work) of what follows the network in a step."""
    training, (_, targets) = step.training, step.batch
    loss = paddle.to_tensor(1.0)

    def update() -> None:
        training.optimizer.step()  # with the gradients that the parts have left
        training.optimizer.clear_grad()

    def learn(logits: paddle.Tensor) -> paddle.Tensor:
        return asymmetric_loss(logits, targets)

    return [
        ("loss", _both(learn, targets.shape, clock)),
        ("AdamW", _timed(update, clock)),
        ("averaged weights", _timed(lambda: training.ema.update(training.model), clock)),
        ("check of the loss", _timed(lambda: math.isfinite(float(loss)), clock)),
    ]


def _timed(work: Callable[[], object], clock: Clock) -> Work:
    """The seconds of `work` by this clock."""

    def run() -> float:
        begin = clock()
        work()
        return clock() - begin

    return run


def _round(works: list[tuple[str, Work]], *, fast: bool) -> dict[str, float]:
    """Seconds by kind."""
    seconds: dict[str, float] = {}
    kernels = layers.kernels if fast else lambda _: None
    with mock.patch.object(layers, "kernels", kernels):
        for kind, work in works:
            seconds[kind] = seconds.get(kind, 0.0) + work()
    return seconds


if __name__ == "__main__":
    sys.exit(main())
