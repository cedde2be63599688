# SPDX-License-Identifier: Apache-2.0
"""Whole trainings for comparisons: the ordinary command with the shipped options, once each.

For the scripts beside it, whose options are `data` (a folder with the sets and with weights/),
`size`, `epochs` and `more` (overrides for every command).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MAIN = str(ROOT / "main.py")
MODEL = "PP-LCNet_x1_0_ML"
WEIGHTS = "weights/PPLCNet_x1_0_doc_ori.pdparams"


def train(
    options: argparse.Namespace,
    output: Path,
    dataset: Path,
    seed: int,
    keys: Mapping[str, object],
    program: Sequence[str] = (MAIN,),
) -> float:
    """The mAP of the best model. A complete run is not repeated, another goes on.

    `keys` are further options of the run, `program` what Python runs. Raises CalledProcessError
    where the training fails.
    """
    result, begin = output / "train_result.json", time.perf_counter()
    if not (result.is_file() and _read(result)["done_flag"]):
        every = {
            "Global.mode": "train",
            "Global.dataset_dir": dataset,
            "Global.output": output,
            "Global.seed": seed,
            "Train.pretrain_weight_path": options.data / WEIGHTS,
            "Train.image_size": options.size,
            "Train.epochs_iters": options.epochs,
            "Train.resume_path": "auto",
            "Train.keep_last": 1,
            **keys,
        }
        chosen = [*(f"{key}={value}" for key, value in every.items()), *options.more]
        words = [word for text in chosen for word in ("-o", text)]
        command = [sys.executable, *program, "-c", MODEL, *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        print(f"{output.name}: {time.perf_counter() - begin:.0f} s", file=sys.stderr, flush=True)
    score: float = _read(result)["models"]["best"]["score"]
    return score


def _read(result: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return content
