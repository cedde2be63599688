# SPDX-License-Identifier: Apache-2.0
"""Weights, checkpoints and exported folders of strangers through the commands that read them: one
error within seconds, and nothing is written beside them."""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytestmark = pytest.mark.usefixtures("alarm")

Run = Callable[..., tuple[int, str]]
Make = Callable[[Path], object]
MEGABYTES = 300


def pickled(change: Callable[[dict[str, np.ndarray]], Any]) -> Make:
    """Replaces the file with its content, changed."""

    def make(path: Path) -> None:
        content = pickle.loads(path.read_bytes()) if path.suffix == ".pdparams" else {}
        put(path, pickle.dumps(change(content), protocol=4))

    return make


def put(path: Path, content: bytes) -> None:
    path.unlink()  # a hard link to the file of a run that tests share
    path.write_bytes(content)


def with_first(value: Callable[[np.ndarray], Any]) -> Make:
    def change(content: dict[str, np.ndarray]) -> dict[str, Any]:
        name = next(iter(content))
        return content | {name: value(content[name])}

    return pickled(change)


def filled(number: complex, kind: str) -> Make:
    return with_first(lambda old: np.full(old.shape, number, kind))


def raw(content: bytes) -> Make:
    return lambda path: put(path, content)


def special(make: Callable[[Path], object]) -> Make:
    def replace(path: Path) -> None:
        path.unlink()
        make(path)

    return replace


def make_sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 100 << 30)


def make_tensors(entries: dict[str, Any], data: bytes = bytes(64), size: int | None = None) -> Make:
    """A .safetensors file in the place of the weights: its content tells what it is."""
    table = json.dumps(entries).encode()
    return raw(struct.pack("<Q", len(table) if size is None else size) + table + data)


def nested(path: Path) -> None:
    """A list of ten lists of ten lists of ... 12 deep: 10^12 elements in 300 bytes."""
    inner = b"]"
    for number in range(12):
        inner = b"](" + inner + b"q%c" % number + b"h%c" % number * 9 + b"e"
    put(path, b"\x80\x02}X\x01\x00\x00\x00a" + inner + b"s.")


def reshaped(shape: tuple[int, ...]) -> Make:
    """The pickle of an array whose shape is another one than its numbers have."""

    def make(path: Path) -> None:
        content = pickle.loads(path.read_bytes())
        name = next(iter(content))
        text = pickle.dumps({name: np.zeros((1, 7), np.float32)}, protocol=2)
        old = b"K\x01K\x07\x86"
        assert text.count(old) == 1
        new = b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", side) for side in shape) + b"t"
        put(path, text.replace(old, new))

    return make


def entry(shape: list[int], offsets: list[int], kind: str = "F32") -> dict[str, Any]:
    return {"dtype": kind, "shape": shape, "data_offsets": offsets}


SHARED = np.zeros(1 << 18, np.uint16)

BAD_FILES: dict[str, Make] = {
    "memo of 500,000,000": raw(b"\x80\x04}r\xff\xff\xff\x1d."),
    "nested references": nested,
    "one buffer for 10,000 arrays": pickled(
        lambda _: dict.fromkeys(map(str, range(10_000)), SHARED)
    ),
    "1e300": filled(1e300, "f8"),
    "nan": filled(np.nan, "f4"),
    "texts": with_first(lambda old: np.full(old.shape, "x")),
    "objects": with_first(lambda old: np.full(old.shape, None)),
    "complex": filled(1j, "c8"),
    "no entry with its shape": pickled(lambda old: {name: np.zeros(2, "f4") for name in old}),
    "a negative shape": reshaped((-1, -7)),
    "a huge shape": reshaped((1 << 40, 1 << 22)),
    "shape and numbers differ": reshaped((3, 5)),
    "truncated": lambda path: put(path, path.read_bytes()[:-1000]),
    "empty": raw(b""),
    "a folder": special(Path.mkdir),
    "a named pipe": special(os.mkfifo),
    "/dev/zero": special(lambda path: path.symlink_to("/dev/zero")),
    "100 GB that were never written": special(make_sparse),
    "foreign code": raw(b"cos\nsystem\n(S'touch hacked'\ntR."),
    "table of 2^63 bytes": make_tensors({}, size=1 << 63),
    "table longer than the file": make_tensors({}, size=1 << 26),
    "overlapping entries": make_tensors({"a": entry([16], [0, 64]), "b": entry([16], [0, 64])}),
    "numbers outside": make_tensors({"a": entry([1 << 40], [0, 1 << 42])}),
    "negative offsets": make_tensors({"a": entry([16], [-64, 0])}),
    "shapes that overflow": make_tensors({"a": entry([1 << 32, 1 << 32], [0, 64])}),
    "unknown type": make_tensors({"a": entry([16], [0, 64], "F99")}),
    "deep table": raw(struct.pack("<Q", 100_000) + b'{"a":' + b"[" * 99_995),
}


def list_files(folder: Path) -> dict[str, tuple[int, int]]:
    """All files of a folder with their size and time; locks come and go."""
    found = (path for path in folder.rglob("*") if not path.name.endswith(".lock"))
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in found}


def check(run: Run, before: dict[str, Any], folder: Path, *words: Any) -> str:
    """Run a command, which must end with one error and change nothing in `folder`."""
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    code, err = run(*words)
    assert code == 2, err
    assert "Traceback" not in err
    assert err.count("rror:") == 1 or err.count("  fix") == 1, err
    assert list_files(folder) == before
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) >> 10
    assert grown < MEGABYTES, f"{grown} MB"
    return err


@pytest.mark.parametrize("kind", BAD_FILES)
@pytest.mark.parametrize("mode", ["train", "evaluate", "export"])
def test_bad_weights_end_a_command(
    kind: str, mode: str, run: Run, toy: Path, toy_run: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "given" / "weights.pdparams"
    weights.parent.mkdir()
    shutil.copy(toy_run / "best_model" / "best_model.pdparams", weights)
    BAD_FILES[kind](weights)
    key = {
        "train": "Train.pretrain_weight_path",
        "evaluate": "Evaluate.weight_path",
        "export": "Export.weight_path",
    }[mode]
    before = list_files(weights.parent)
    check(run, before, weights.parent, mode, toy, tmp_path / "output", f"{key}={weights}")


BYTES = (
    *("memo of 500,000,000", "nested references", "truncated", "empty", "a folder", "foreign code"),
    *("a named pipe", "/dev/zero", "100 GB that were never written", "table longer than the file"),
)
"""Kinds that are bad whatever a file should hold."""


@pytest.mark.parametrize("kind", BYTES)
@pytest.mark.parametrize("part", ["pdparams", "pdema", "pdopt", "pdstates"])
def test_a_bad_part_of_a_checkpoint_ends_a_resume(
    part: str, kind: str, run: Run, toy: Path, copy_of_run: Path, tmp_path: Path
) -> None:
    latest = copy_of_run / "latest"
    BAD_FILES[kind](latest / f"latest.{part}")
    before = list_files(copy_of_run)
    check(run, before, copy_of_run, "train", toy, tmp_path / "new", f"Train.resume_path={latest}")


@pytest.mark.parametrize("kind", ["empty", "a named pipe", "100 GB that were never written"])
@pytest.mark.parametrize("part", ["pdparams", "pdstates"])
def test_a_resume_goes_on_from_the_sound_checkpoint_beside_a_bad_one(
    part: str, kind: str, run: Run, toy: Path, copy_of_run: Path
) -> None:
    BAD_FILES[kind](copy_of_run / "latest" / f"latest.{part}")
    code, err = run("train", toy, copy_of_run, "Train.resume_path=auto")
    assert code == 0, err
    assert "not resumed from a newer checkpoint" in err


def change_states(**changes: Any) -> Make:
    def make(path: Path) -> None:
        content = pickle.loads(path.read_bytes())
        for key, value in changes.items():
            place = content
            *outer, last = key.split("__")
            for name in outer:
                place = place[name]
            place[last] = value
        put(path, pickle.dumps(content, protocol=4))

    return make


STATES: dict[str, Make] = {
    "an epoch that is a text": change_states(progress__epoch="1"),
    "an epoch before the first": change_states(progress__epoch=-1),
    "an epoch of 10^30": change_states(progress__epoch=10**30),
    "a step that is a number with a point": change_states(progress__step=1.5),
    "a loss of nan": change_states(progress__loss_sum=float("nan")),
    "folders outside": change_states(progress__saved_epochs=["x/../../victim", 1]),
    "a history of texts": change_states(progress__history=["a"]),
    "a best without a score": change_states(progress__best={"epoch": 1}),
    "a best of infinity": change_states(
        progress__best={"epoch": 1, "score": float("inf"), "weights": "raw"}
    ),
    "settings that are a list": change_states(settings=[]),
    "use_ema that is a number": change_states(use_ema=3),
    "raw weights that are texts": change_states(use_ema=True, raw_weights={"a": "b"}),
    "no progress": change_states(progress=None),
    "checksums of other files": change_states(checksums={"/../../x": (1, 2)}),
    "checksums that are texts": change_states(checksums={".pdparams": ("a", "b")}),
    "a model of another type": change_states(card__model=7),
    "an unknown model": change_states(card__model="../../x"),
    "class names that are numbers": change_states(card__label_names=[1, 2, 3]),
    "100,000 class names": change_states(card__label_names=[str(n) for n in range(100_000)]),
    "no class names": change_states(card__label_names=[]),
    "images of 10^9 pixels": change_states(card__image_size=10**9),
    "tokens that are a number": change_states(card__decoder_tokens=5),
    "a run that is a text": change_states(card__run="x"),
    "format version 10^20": change_states(format_version=10**20),
    "format version of a text": change_states(format_version="x"),
}


@pytest.mark.parametrize("kind", STATES)
def test_odd_states_end_a_resume(
    kind: str, run: Run, toy: Path, copy_of_run: Path, tmp_path: Path
) -> None:
    latest = copy_of_run / "latest"
    STATES[kind](latest / "latest.pdstates")
    before = list_files(copy_of_run)
    check(run, before, copy_of_run, "train", toy, tmp_path / "new", f"Train.resume_path={latest}")


MODELS = [kind for kind in STATES if "class names" in kind or "model" in kind or "images" in kind]


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("mode", ["evaluate", "export"])
def test_odd_states_beside_the_weights_end_a_command(
    kind: str, mode: str, run: Run, toy: Path, copy_of_run: Path, tmp_path: Path
) -> None:
    STATES[kind](copy_of_run / "best_model" / "best_model.pdstates")
    weights = copy_of_run / "best_model" / "best_model.pdparams"
    key = "Evaluate.weight_path" if mode == "evaluate" else "Export.weight_path"
    before = list_files(copy_of_run)
    check(run, before, copy_of_run, mode, toy, tmp_path / "new", f"{key}={weights}")


@pytest.mark.parametrize("kind", BYTES)
@pytest.mark.parametrize("part", ["inference.json", "inference.pdiparams", "inference.yml"])
def test_a_bad_file_of_an_exported_folder_ends_a_prediction(
    part: str, kind: str, run: Run, toy: Path, copy_of_run: Path, tmp_path: Path
) -> None:
    folder = copy_of_run / "best_model" / "inference"
    BAD_FILES[kind](folder / part)
    before = list_files(copy_of_run)
    words = f"Predict.model_dir={folder}", f"Predict.input={toy / 'images' / 'val_0.png'}"
    check(run, before, copy_of_run, "predict", None, tmp_path / "new", *words)


@pytest.mark.parametrize("kind", [kind for kind in BYTES if kind != "truncated"])
def test_a_bad_onnx_file_ends_a_prediction(
    kind: str, run: Run, toy: Path, toy_run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    shutil.copy(toy_run / "best_model" / "inference" / "inference.yml", folder)
    (folder / "inference.onnx").touch()
    BAD_FILES[kind](folder / "inference.onnx")
    words = f"Predict.model_dir={folder}", f"Predict.input={toy / 'images' / 'val_0.png'}"
    check(run, list_files(folder), folder, "predict", None, tmp_path / "new", *words)


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(9 * [f'*{before}'])}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def described(place: str, value: Any) -> Make:
    """Replaces one value of the description; `place` is its keys, with "/" between."""

    def make(path: Path) -> None:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        *outer, last = [int(key) if key.isdecimal() else key for key in place.split("/")]
        inner = content
        for key in outer:
            inner = inner[key]
        inner[last] = value
        put(path, yaml.safe_dump(content).encode())

    return make


THRESHOLD = "PostProcess/MultiLabelThreshOutput/threshold"
LABELS = "PostProcess/MultiLabelThreshOutput/label_list"
RESIZE = "PreProcess/transform_ops/0/ResizeImage/size"
NORMALISE = "PreProcess/transform_ops/1/NormalizeImage"
DESCRIPTIONS: dict[str, Make] = {
    "aliases that multiply": raw(LAUGHS.encode()),
    "900 deep": raw(b"[" * 900 + b"]" * 900),
    "an odd tag": raw(b"Global: !!python/object/apply:os.system [touch hacked]"),
    "a number that is none": raw(b"Global: !!float x"),
    "two megabytes": raw(b"a" * (2 << 20)),
    "a standard deviation of 0": described(f"{NORMALISE}/std", [0, 0, 0]),
    "a mean of nan": described(f"{NORMALISE}/mean", [float("nan")] * 3),
    "an infinite scale": described(f"{NORMALISE}/scale", float("inf")),
    "a mean of texts": described(f"{NORMALISE}/mean", ["a", "b", "c"]),
    "a size of 10^9": described(RESIZE, 10**9),
    "a size of 0": described(RESIZE, [0, 32]),
    "a size that is a list of lists": described(RESIZE, [[32], [32]]),
    "thresholds of texts": described(THRESHOLD, ["a", "b", "c"]),
    "a threshold of nan": described(THRESHOLD, float("nan")),
    "a threshold of 2": described(THRESHOLD, 2),
    "thresholds by odd names": described(THRESHOLD, {"red": [0.5], 7: {}}),
    "two thresholds for three classes": described(THRESHOLD, [0.5, 0.5]),
    "two names for three classes": described(LABELS, ["red", "green"]),
    "100,000 names for three classes": described(LABELS, [str(n) for n in range(100_000)]),
    "names that are lists": described(LABELS, [["red"], ["green"], ["blue"]]),
    "no names": described(LABELS, []),
    "names that are one text": described(LABELS, "red"),
    "operators that are a text": described("PreProcess/transform_ops", "x"),
    "sections that are lists": raw(b"Global: [1]\nPreProcess: [1]\nPostProcess: [1]\n"),
}


@pytest.mark.parametrize("kind", DESCRIPTIONS)
def test_an_odd_description_of_a_model_ends_a_prediction(
    kind: str, run: Run, toy: Path, copy_of_run: Path, tmp_path: Path
) -> None:
    folder = copy_of_run / "best_model" / "inference"
    DESCRIPTIONS[kind](folder / "inference.yml")
    before = list_files(copy_of_run)
    words = f"Predict.model_dir={folder}", f"Predict.input={toy / 'images' / 'val_0.png'}"
    check(run, before, copy_of_run, "predict", None, tmp_path / "new", *words)
    assert not Path("hacked").exists()
