# SPDX-License-Identifier: Apache-2.0
"""Speed of training steps under different environments, each in a process of its own.

    python benchmarks/train_speed.py [--size 160] [--batch 32] [--classes 20] [--rounds 5]

The settings take turns, so that a noisy machine disturbs all of them alike; the table shows the
median step of every setting and its speed as a ratio to the first, "Paddle's own".
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OURS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "MKL_DEBUG_CPU_TYPE")
_STEP = """
import json, sys, time, warnings
sys.path.insert(0, {root!r})
warnings.filterwarnings("ignore")
if {prepare}:
    from paddlex_ml import environment
    environment.prepare()
import paddle
from paddlex_ml.losses import asymmetric_loss
from paddlex_ml.models import zoo
from paddlex_ml.training.optimizer import build_optimizer
paddle.seed(0)
model = zoo.build("PP-LCNet_x1_0_ML", {classes})
optimizer = build_optimizer(model, weight_decay=1e-4)
optimizer.set_lr(1e-4)
images = paddle.randn([{batch}, 3, {size}, {size}])
targets = (paddle.rand([{batch}, {classes}]) < 0.1).astype("float32")
seconds = []
for _ in range({steps}):
    begin = time.perf_counter()
    asymmetric_loss(model(images), targets).backward()
    optimizer.step()
    optimizer.clear_grad()
    seconds.append(time.perf_counter() - begin)
print(json.dumps(seconds[1:]))
"""


def main() -> int:
    """Measure all settings in turns and print a table."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    for name, default in (("size", 160), ("batch", 32), ("classes", 20), ("steps", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--rounds", type=int, default=5)
    options = vars(parser.parse_args())
    rounds = options.pop("rounds")
    settings = _settings()
    seconds: dict[str, list[float]] = {name: [] for name in settings}
    for k in range(rounds):
        for name, (prepare, variables) in settings.items():
            seconds[name] += _measure(prepare, variables, options)
        print(f"round {k + 1} of {rounds} done", file=sys.stderr)
    print(f"{platform.machine()}, {os.cpu_count()} cores, {options}, {rounds} rounds")
    print(f"{'setting':34}{'seconds a step':>16}{'images/s':>10}{'ratio':>7}")
    first = statistics.median(next(iter(seconds.values())))
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"{name:34}{median:16.3f}{options['batch'] / median:10.1f}{first / median:7.2f}")
    return 0


def _settings() -> dict[str, tuple[bool, dict[str, str]]]:
    """Name -> (whether paddlex_ml prepares the environment, variables that the user has set)."""
    return {
        "Paddle's own": (False, {}),
        "prepared by paddlex_ml": (True, {}),
        "one thread": (False, {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}),
        # Differs on AMD alone; empty counts as set, and tells MKL nothing.
        "prepared, no MKL_DEBUG_CPU_TYPE": (True, {"MKL_DEBUG_CPU_TYPE": ""}),
    }


def _measure(prepare: bool, variables: dict[str, str], options: dict[str, int]) -> list[float]:
    clean = {key: value for key, value in os.environ.items() if key not in OURS}
    code = _STEP.format(root=str(ROOT), prepare=prepare, **options)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**clean, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    result: list[float] = json.loads(done.stdout.splitlines()[-1])
    return result


if __name__ == "__main__":
    sys.exit(main())
