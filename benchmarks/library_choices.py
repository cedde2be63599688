# SPDX-License-Identifier: Apache-2.0
"""Measures what a library would cost or give where this project has code of its own.

    python benchmarks/library_choices.py --work /a/folder    prints the tables of docs/decisions.md

The libraries get an environment of their own in --work (300 MB, made once): they are no
dependencies. Ours and theirs take turns, each in fresh processes; shown are medians.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import platform
import statistics
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = (
    "pydantic==2.14.4",
    "PyYAML",
    "iterative-stratification==0.1.9",
    "scikit-multilearn==0.2.0",
    "scikit-learn",
    "pycocotools==2.0.11",
    "ImageHash==4.3.2",
)
# Every script prints one line of JSON: seconds, MiB at most, and what else it has to say.
_HEAD = """
import json, sys, time
sys.path.insert(0, {root!r})
def answer(seconds, **more):
    (peak,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(json.dumps(dict(seconds=seconds, mib=int(peak.split()[1]) / 1024, **more)))
"""
_CONFIG_OURS = """
begin = time.perf_counter()
from pathlib import Path
from paddlex_ml.config import load
from paddlex_ml.errors import PaddlexMLError
load.load(Path(sys.argv[1]), to_run=False)
seconds = time.perf_counter() - begin
try:
    load.load(Path(sys.argv[1]), ["Global.mode=train", *json.loads(sys.argv[2])])
    told = ""
except PaddlexMLError as error:
    told = str(error)
answer(seconds, told=told)
"""
_CONFIG_PYDANTIC = """
begin = time.perf_counter()
from typing import Literal
import pydantic, yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
document = yaml.safe_load(open(sys.argv[1]))
class Section(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)
class Train(Section):
    model_config = ConfigDict(extra="forbid", frozen=True)
    batch_size: int = Field(32, ge=1)
    learning_rate: float = Field(1e-4, gt=0, le=0.01)
    sync_bn: bool = False
    lr_schedule: Literal["cosine", "one_cycle"] = "cosine"
class Config(BaseModel):
    Global: Section
    Train: Section
Config(**document)
seconds = time.perf_counter() - begin
raw = {}
for text in json.loads(sys.argv[2]):
    key, _, value = text.partition("=")
    raw[key.split(".")[1]] = yaml.safe_load(value)
try:
    Train(**raw)
    told = ""
except ValidationError as error:
    told = str(error)
answer(seconds, told=told)
"""
_SPLIT = """
import numpy as np
targets = np.load(sys.argv[1])
{prepare}
begin = time.perf_counter()
{split}
seconds = time.perf_counter() - begin
val = np.asarray(val, bool)
counts = targets.sum(axis=0)
both = (targets[val].sum(axis=0) > 0) & (targets[~val].sum(axis=0) > 0)
shares = targets[val].sum(axis=0) / np.maximum(counts, 1)
answer(
    seconds,
    one_sided=int((~both & (counts >= 2)).sum()),
    spread=float(np.abs(shares - 0.2)[counts >= 50].max()),
    size=float(val.mean()),
)
"""
_SPLIT_WAYS = {
    "ours": (
        "from paddlex_ml.data.stratify import choose_by_class",
        "val = choose_by_class(targets, np.arange(len(targets)), 20, 0)",
    ),
    "iterative-stratification": (
        "from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit",
        "way = MultilabelStratifiedShuffleSplit(1, test_size=0.2, random_state=0)\n"
        "_, chosen = next(way.split(targets, targets))\n"
        "val = np.zeros(len(targets), bool); val[chosen] = True",
    ),
    "scikit-multilearn": (
        "from skmultilearn.model_selection import IterativeStratification\nnp.random.seed(0)",
        "way = IterativeStratification(n_splits=2, order=1,"
        " sample_distribution_per_fold=[0.2, 0.8])\n"
        "_, chosen = next(way.split(targets, targets))\n"
        "val = np.zeros(len(targets), bool); val[chosen] = True",
    ),
}
_COCO_OURS = """
from pathlib import Path
from paddlex_ml.formats import coco
from paddlex_ml.formats.collector import Options
begin = time.perf_counter()
source = coco.read(Path(sys.argv[1]), Options())
answer(time.perf_counter() - begin, images=sum(len(i) for i in source.lists.values()))
"""
_COCO_PYCOCOTOOLS = """
import contextlib, io
from pycocotools.coco import COCO
begin = time.perf_counter()
total = 0
for name in ("train", "val"):
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(f"{sys.argv[1]}/annotations/instance_{name}.json")
    ids = coco.getImgIds()
    labels = [{a["category_id"] for a in coco.imgToAnns[i]} for i in ids]
    total += len(labels)
answer(time.perf_counter() - begin, images=total)
"""
_METRICS = """
import numpy as np
data = np.load(sys.argv[1])
scores, targets = data["scores"], data["targets"]
{prepare}
begin = time.perf_counter()
values = {compute}
answer(time.perf_counter() - begin, values=[float(v) for v in values])
"""
_METRIC_WAYS = {
    "ours": (
        "from paddlex_ml.metrics.average_precision import average_precision",
        "average_precision(scores, targets)",
    ),
    "scikit-learn": (
        "from sklearn.metrics import average_precision_score",
        "average_precision_score(targets, scores, average=None)",
    ),
}
_HASHES = """
import numpy as np
from PIL import Image
{prepare}
images = [Image.fromarray(values) for values in np.load(sys.argv[1])]
begin = time.perf_counter()
bits = [{compute} for image in images]
answer(time.perf_counter() - begin, bits=np.packbits(bits).tobytes().hex())
"""
_HASH_WAYS = {
    "ours": (
        "from paddlex_ml.data.inspect_images import perceptual_hash",
        "np.unpackbits(np.frombuffer(perceptual_hash(np.asarray(image)), np.uint8))",
    ),
    "ImageHash": ("import imagehash", "imagehash.phash(image).hash.ravel()"),
}
_WEIGHTS = {
    "ours": """
from pathlib import Path
from paddlex_ml import paddle_runtime
from paddlex_ml.errors import PaddlexMLError
paddle_runtime.prepare()
from paddlex_ml.artifacts import weights
begin = time.perf_counter()
weights.read(Path(sys.argv[1]))
seconds = time.perf_counter() - begin
try:
    weights.read(Path(sys.argv[2]))
except PaddlexMLError as error:
    pass
answer(seconds)
""",
    "paddle.load": """
import contextlib, warnings
warnings.filterwarnings("ignore")
import paddle
begin = time.perf_counter()
paddle.load(sys.argv[1], return_numpy=True)
seconds = time.perf_counter() - begin
with contextlib.suppress(Exception):
    paddle.load(sys.argv[2], return_numpy=True)
answer(seconds)
""",
}
_MISTAKES = [
    "Train.batch_sise=8",
    "Train.learning_rate=0.5",
    "Train.sync_bn=T",
    "Train.lr_schedule=cosin",
]


class _Marker:
    """A pickle of this makes a folder when it is read without restrictions: harmless proof."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def main() -> int:
    """Measure all and print the tables in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=10_000, help="of the split and the COCO file")
    arguments = parser.parse_args()
    work, rounds = arguments.work.absolute(), arguments.rounds
    python = _environment(work / "libraries")
    data = work / "data"
    data.mkdir(exist_ok=True)
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print(_configuration(python, rounds))
    print(_splits(python, data, arguments.images, rounds))
    print(_coco(python, data, arguments.images, rounds))
    print(_metrics(python, data, rounds))
    print(_hashes(python, data, rounds))
    print(_weights(data, rounds))
    return 0


def _environment(folder: Path) -> str:
    """Python of an environment with the libraries, made if it is not there."""
    python = folder / "bin" / "python"
    if not (folder / "complete").is_file():
        venv.create(folder, clear=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *LIBRARIES], check=True)
        (folder / "complete").touch()
    return str(python)


def _turns(ways: dict[str, list[str]], rounds: int) -> dict[str, dict[str, Any]]:
    """Run every way in turns; its last answer with the medians of seconds and memory."""
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, command in ways.items():
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            answers[name].append(json.loads(done.stdout.splitlines()[-1]))
    return {
        name: each[-1] | {k: statistics.median(a[k] for a in each) for k in ("seconds", "mib")}
        for name, each in answers.items()
    }


def _code(text: str) -> str:
    return _HEAD.format(root=str(ROOT)) + text


def _configuration(python: str, rounds: int) -> str:
    folder = ROOT / "configs" / "modules" / "image_multilabel_classification"
    arguments = [str(folder / "PP-LCNet_x1_0_ML.yaml"), json.dumps(_MISTAKES)]
    found = _turns(
        {
            "ours": [sys.executable, "-c", _code(_CONFIG_OURS), *arguments],
            "pydantic": [python, "-c", _code(_CONFIG_PYDANTIC), *arguments],
        },
        rounds,
    )
    rows = [
        "| | import and load, s | mistakes found | of these with a repair |",
        "|---|---|---|---|",
    ]
    for name, each in found.items():
        named = [text.partition("=")[0].split(".")[1] for text in _MISTAKES]
        seen = sum(key in each["told"] for key in named)
        fixes = [line for line in each["told"].splitlines() if line.lstrip().startswith("fix:")]
        rows.append(
            f"| {name} | {each['seconds']:.2f} | {seen} of {len(named)} "
            f"| {sum('-o Train.' in line or 'write ' in line for line in fixes)} |"
        )
    return "\n".join(["Four mistakes on one command line:", "", *rows, ""])


def _splits(python: str, data: Path, images: int, rounds: int) -> str:
    rng = np.random.default_rng(0)
    rates = 0.25 * np.exp(-np.arange(80) / 10)  # from a quarter of the images to a few of them
    targets = (rng.random((images, 80)) < rates).astype(np.uint8)
    np.save(data / "targets.npy", targets)
    ways = {
        name: [
            sys.executable if name == "ours" else python,
            "-c", _code(_SPLIT.format(prepare=prepare, split=split)), str(data / "targets.npy"),
        ]
        for name, (prepare, split) in _SPLIT_WAYS.items()
    }  # fmt: skip
    found = _turns(ways, rounds)
    rows = [
        "| | seconds | classes of two or more images on one side only | largest error of a share "
        "(classes of 50 and more) | val |",
        "|---|---|---|---|---|",
    ]
    for name, each in found.items():
        rows.append(
            f"| {name} | {each['seconds']:.2f} | {each['one_sided']} | {each['spread']:.3f} "
            f"| {each['size']:.1%} |"
        )
    head = f"20 % of {images:,} images, 80 classes with a long tail:"
    return "\n".join([head, "", *rows, ""])


def _coco(python: str, data: Path, images: int, rounds: int) -> str:
    root = data / "coco"
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "images").mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for name, count in (("train", images), ("val", images // 10)):
        names = [f"{name}{i:07d}.jpg" for i in range(count)]
        boxes = []
        for k in range(7 * count):
            polygon = rng.random(40).round(2).tolist()
            boxes.append(
                {
                    "id": k + 1, "image_id": int(rng.integers(1, count + 1)),
                    "category_id": int(rng.integers(1, 81)), "bbox": [0, 0, 9, 9], "area": 81,
                    "iscrowd": 0, "segmentation": [polygon],
                }
            )  # fmt: skip
        content = {
            "images": [{"id": i, "file_name": n} for i, n in enumerate(names, 1)],
            "annotations": boxes,
            "categories": [{"id": i, "name": f"class {i}"} for i in range(1, 81)],
        }
        (root / "annotations" / f"instance_{name}.json").write_text(json.dumps(content))
        for file in names:
            (root / "images" / file).touch()
    size = sum(path.stat().st_size for path in (root / "annotations").iterdir())
    found = _turns(
        {
            "ours": [sys.executable, "-c", _code(_COCO_OURS), str(root)],
            "pycocotools": [python, "-c", _code(_COCO_PYCOCOTOOLS), str(root)],
        },
        rounds,
    )
    rows = ["| | seconds | peak memory, MiB |", "|---|---|---|"]
    rows += [f"| {name} | {x['seconds']:.2f} | {x['mib']:.0f} |" for name, x in found.items()]
    return "\n".join(
        [f"{size / 1e6:.0f} MB of annotations, until labels are known:", "", *rows, ""]
    )


def _metrics(python: str, data: Path, rounds: int) -> str:
    rng = np.random.default_rng(0)
    targets = (rng.random((40_000, 80)) < 0.036).astype(np.uint8)
    scores = np.round(rng.random(targets.shape) * 0.7 + targets * 0.3, 3).astype(np.float32)
    np.savez(data / "scores.npz", scores=scores, targets=targets)
    ways = {
        name: [
            sys.executable if name == "ours" else python,
            "-c", _code(_METRICS.format(prepare=prepare, compute=compute)),
            str(data / "scores.npz"),
        ]
        for name, (prepare, compute) in _METRIC_WAYS.items()
    }  # fmt: skip
    found = _turns(ways, rounds)
    ours, theirs = (np.array(found[name]["values"]) for name in _METRIC_WAYS)
    rows = ["| | seconds | peak memory, MiB |", "|---|---|---|"]
    rows += [f"| {name} | {x['seconds']:.2f} | {x['mib']:.0f} |" for name, x in found.items()]
    head = "Average precision, 40,000 images x 80 classes, scores with many ties:"
    difference = f"Largest difference: {np.abs(ours - theirs).max():.1e}."
    return "\n".join([head, "", *rows, "", difference, ""])


def _hashes(python: str, data: Path, rounds: int) -> str:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (10_000, 8, 8)).repeat(4, axis=1).repeat(4, axis=2)
    noise = rng.integers(0, 8, coarse.shape)
    np.save(data / "grey.npy", np.clip(coarse + noise, 0, 255).astype(np.uint8))
    ways = {
        name: [
            sys.executable if name == "ours" else python,
            "-c", _code(_HASHES.format(prepare=prepare, compute=compute)), str(data / "grey.npy"),
        ]
        for name, (prepare, compute) in _HASH_WAYS.items()
    }  # fmt: skip
    found = _turns(ways, rounds)
    ours, theirs = (bytes.fromhex(found[name]["bits"]) for name in _HASH_WAYS)
    rows = ["| | seconds | peak memory, MiB |", "|---|---|---|"]
    rows += [f"| {name} | {x['seconds']:.2f} | {x['mib']:.0f} |" for name, x in found.items()]
    head = "Perceptual hashes of 10,000 images of 32 x 32:"
    bits = np.unpackbits(np.frombuffer(ours, np.uint8) ^ np.frombuffer(theirs, np.uint8)).sum()
    return "\n".join([head, "", *rows, "", f"Bits that differ: {bits} of {8 * len(ours):,}.", ""])


def _weights(data: Path, rounds: int) -> str:
    rng = np.random.default_rng(0)
    arrays = {f"layer{i}.weight": rng.random((1024, 1024), np.float32) for i in range(25)}
    good, bad, marker = data / "good.pdparams", data / "bad.pdparams", data / "code_ran"
    good.write_bytes(pickle.dumps(arrays, 4))
    bad.write_bytes(pickle.dumps({"a": _Marker(marker)}, 4))
    rows = ["| | seconds for 105 MB | code of a hostile file ran |", "|---|---|---|"]
    ways = {
        name: [sys.executable, "-c", _code(code), str(good), str(bad)]
        for name, code in _WEIGHTS.items()
    }
    for name, command in ways.items():
        if marker.is_dir():
            marker.rmdir()
        found = _turns({name: command}, rounds)[name]
        rows.append(f"| {name} | {found['seconds']:.2f} | {'yes' if marker.is_dir() else 'no'} |")
    return "\n".join(["Reading weights:", "", *rows, ""])


if __name__ == "__main__":
    sys.exit(main())
