# SPDX-License-Identifier: Apache-2.0
"""What one product for all images brings at small sizes: `python benchmarks/small_maps.py`.

Steps of mode train on a batch that lies in memory, with a pointwise convolution of small maps as
one product for all images (kernels/layers.py) and as one for each image, in turns in one process.
Prints medians and their ratio.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paddlex_ml import paddle_runtime

paddle_runtime.prepare()

from benchmarks.train_speed import build_step  # noqa: E402
from paddlex_ml.distributed.group import ProcessGroup  # noqa: E402
from paddlex_ml.kernels import layers  # noqa: E402

CASES = (
    *(("PP-LCNet_x1_0_ML", size, batch) for size in (96, 128, 160, 224) for batch in (16, 64)),
    *(("PP-HGNetV2-B0_ML", size, 16) for size in (96, 160, 224)),
)
CLASSES, ROUNDS = 10, 7
SMALL_MAP = layers.SMALL_MAP


def main() -> None:
    """Print a row for each case."""
    print("| model | pixels | batch | a product for each image, s | for all, s | ratio |")
    print("|---|---|---|---|---|---|")
    for name, size, batch in CASES:
        step = build_step(name, batch, size, CLASSES, ProcessGroup())
        seconds: dict[float, list[float]] = {0.0: [], SMALL_MAP: []}
        with step.meter.bar:
            for number in range(ROUNDS + 1):
                for share, found in seconds.items():
                    layers.SMALL_MAP = share
                    taken = step.run()
                    if number:  # the first ones warm up
                        found.append(taken)
        before, after = map(statistics.median, seconds.values())
        row = (name, size, batch, f"{before:.2f}", f"{after:.2f}", f"{before / after:.2f}")
        print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
