# SPDX-License-Identifier: Apache-2.0
"""Validation within a training on the CPU beside prediction, on the same photographs, in one run.

    python benchmarks/validation_speed.py --data my_set [--model NAME] [--images 200] [--rounds 5]

The images are those of val.txt, read by worker processes as in a training. Ways, in turns:
`create_model(...).predict` (the engine of mode predict), the evaluation of raw and averaged weights
in one pass as it is done within a training (with the graph that oneDNN runs), and the same with the
models themselves. Weights are random, or those of --weights. A line at the end says how far scores
and mAP of both evaluations are from each other, what the start of an evaluation takes, and how the
speed of oneDNN depends on the size of a batch.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from paddlex_ml import paddle_runtime  # noqa: E402

paddle_runtime.prepare()

import paddle  # noqa: E402

import paddlex_ml  # noqa: E402
from benchmarks.train_speed import build_step  # noqa: E402
from paddlex_ml.artifacts import weights  # noqa: E402
from paddlex_ml.artifacts.checkpoint import ModelInfo  # noqa: E402
from paddlex_ml.cores import usable_cores  # noqa: E402
from paddlex_ml.data import annotation, preprocess  # noqa: E402
from paddlex_ml.data.dataset import MultiLabelDataset  # noqa: E402
from paddlex_ml.data.loader import Loader  # noqa: E402
from paddlex_ml.engines.train import static_scoring  # noqa: E402
from paddlex_ml.engines.train.static_scoring import StaticScoring  # noqa: E402
from paddlex_ml.evaluation import Evaluation, scoring  # noqa: E402
from paddlex_ml.export.static import save_static  # noqa: E402
from paddlex_ml.models import zoo  # noqa: E402
from paddlex_ml.training import loop  # noqa: E402
from paddlex_ml.training.interrupt import Interrupt  # noqa: E402
from paddlex_ml.training.plan import Plan  # noqa: E402

PREDICT, FAST, SLOW = "predict", "validation, oneDNN", "validation, the models themselves"


def main() -> int:
    """Measure the ways in turns and print a Markdown table."""
    options = _parse()
    lists = annotation.read(options.data, lists=("val",))
    images = lists.val.take(np.arange(len(lists.val)) < options.images)
    step = build_step(options.model, 1, options.size, len(lists.label_names))
    training, plan = step.training, replace(step.plan, batch_size=options.batch)
    if options.weights:
        weights.fit(
            training.model, weights.read(options.weights), head=zoo.find(options.model).head,
            where=str(options.weights),
        )  # fmt: skip
    paddle.seed(1)
    training.averaged = zoo.build(options.model, len(lists.label_names))
    for value in training.ema.weights.values():  # other weights, as after some steps
        value.scale_(0.999)
    dataset = MultiLabelDataset(images, preprocess.standard(options.size))
    info = ModelInfo(options.model, lists.label_names, options.size)
    paths = [str(images.path(k)) for k in range(len(images))]
    found: dict[str, list[Evaluation]] = {}
    with (
        tempfile.TemporaryDirectory() as name,
        closing(Loader(dataset, usable_cores())) as loader,
    ):
        save_static(training.model, info, Path(name) / "export")
        predictor = paddlex_ml.create_model(options.model, Path(name) / "export", device="cpu")
        plans = {
            FAST: replace(plan, scoring=StaticScoring(options.size, Path(name) / "weights")),
            SLOW: replace(plan, scoring=scoring),
        }

        def predict() -> None:
            for _ in predictor.predict(paths, batch_size=static_scoring.BATCH):
                pass

        def evaluate(way: str, plan: Plan) -> Callable[[], None]:
            def work() -> None:
                results = loop.evaluate_both(training, plan, loader, Interrupt())
                assert results is not None
                found[way] = [*results.values()]

            return work

        ways = {PREDICT: predict, **{way: evaluate(way, each) for way, each in plans.items()}}
        _measure(ways, len(images), options)
    for kind, fast, slow in zip(("raw", "averaged"), found[FAST], found[SLOW], strict=True):
        difference = np.abs(fast.outputs - slow.outputs).max()
        print(f"- {kind}: scores differ by {difference:.1e}, mAP by {fast.map - slow.map:.1e}")
    _measure_parts(training.model, options.size)
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a data set; its val.txt is read")
    parser.add_argument("--model", choices=zoo.MODEL_SPECS, default="PP-LCNet_x1_0_ML")
    parser.add_argument("--weights", type=Path, help="a weight file in place of random weights")
    defaults = (("images", 200), ("size", 448), ("batch", 32), ("rounds", 5))
    for name, default in defaults:
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser.parse_args()


def _measure(ways: dict[str, Callable[[], None]], images: int, options: argparse.Namespace) -> None:
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(1 + options.rounds):
        for way, work in ways.items():
            begin = time.perf_counter()
            work()
            seconds[way].append(time.perf_counter() - begin)
        last = ", ".join(f"{way} {each[-1]:.1f} s" for way, each in seconds.items())
        print(f"round {number} of {options.rounds}: {last}", file=sys.stderr)
    print(f"{options.model}, {options.size} px, {images} images, {usable_cores()} cores\n")
    print("| way | forward passes an image | seconds | images/s | passes/s | ratio of passes/s |")
    print("|---|---:|---:|---:|---:|---:|")
    first = 0.0
    for way, each in seconds.items():
        passes, median = 1 if way == PREDICT else 2, statistics.median(each[1:])
        rate = passes * images / median
        first = first or rate
        print(
            f"| {way} | {passes} | {median:.2f} | {images / median:.1f} | {rate:.1f} | "
            f"{rate / first:.2f} |"
        )
    print()


def _measure_parts(model: paddle.nn.Layer, size: int) -> None:
    """What the start of an evaluation takes for one kind of weights, and sizes of batches."""
    folder = Path(tempfile.mkdtemp()) / "weights"
    ways, begins = StaticScoring(size, folder), []
    for _ in range(4):
        begin = time.perf_counter()
        engine = ways._load(model)
        begins.append(time.perf_counter() - begin)
    print(f"- start: {begins[0]:.2f} s at first, then {statistics.median(begins[1:]):.2f} s")
    folder.parent.rmdir()
    for count in (1, 4, 8, 16, 32):
        images = np.random.default_rng(0).standard_normal((count, 3, size, size), np.float32)
        times = []
        for _ in range(5):
            begin = time.perf_counter()
            engine(images)
            times.append(time.perf_counter() - begin)
        print(f"- oneDNN, {count} images at once: {count / statistics.median(times):.1f} images/s")


if __name__ == "__main__":
    sys.exit(main())
