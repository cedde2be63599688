# SPDX-License-Identifier: Apache-2.0
"""What a folder of a million files costs before and while they are answered.

    python benchmarks/predict_memory.py [--count 1000000] [--work DIR]

The first file is a photograph, the others are empty: each is found, named, refused and reported,
and the network, whose time is known, does not stand in the way. Prints the seconds to the first
result and to the last, and the memory that this takes.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from paddlex_ml import paddle_runtime  # noqa: E402


def main() -> None:
    """Make the folder, go through it, and print a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--work", type=Path)
    arguments = parser.parse_args()
    logging.disable()
    with tempfile.TemporaryDirectory(dir=arguments.work) as temporary:
        model, folder = _export(Path(temporary) / "inference"), Path(temporary) / "photos"
        folder.mkdir()
        Image.fromarray(np.zeros((480, 640, 3), np.uint8)).save(folder / "0000000.jpg")
        _answer(model, folder)
        for number in range(1, arguments.count):
            (folder / f"{number:07d}.jpg").touch()
        print(f"{arguments.count} files in one folder: {_answer(model, folder)}")


def _export(folder: Path) -> Path:
    paddle_runtime.prepare()
    from paddlex_ml.artifacts.checkpoint import ModelInfo
    from paddlex_ml.export.static import save_static
    from paddlex_ml.models import zoo

    info = ModelInfo("PP-LCNet_x1_0_ML", ["cat", "dog"], 64, None)
    save_static(zoo.build(info.model, 2), info, folder)
    return folder


def _answer(model_dir: Path, folder: Path) -> str:
    from paddlex_ml import create_model

    model = create_model("PP-LCNet_x1_0_ML", model_dir, device="cpu")
    process = psutil.Process()
    before, begin, first = process.memory_info().rss, time.perf_counter(), 0.0
    most = before
    for number, _ in enumerate(model.predict(folder)):
        if number == 0:
            first = time.perf_counter() - begin
        if number % 1000 == 0:
            most = max(most, process.memory_info().rss)
    last = time.perf_counter() - begin
    return f"first {first:.2f} s, last {last:.1f} s, {(most - before) / 2**20:.0f} MiB more"


if __name__ == "__main__":
    main()
