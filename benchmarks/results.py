# SPDX-License-Identifier: Apache-2.0
"""Train on real photographs and write docs/results.md with its pictures.

    python benchmarks/results.py --data DIR --work DIR [--only NAME ...] [--jobs 2]

DIR of --data holds the data sets natural_scenes and clothing_ccp (MLClsDataset) and
weights/PPLCNet_x1_0_doc_ori.pdparams. Runs that are complete in --work are not repeated, so the
page can be written again in seconds. Every run is the shipped YAML with a few overrides, by the
same command that a user types.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
WEIGHTS = "weights/PPLCNet_x1_0_doc_ori.pdparams"


@dataclass(frozen=True)
class Run:
    """One training: a data set, a start, a length."""

    name: str
    title: str
    dataset: str
    epochs: int
    from_weights: bool
    more: dict[str, str] = field(default_factory=dict)

    def overrides(self) -> dict[str, str]:
        """What the command sets beside the shipped YAML; paths below $DATA."""
        start = f"$DATA/{WEIGHTS}" if self.from_weights else "null"
        return {
            "Global.dataset_dir": f"$DATA/{self.dataset}",
            "Train.pretrain_weight_path": start,
            "Train.image_size": "160",
            "Train.epochs_iters": str(self.epochs),
            **self.more,
        }


RUNS = [
    Run("scenes-6", "Natural scenes, trained backbone, 6 epochs", "natural_scenes", 6, True),
    Run("scenes-10", "Natural scenes, trained backbone, 10 epochs", "natural_scenes", 10, True),
    Run("scenes-random", "Natural scenes, random weights, 10 epochs", "natural_scenes", 10, False),
    Run("clothing-10", "Clothing, trained backbone, 10 epochs", "clothing_ccp", 10, True),
    Run(
        "scenes-random-rate",
        "Natural scenes, random weights, 10 epochs, twice the learning rate",
        "natural_scenes",
        10,
        False,
        {"Train.learning_rate": "2e-3"},
    ),
    Run(
        "scenes-6-one-rate",
        "As the first, with one rate for backbone and head",
        "natural_scenes",
        6,
        True,
        {"Train.head_lr_mult": "1"},
    ),
    Run(
        "scenes-6-published-rate",
        "As the first, with the published rate for backbone and head",
        "natural_scenes",
        6,
        True,
        {"Train.learning_rate": "1e-4", "Train.head_lr_mult": "1"},
    ),
    Run(
        "scenes-6-published-cutout",
        "As the first, with the published Cutout",
        "natural_scenes",
        6,
        True,
        {"Train.augment.cutout": "0.5"},
    ),
]


def main() -> int:
    """Do the runs that are missing, then write the page."""
    parser = argparse.ArgumentParser(description="Train on real photographs, write docs/results.md")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--work", type=Path, default=ROOT / "output_results")
    parser.add_argument("--only", nargs="*", choices=[run.name for run in RUNS])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each")
    options = parser.parse_args()
    wanted = [run for run in RUNS if not options.only or run.name in options.only]
    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda run: _do(run, options.data, options.work, options.jobs), wanted))
    done = [run for run in RUNS if (options.work / run.name / "evaluate_result.json").is_file()]
    _write_page(done, options.work)
    return 0


def _do(run: Run, data: Path, work: Path, jobs: int) -> None:
    output = work / run.name
    if (output / "evaluate_result.json").is_file():
        return
    begin = time.perf_counter()
    chosen = {key: value.replace("$DATA", str(data)) for key, value in run.overrides().items()}
    _command(
        "PP-LCNet_x1_0_ML", {"Global.mode": "train", **chosen, "Global.output": str(output)}, jobs
    )
    seconds = time.perf_counter() - begin
    (output / "seconds.json").write_text(json.dumps({"train": seconds, "jobs": jobs}))
    _command(str(output / "config.yaml"), {"Global.mode": "evaluate"}, jobs)
    print(f"{run.name}: {seconds:.0f} s", file=sys.stderr)


def _command(config: str, overrides: dict[str, str], jobs: int) -> None:
    words = [w for key, value in overrides.items() for w in ("-o", f"{key}={value}")]
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} if jobs > 1 else {}
    subprocess.run(
        [sys.executable, str(ROOT / "main.py"), "-c", config, *words],
        env={**os.environ, **threads},
        check=True,
        stderr=subprocess.DEVNULL,
    )


_OTHERS = ("## Relations between classes\n", "## Tuned thresholds\n")


def _write_page(runs: list[Run], work: Path) -> None:
    parts = [_HEAD.format(machine=_machine()), _summary(runs, work)]
    parts += [_section(run, work / run.name) for run in runs]
    page = DOCS / "results.md"
    if page.is_file():  # the last sections are of benchmarks/relations.py and thresholds.py
        text = page.read_text(encoding="utf-8")
        starts = [text.find(title) for title in _OTHERS if title in text]
        parts.append(text[min(starts, default=len(text)) :])
    page.write_text("\n".join(parts), encoding="utf-8")
    print(f"wrote {DOCS / 'results.md'}")


_HEAD = """# Results on real photographs

Written by `benchmarks/results.py`; every figure below is read from the output files of the runs.
Machine: {machine}. No GPU was available: GPU runs were not measured.

Natural scenes: 1,600 + 400 photographs, 5 labels (the image set of Zhou and Zhang, NIPS 2006).
Clothing: 1,678 + 420 street-fashion photographs, 19 labels (Clothing Co-Parsing, Yang et al., CVPR
2014). The trained backbone is a PP-LCNet x1.0 that was trained to classify the orientation of
documents: no ImageNet weights were available.

The shipped YAML was used unchanged, with the overrides shown. mAP, 0 to 1, is that of the
validation list. The constant predictor, which gives every image the same scores, is the floor.
Other programs ran on the machine during the trainings: read the training times as upper limits.
"""


def _machine() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = [
        line.split(":", 1)[1].strip()
        for line in (cpuinfo.read_text().splitlines() if cpuinfo.is_file() else [])
        if line.startswith("model name")
    ]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def _summary(runs: list[Run], work: Path) -> str:
    lines = [
        "| run | best mAP | weights | epoch | constant | training time |",
        "|---|---|---|---|---|---|",
    ]
    for run in runs:
        best = _read(work / run.name / "train_result.json")["models"]["best"]
        constant = _read(work / run.name / "evaluate_result.json")["metrics"]["constant_predictor"]
        spent = _read(work / run.name / "seconds.json")
        beside = " (two runs at a time)" if spent["jobs"] > 1 else ""
        lines.append(
            f"| {run.title} | **{best['score']:.4f}** | {best['weights']} | {best['epoch']} "
            f"| {constant:.4f} | {spent['train'] / 60:.1f} min{beside} |"
        )
    return "\n".join(lines) + "\n"


def _section(run: Run, output: Path) -> str:
    picture = f"results_{run.name}.png"
    shutil.copyfile(output / "curves.png", DOCS / picture)
    result, judged = _read(output / "train_result.json"), _read(output / "evaluate_result.json")
    saved = judged["metrics"]["MultiLabelMAP"]
    words = " \\\n    ".join(f"-o {key}={value}" for key, value in run.overrides().items())
    return f"""## {run.title}

```bash
paddlex-ml -c PP-LCNet_x1_0_ML -o Global.mode=train \\
    {words}
```

![curves]({picture})

Recorded score {result["models"]["best"]["score"]:.4f}; the saved `best_model.pdparams`, evaluated
afterwards by mode evaluate: {saved:.4f}.

{_epochs(output / "metrics.csv")}
{_classes(judged)}"""


def _epochs(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    lines = ["| epoch | loss | raw mAP | EMA mAP | images/s |", "|---|---|---|---|---|"]
    lines += [
        f"| {row['epoch']} | {float(row['loss']):.2f} | {float(row['raw_map']):.4f} "
        f"| {float(row['ema_map']):.4f} | {float(row['images_per_second']):.1f} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def _classes(judged: dict[str, Any]) -> str:
    images = judged["metrics"]["images"]
    lines = ["| class | average precision | constant predictor | positives |", "|---|---|---|---|"]
    rows = sorted(judged["per_class"], key=lambda row: -(row["average_precision"] or 0))
    lines += [
        f"| {row['name']} | {row['average_precision']:.4f} "
        f"| {row['positives'] / images:.4f} | {row['positives']} |"
        for row in rows
        if row["average_precision"] is not None
    ]
    return "\n".join(lines) + "\n"


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


if __name__ == "__main__":
    sys.exit(main())
