# SPDX-License-Identifier: Apache-2.0
"""Images per second of training on the CPU: a plain Paddle loop, ours, ours in two processes.

    python benchmarks/train_speed.py [--size 448] [--batch 8] [--classes 80] [--rounds 3]

The plain loop is what a Paddle user writes: the same model on Paddle's own operators, forward,
backward, AdamW, an EMA over the state_dict, and none of our options. Ours are the very steps of
mode train, with EMA, finiteness check and log lines. Images lie in memory: reading them is
benchmarks/loader_speed.py. Each way runs in processes of its own, and they take turns, so that
a noisy machine disturbs all of them alike; the table shows medians, and ratios to the plain loop.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OURS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "MKL_DEBUG_CPU_TYPE")
_PLAIN = """
import json, sys, time, warnings
sys.path.insert(0, {root!r})
warnings.filterwarnings("ignore")
import paddle
from paddlex_ml.training.losses import asymmetric_loss
from paddlex_ml.kernels import layers
from paddlex_ml.models import zoo
layers.kernels = lambda _: None
paddle.seed(0)
model = zoo.build("PP-LCNet_x1_0_ML", {classes})
optimizer = paddle.optimizer.AdamW(1e-4, parameters=model.parameters(), weight_decay=1e-4)
images = paddle.randn([{batch}, 3, {size}, {size}])
targets = (paddle.rand([{batch}, {classes}]) < 0.1).astype("float32")
average = {{name: value.clone() for name, value in model.state_dict().items()}}
seconds = []
for _ in range({steps}):
    begin = time.perf_counter()
    loss = asymmetric_loss(model(images), targets)
    loss.backward()
    optimizer.step()
    optimizer.clear_grad()
    with paddle.no_grad():
        for name, value in model.state_dict().items():
            average[name] = 0.9997 * average[name] + 0.0003 * value
    float(loss)
    seconds.append(time.perf_counter() - begin)
print(json.dumps(seconds))
"""
_PROCESSES = """
import sys
sys.path[:0] = [{root!r}, {here!r}]
import train_speed
if __name__ == "__main__":
    train_speed.run_processes({processes}, {options!r})
"""


def run_processes(count: int, options: dict[str, int]) -> None:
    """Print the seconds of every step of `count` processes."""
    from paddlex_ml import paddle_runtime

    paddle_runtime.prepare()
    from paddlex_ml.devices import Devices
    from paddlex_ml.distributed import launch

    print(json.dumps(launch.run(steps, options, Devices("cpu", tuple(range(count))))))


def steps(options: dict[str, int], group: object) -> list[float]:
    """Train for some steps as mode train does; seconds of each. Runs in every process."""
    classes, batch, size, count = (options[k] for k in ("classes", "batch", "size", "steps"))
    step = build_step("PP-LCNet_x1_0_ML", batch, size, classes, group)
    with step.meter.bar:
        return [step.run() for _ in range(count)]


class Step:
    """A step of mode train on a batch that lies in memory, with the check and the log line."""

    def __init__(self, training: Any, plan: Any, batch: tuple[Any, Any]) -> None:
        import paddle

        from paddlex_ml.training.loop import train_step
        from paddlex_ml.training.meter import Meter

        self.wait_for_gpu = paddle.device.synchronize

        self.training, self.plan, self.batch = training, plan, batch
        self.train_step, self.meter = train_step, Meter(training.progress, plan)
        self.on_gpu = batch[0].place.is_gpu_place()

    def run(self) -> float:
        """Take the step; returns its seconds."""
        begin = time.perf_counter()
        self.meter.data_arrived()
        _, loss = self.train_step(self.training, self.plan, [self.batch])
        if not math.isfinite(loss):
            raise RuntimeError("the loss is not finite")
        self.training.progress.step += 1
        images = self.plan.batch_size * self.plan.group.size
        self.meter.step_done(loss, self.training.optimizer.get_lr(), images=images)
        if self.on_gpu:  # the update may still run there
            self.wait_for_gpu()
        return time.perf_counter() - begin


def build_step(
    name: str,
    batch: int,
    size: int,
    classes: int,
    group: object = None,
    *,
    seed: int = 0,
    amp: Any = "",
    channels_last: bool = False,
    compiles: bool = False,
    overlaps: bool | None = None,
) -> Step:
    """A step of the model `name` on `batch` random images in each process of the group.

    amp: format of mixed precision (Train.amp=O1), or nothing. overlaps: whether gradients are
    exchanged within the backward pass; None: on GPUs, as in mode train.
    """
    import numpy as np
    import paddle

    from paddlex_ml.distributed.group import ProcessGroup
    from paddlex_ml.training.losses import asymmetric_loss
    from paddlex_ml.training.plan import Plan
    from paddlex_ml.training.precision import Precision
    from paddlex_ml.training.schedule import build_schedule

    group = ProcessGroup() if group is None else group
    assert isinstance(group, ProcessGroup)
    paddle.seed(seed)
    overlaps = paddle.device.get_device() != "cpu" if overlaps is None else overlaps
    precision = Precision("O1", amp, channels_last) if amp else Precision()
    training = _build_training(name, size, classes, precision.scaler(), (compiles, overlaps))
    count = 10**4
    plan = Plan(
        epochs=1,
        batch_size=batch,
        grad_accum_steps=1,
        images=batch * group.size * count,
        order=lambda epoch: np.arange(batch * group.size * count),
        schedule=build_schedule("cosine", 1e-4, epochs=1, steps_per_epoch=count, warmup_epochs=0),
        seed=0,
        loss_fn=asymmetric_loss,
        log_interval=1,
        precision=precision.autocast,
        group=group,
    )
    images = paddle.randn([batch, 3, size, size])
    targets = (paddle.rand([batch, classes]) < 0.1).astype("float32")
    return Step(training, plan, (images, targets))


def _build_training(
    name: str, size: int, classes: int, scaler: Any, passes: tuple[bool, bool]
) -> Any:
    """All that changes in a training of the model `name`; `passes`: compiled, overlapped."""
    import paddle

    from paddlex_ml.artifacts.checkpoint import ModelInfo
    from paddlex_ml.models import zoo
    from paddlex_ml.training.ema import Ema
    from paddlex_ml.training.optimizer import build_optimizer
    from paddlex_ml.training.state import Training

    paddle.seed(0)
    model = zoo.build(name, classes)
    model.train()
    info = ModelInfo(name, [str(k) for k in range(classes)], size)
    optimizer = build_optimizer(model, weight_decay=1e-4)
    return Training(
        info,
        model,
        model,
        Ema(model, 0.9997),
        optimizer,
        scaler,
        {},
        compiles=passes[0],
        overlaps=passes[1],
    )


def main() -> int:
    """Measure all ways in turns and print a table."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    for name, default in (("size", 448), ("batch", 8), ("classes", 80), ("steps", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--rounds", type=int, default=3)
    options = vars(parser.parse_args())
    rounds = options.pop("rounds")
    here = str(Path(__file__).resolve().parent)
    plain = _PLAIN.format(root=str(ROOT), **options)
    scripts = {
        n: _PROCESSES.format(root=str(ROOT), here=here, processes=n, options=options)
        for n in (1, 2)
    }
    no_mkl = {"MKL_DEBUG_CPU_TYPE": ""}  # empty counts as set, and has no effect on MKL
    ways: dict[str, tuple[str, dict[str, str], int]] = {
        "plain Paddle loop": (plain, {}, 1),
        "plain, MKL_DEBUG_CPU_TYPE=5": (plain, {"MKL_DEBUG_CPU_TYPE": "5"}, 1),
        "ours, one process": (scripts[1], {}, 1),
        "ours, one process, MKL as it is": (scripts[1], no_mkl, 1),
        "ours, two processes": (scripts[2], {}, 2),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for k in range(rounds):
        for name, (code, variables, _) in ways.items():
            seconds[name] += _measure(code, variables)
            print(f"round {k + 1} of {rounds}: {name}", file=sys.stderr)
    print(f"{platform.machine()}, {os.cpu_count()} cores, {options}, {rounds} rounds")
    print(f"{'way':34}{'seconds a step':>16}{'images/s':>10}{'ratio':>7}")
    speeds = {
        name: options["batch"] * ways[name][2] / statistics.median(values)
        for name, values in seconds.items()
    }
    first = next(iter(speeds.values()))
    for name, speed in speeds.items():
        median = statistics.median(seconds[name])
        print(f"{name:34}{median:16.3f}{speed:10.2f}{speed / first:7.2f}")
    return 0


def _measure(code: str, variables: dict[str, str]) -> list[float]:
    """Seconds of the steps behind the first three, which compile and find memory."""
    clean = {key: value for key, value in os.environ.items() if key not in OURS}
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "steps.py"  # a file: spawned processes read it again
        script.write_text(code, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, str(script)],
            env={**clean, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        )
    result: list[float] = json.loads(done.stdout.splitlines()[-1])
    return result[3:]


if __name__ == "__main__":
    sys.exit(main())
