# SPDX-License-Identifier: Apache-2.0
"""One exported model, the same photographs, two programs: PaddleX and ours. Scores and times.

    python benchmarks/paddlex_exchange.py --work DIR --data DIR [--model-dir DIR] [--rounds 3]

DIR of --data holds natural_scenes (MLClsDataset), coco_mini_open/label.txt with 80 names, and
weights/PPLCNet_x1_0_doc_ori.pdparams. PaddleX gets an environment of its own in --work (1.8 GB,
made once). Without --model-dir a PP-LCNet at 448 px is exported there: those weights as its
backbone, random ones as its head, for the scores need only differ from image to image. PaddleX runs
as its users run it, by `create_model` and as a pipeline. Times are those of whole processes, from
start to exit, over the first 200 photographs, the results as JSON; the programs take turns, so that
a noisy machine disturbs all alike, and the table shows medians. `cpu` is the work of all threads.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PEER = ("paddlex[cv]==3.7.2", "paddlepaddle==3.3.1")
NAME = "PP-LCNet_x1_0_ML"
_EXPORT = """
import sys
from pathlib import Path
import paddle
from paddlex_ml.data import annotation
from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.artifacts import inference_yml
from paddlex_ml.export.static import save_static
from paddlex_ml.artifacts import weights
from paddlex_ml.models import zoo
name, labels, start, folder = sys.argv[1], *map(Path, sys.argv[2:])
names = annotation.read_labels(labels)
paddle.seed(0)
model = zoo.build(name, len(names))
weights.fit(model, weights.read(start), head="fc.", where=str(start))
save_static(model, ModelInfo(name, names, 448, None), folder)
# As after an evaluation that saved its thresholds: PaddleX must read the folder still.
inference_yml.set_thresholds(folder / "inference.yml", [0.3] * len(names), 0.5)
"""
_OURS = """
import json, sys
from paddlex_ml import create_model
task = json.load(open(sys.argv[1]))
model = create_model(task["name"], model_dir=task["folder"], device="cpu")
found = model.predict(task["photos"], batch_size=task["batch"], **task["more"])
json.dump([result.json["res"] for result in found], open(task["output"], "w"))
"""
_BY_NAME = """
import json, sys
from paddlex import create_model
task = json.load(open(sys.argv[1]))
model = create_model(model_name=task["name"], model_dir=task["folder"], device="cpu")
found = model.predict(task["photos"], batch_size=task["batch"], **task["more"])
json.dump([result.json["res"] for result in found], open(task["output"], "w"))
"""
_PIPELINE = """
import json, sys
from paddlex import create_pipeline
task = json.load(open(sys.argv[1]))
part = {"module_name": "image_multilabel_classification", "model_name": task["name"],
        "model_dir": task["folder"], "batch_size": task["batch"]}
kind = {"pipeline_name": "image_multilabel_classification",
        "SubModules": {"ImageMultiLabelClassification": part}}
pipeline = create_pipeline(config=kind, device="cpu")
found = pipeline.predict(task["photos"], **task["more"])
json.dump([result.json["res"] for result in found], open(task["output"], "w"))
"""
PROGRAMS = {"ours": _OURS, "PaddleX create_model": _BY_NAME, "PaddleX pipeline": _PIPELINE}
Result = dict[str, Any]
Times = tuple[float, float]  # seconds from start to exit, seconds of CPU


def main() -> int:
    """Prepare what is missing, compare, print."""
    arguments = _arguments()
    work = arguments.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    peer = _environment(work / "paddlex")
    folder = arguments.model_dir or _export(work / "inference", arguments.data)
    images = sorted((arguments.data / "natural_scenes" / "images").iterdir())
    photos = [str(path.absolute()) for path in images[: arguments.photos]]
    name = _name(folder)
    print(f"{name} of {folder}, {len(photos)} photographs; {platform.machine()}, {_machine()}")
    print("| program | batch | largest score difference | same labels | seconds | cpu | speed |")
    print("|---|---|---|---|---|---|---|")
    for batch in arguments.batches:
        task = {"name": name, "folder": str(folder.absolute()), "photos": photos, "batch": batch}
        _compare(task, peer, work, arguments.rounds)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model-dir", type=Path)
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    return parser.parse_args()


def _environment(folder: Path) -> str:
    """Python of an environment with PaddleX, made if it is not there."""
    python = folder / "bin" / "python"
    if not (folder / "complete").is_file():
        venv.create(folder, clear=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PEER], check=True)
        (folder / "complete").touch()
    return str(python)


def _export(folder: Path, data: Path) -> Path:
    start = data / "weights" / "PPLCNet_x1_0_doc_ori.pdparams"
    labels = data / "coco_mini_open" / "label.txt"
    command = [sys.executable, "-c", _EXPORT, NAME, *map(str, (labels, start, folder))]
    subprocess.run(command, check=True, env=_variables(), stderr=subprocess.DEVNULL)
    return folder


def _name(folder: Path) -> str:
    lines = (folder / "inference.yml").read_text(encoding="utf-8").splitlines()
    return next(line.split(":")[1].strip() for line in lines if "model_name:" in line)


def _compare(task: Mapping[str, Any], peer: str, work: Path, rounds: int) -> None:
    """Print a row per program: one run with all scores, `rounds` timed ones as users have them."""
    pythons = {program: sys.executable if program == "ours" else peer for program in PROGRAMS}
    every = {"threshold": 0.0}
    scores = {"ours": _run("ours", sys.executable, {**task, "more": every}, work)[1]}
    if len(scores["ours"][0]["label_names"]) < task["batch"]:
        print(f"| PaddleX | {task['batch']} | mixes up the images of a batch > classes | | | | |")
        return
    for program, python in pythons.items():
        scores[program] = _run(program, python, {**task, "more": every}, work)[1]
    times: dict[str, list[Times]] = {program: [] for program in PROGRAMS}
    labels: dict[str, list[Result]] = {}
    for _ in range(rounds):
        for program, python in pythons.items():
            spent, labels[program] = _run(program, python, {**task, "more": {}}, work)
            times[program].append(spent)
    ours = statistics.median(seconds for seconds, _ in times["ours"])
    for program in PROGRAMS:
        pairs = zip(labels["ours"], labels[program], strict=True)
        same = sum(set(mine["label_names"]) == set(theirs["label_names"]) for mine, theirs in pairs)
        difference = "" if program == "ours" else f"{_largest(scores['ours'], scores[program]):.0e}"
        seconds, work_done = map(statistics.median, zip(*times[program], strict=True))
        print(
            f"| {program} | {task['batch']} | {difference} | {same} of {len(labels[program])} "
            f"| {seconds:.1f} | {work_done:.1f} | {ours / seconds:.2f} |",
            flush=True,
        )
    spread = [value for result in scores["ours"] for value in result["scores"]]
    print(f"(scores from {min(spread):.3f} to {max(spread):.3f})", file=sys.stderr)


def _run(program: str, python: str, task: Mapping[str, Any], work: Path) -> tuple[Times, Any]:
    """Times of the whole process, and its results."""
    output, description = work / "results.json", work / "task.json"
    description.write_text(json.dumps({**task, "output": str(output)}), encoding="utf-8")
    output.unlink(missing_ok=True)
    command = [python, "-c", PROGRAMS[program], str(description)]
    begin, before = time.perf_counter(), _cpu()
    done = subprocess.run(
        command, cwd=work, env=_variables(), capture_output=True, text=True, check=False
    )
    spent = (time.perf_counter() - begin, _cpu() - before)
    if done.returncode:
        raise SystemExit(f"{program}, batch {task['batch']}:\n{done.stderr[-2000:]}")
    return spent, json.loads(output.read_text(encoding="utf-8"))


def _cpu() -> float:
    """CPU seconds of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _variables() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PADDLE_PDX_DISABLE_MODEL_SOURCE_CHECK": "True"}


def _largest(ours: list[Result], theirs: list[Result]) -> float:
    """Largest difference of a score of the same image and class name."""
    largest = 0.0
    for pair in zip(ours, theirs, strict=True):
        mine, other = (dict(zip(row["label_names"], row["scores"], strict=True)) for row in pair)
        largest = max(largest, *(abs(mine[name] - other[name]) for name in mine))
    return largest


def _machine() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.is_file() else ""
    named = [line.split(":", 1)[1].strip() for line in text.splitlines() if "model name" in line]
    return f"{named[0] if named else platform.processor()}, {os.cpu_count()} cores"


if __name__ == "__main__":
    sys.exit(main())
