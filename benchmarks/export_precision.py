# SPDX-License-Identifier: Apache-2.0
"""Exports of trained models in every precision: what they cost and how fast they are, as a table.

    python benchmarks/export_precision.py --work DIR --run RUN DATA [--run RUN DATA ...]

RUN is the output folder of a training, or a folder with best_model/best_model.pdparams alone; DATA
its data set. Nothing is written into RUN: the weights are copied to --work. Each export is made by
the command, with the guard on; one that keeps to no budget is made again without it, and its row
says so. Throughput: all exports of a run are loaded in one process and take batches in turns; a row
has the median over the rounds of its ratio to onnxruntime in fp32. With --threads 1 the time is
that of the processor, which other programs do not take. The images are noise: the time does not
depend on them. An export that lies in --work is taken as it is. Needs
`pip install 'paddlex-ml[cpu,onnx,openvino]'`.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

EXPORTS = [
    (form, precision) for form in ("onnx", "openvino") for precision in ("fp32", "fp16", "int8")
]
ANY = ("-o", "Export.max_changed_decisions=1", "-o", "Export.max_map_loss=1")
SECONDS = 1.0  # of an export in each round


def main() -> int:
    """Export and measure one run after the other, and print a table of each."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--run", nargs=2, action="append", required=True, metavar=("RUN", "DATA"))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--images", type=int, default=300, help="of train.txt, for ranges")
    options = parser.parse_args()
    print(f"{_name_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for run, data in options.run:
        folder = options.work / Path(run).resolve().name
        (folder / "best_model").mkdir(parents=True, exist_ok=True)
        for path in (Path(run) / "best_model").glob("best_model.pd*"):
            shutil.copy(path, folder / "best_model")
        _measure_run(folder, Path(data), options)
    return 0


def _measure_run(folder: Path, data: Path, options: argparse.Namespace) -> None:
    from paddlex_ml import paddle_runtime

    paddle_runtime.prepare()
    from paddlex_ml.artifacts import export_report
    from paddlex_ml.inference.static_model import StaticModel

    models = {}
    for form, precision in EXPORTS:
        name = f"inference_{form}" + ("" if precision == "fp32" else f"_{precision}")
        path = folder / "best_model" / name
        if not path.is_dir():
            _export(folder, data, form, precision, options.images)
        models[form, precision] = StaticModel(path, "cpu", cpu_threads=options.threads)
    first = models["onnx", "fp32"]
    side = first.image_size[0]
    images = np.random.default_rng(0).standard_normal((options.batch, 3, side, side), np.float32)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    speeds: dict[tuple[str, str], list[float]] = {key: [] for key in models}
    for _ in range(options.rounds):
        for key, model in models.items():
            speeds[key].append(_time(model.run, images, clock))
    usual = speeds["onnx", "fp32"]
    print(f"\n{first.model_name}, {data.name}, {side} px, batch {options.batch}\n")
    print("| export | MB | images/s | times onnx fp32 | mAP | difference, 95 % interval ", end="")
    print("| changed decisions | largest movement | layers in float32 / weights only | |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for (form, precision), model in models.items():
        found = speeds[form, precision]
        ratio = statistics.median(a / b for a, b in zip(found, usual, strict=True))
        report = export_report.read(model.folder)
        size = sum(path.stat().st_size for path in model.folder.glob("inference.[!y]*")) / 1e6
        cells = [f"{size:.1f}", f"{statistics.median(found):.0f}", f"{ratio:.2f}"]
        if report is None:
            cells += [""] * 5
        else:
            cells.append(f"{report.map:.4f}")
            low, high = report.map_difference_ci95 or (float("nan"), float("nan"))
            difference = report.map - report.map_fp32
            cells.append(f"{difference:+.4f} ({low:+.4f} to {high:+.4f})")
            cells += [f"{report.changed_decisions:.2%}", f"{report.largest_movement:.3f}"]
            levels = [layer.level for layer in report.left]
            counts = f"{levels.count('float')} / {levels.count('weights')} of {report.layers}"
            cells.append(counts if report.layers else "")
        is_over = report is not None and report.max_changed_decisions == 1
        note = "over the budget" if is_over else ""
        print(f"| {form} {precision} | {' | '.join(cells)} | {note} |", flush=True)


def _export(folder: Path, data: Path, form: str, precision: str, images: int) -> None:
    """Export by the command; without a budget where no export keeps to it."""
    weights = folder / "best_model" / "best_model.pdparams"
    keys = [f"Global.mode=export Global.output={folder} Export.weight_path={weights}"]
    keys += [f"Export.format={form} Export.precision={precision} Global.dataset_dir={data}"]
    if precision == "int8":
        keys.append(f"Export.calibration_images={images}")
    words = [word for key in " ".join(keys).split() for word in ("-o", key)]
    start = [sys.executable, str(ROOT / "main.py"), "-c", _find_model(weights), *words]
    for more in ((), ANY):
        done = subprocess.run([*start, *more], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        if done.returncode != 2 or "keeps to the budgets" not in done.stderr:
            break
    raise SystemExit(done.stderr[-3000:])


def _find_model(weights: Path) -> str:
    from paddlex_ml.artifacts import checkpoint

    info = checkpoint.read_model_info(weights)
    assert info is not None, weights
    return info.model


def _time(run: object, images: np.ndarray, clock: Callable[[], float]) -> float:
    """Images in a second of this clock."""
    assert callable(run)
    run(images)  # caches are those of another model
    done, start = 0, clock()
    while clock() - start < SECONDS:
        run(images)
        done += len(images)
    return done / (clock() - start)


def _name_processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            flags = Path("/proc/cpuinfo").read_text()
            kinds = [kind for kind in ("avx512_vnni", "avx_vnni", "amx_int8") if kind in flags]
            return f"{line.partition(':')[2].strip()} ({', '.join(kinds) or 'AVX2, no VNNI'})"
    return platform.processor()


if __name__ == "__main__":
    sys.exit(main())
