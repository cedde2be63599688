# SPDX-License-Identifier: Apache-2.0
"""Cost of every model: parameters, multiply-adds and CPU latency, as a Markdown table.

    python benchmarks/model_table.py [--size 448] [--rounds 15] [--threads 2]

Latency is that of the exported model on one image, median of the rounds, in a process of its own
for each model; the weights are random, which does not change it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


def main() -> int:
    """Measure the models one after the other and print the table."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--size", type=int, default=448)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--one", help=argparse.SUPPRESS)  # the child process: one model
    options = parser.parse_args()
    if options.one:
        print(json.dumps(_measure(options.one, options.size, options.rounds)))
        return 0

    from paddlex_ml.models.published import MODELS

    print(f"{options.size} px, 80 classes, {options.threads} threads\n")
    print("| model | parameters | MiB | GFLOPs | oneDNN ms | plain Paddle ms |")
    print("|---|---|---|---|---|---|")
    for name in MODELS:
        found = _child(name, options)
        print(
            f"| {name} | {found['parameters'] / 1e6:.1f} M | {found['mib']:.0f} "
            f"| {found['multiply_adds'] / 1e9:.2f} | {found['mkldnn']:.0f} "
            f"| {found['paddle']:.0f} |",
            flush=True,
        )
    return 0


def _child(name: str, options: argparse.Namespace) -> dict[str, float]:
    threads = {key: str(options.threads) for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    words = ["--one", name, "--size", str(options.size), "--rounds", str(options.rounds)]
    done = subprocess.run(
        [sys.executable, __file__, *words],
        env={**os.environ, **threads},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
        text=True,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _measure(name: str, size: int, rounds: int) -> dict[str, float]:
    from paddlex_ml import paddle_runtime

    paddle_runtime.prepare()
    from paddlex_ml.artifacts.checkpoint import ModelInfo
    from paddlex_ml.export.static import save_static
    from paddlex_ml.models import zoo

    model = zoo.build(name, 80)
    state = model.state_dict()
    result = {
        "parameters": sum(p.size for entry, p in state.items() if "._" not in entry),
        "mib": sum(p.size for p in state.values()) * 4 / 2**20,
        "multiply_adds": multiply_adds(model, size),
    }
    with tempfile.TemporaryDirectory() as folder:
        inference = Path(folder) / "inference"
        save_static(model, ModelInfo(name, [str(i) for i in range(80)], size), inference)
        return result | {mode: _latency(inference, mode, rounds) for mode in ("mkldnn", "paddle")}


def _latency(folder: Path, mode: str, rounds: int) -> float:
    import numpy as np

    from paddlex_ml.inference.static_model import StaticModel

    model = StaticModel(folder, "cpu", mode)
    if model.run_mode != mode:
        return float("nan")
    width, height = model.image_size
    image = np.zeros((1, 3, height, width), np.float32)
    seconds = []
    for _ in range(rounds + 2):  # two to warm up
        begin = time.perf_counter()
        model.run(image)
        seconds.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(seconds[2:])


def multiply_adds(model: Any, size: int) -> int:
    """Multiply-adds of one image of `size` pixels: convolutions, linear layers and attention."""
    import paddle
    from paddle import nn

    from paddlex_ml.models.clip_vit import SelfAttention

    counted: list[int] = []

    def conv(layer: nn.Conv2D, _: object, output: paddle.Tensor) -> None:
        counted.append(output.size * layer.weight.size // layer.weight.shape[0])

    def linear(layer: nn.Linear, _: object, output: paddle.Tensor) -> None:
        counted.append(output.size * layer.weight.shape[0])

    def cross_attention(layer: object, given: tuple[paddle.Tensor, ...], _: object) -> None:
        queries, tokens = given[0], given[1]
        counted.append(2 * queries.shape[1] * tokens.shape[1] * tokens.shape[2])

    def self_attention(layer: object, given: tuple[paddle.Tensor, ...], _: object) -> None:
        counted.append(2 * given[0].shape[1] ** 2 * given[0].shape[2])

    hooks: dict[type, Any] = {
        nn.Conv2D: conv,
        nn.Linear: linear,
        nn.MultiHeadAttention: cross_attention,
        SelfAttention: self_attention,
    }
    model.eval()
    handles = [
        layer.register_forward_post_hook(hooks[type(layer)])
        for layer in model.sublayers()
        if type(layer) in hooks
    ]
    with paddle.no_grad():
        model(paddle.zeros([1, 3, size, size]))
    for handle in handles:
        handle.remove()
    return sum(counted)


if __name__ == "__main__":
    sys.exit(main())
