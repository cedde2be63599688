# SPDX-License-Identifier: Apache-2.0
"""What decoding large JPEGs at a fraction of their size does to the mAP of a trained model.

    python benchmarks/reduced_decode.py --run output --data my_set [--side 4000] [--images 200]

Evaluates the best model of a run on enlarged copies of the first photographs of val.txt, decoded in
full and reduced (Evaluate.reduced_decode), and prints both scores.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from PIL import Image

from paddlex_ml import cli
from paddlex_ml.data import annotation


def main() -> int:
    """Enlarge, evaluate twice, print."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="output folder of a training")
    parser.add_argument("--data", type=Path, required=True, help="its data set")
    parser.add_argument("--side", type=int, default=4000, help="longer side of the copies")
    parser.add_argument("--images", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        enlarge(options.data, folder, options.side, options.images)
        found = [score(options.run, folder, reduced) for reduced in (False, True)]
    full, reduced = found
    shifts = [abs(a - b) for a, b in zip(full[1], reduced[1], strict=True)]
    print(f"{options.images} images, longer side {options.side}")
    print(f"mAP, decoded in full {full[0]:.4f}, reduced {reduced[0]:.4f}")
    print(f"largest shift of a class's average precision {max(shifts):.4f}")
    return 0


def enlarge(data: Path, folder: Path, side: int, count: int) -> None:
    """Write a data set whose val.txt has the first `count` images, enlarged to `side`."""
    lists = annotation.read(data, lists=("val",))
    annotation.write_labels(folder / "label.txt", lists.label_names)
    names = [f"{k}.jpg" for k in range(min(count, len(lists.val)))]
    for k, name in enumerate(names):
        with Image.open(lists.val.path(k)) as image:
            factor = side / max(image.size)
            size = (round(image.width * factor), round(image.height * factor))
            image.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(
                folder / name, quality=90
            )
    annotation.write_list(folder / "val.txt", names, lists.val.targets[: len(names)])


def score(run: Path, data: Path, reduced: bool) -> tuple[float, list[float]]:
    """mAP, and average precision of every class that has a positive."""
    output = data / f"reduced_{reduced}"
    keys = [
        "Global.mode=evaluate",
        f"Global.dataset_dir={data}",
        f"Global.output={output}",
        f"Evaluate.weight_path={run / 'best_model' / 'best_model.pdparams'}",
        f"Evaluate.reduced_decode={str(reduced).lower()}",
    ]
    if cli.main(["-c", str(run / "config.yaml"), "-o", *keys]) != 0:
        raise SystemExit(2)
    result = json.loads((output / "evaluate_result.json").read_text(encoding="utf-8"))
    per_class = [item["average_precision"] for item in result["per_class"]]
    return result["metrics"]["MultiLabelMAP"], [p for p in per_class if p is not None]


if __name__ == "__main__":
    sys.exit(main())
