# SPDX-License-Identifier: Apache-2.0
"""Weights, the parts of a checkpoint, and a training that goes on from them."""

from __future__ import annotations

import pickle
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import paddle
from safetensors.numpy import save

from paddlex_ml.artifacts import checkpoint, weights
from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.artifacts.saved_states import Progress
from paddlex_ml.artifacts.train_result import Best, EpochRow
from paddlex_ml.engines.train import resume
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.training.ema import Ema
from paddlex_ml.training.optimizer import build_optimizer
from paddlex_ml.training.state import Training
from tests.fuzz.harness import Reader

_VALUES: dict[str, Any] = dict(
    **{"epoch": 1, "step": 3, "lr": 0.1, "loss": 2.5, "raw_map": 0.5, "ema_map": None},
    **{"images_per_second": 60.0, "data_wait": 0.5, "memory_mib": 1e3, "seconds": 10.0},
)
_ROW = EpochRow(**_VALUES)


def _new_training() -> Training:
    model = paddle.nn.Linear(3, 2)
    info = ModelInfo("linear", ["cat", "猫"], 32)
    optimizer = build_optimizer(model, weight_decay=0.0)
    settings = {"Train.batch_size": 8, "Train.amp": "OFF"}
    scaler = paddle.amp.GradScaler(enable=False)
    return Training(
        info, model, paddle.nn.Linear(3, 2), Ema(model, 0.9), optimizer, scaler, settings,
        Progress(epoch=1, step=2, best=Best(0.5, "raw", 1), history=[_ROW], saved_epochs=[1]),
    )  # fmt: skip


@cache
def _training() -> Training:
    """One for all inputs: a restore replaces all of it."""
    return _new_training()


@cache
def _files(*, use_ema: bool = False) -> dict[str, bytes]:
    """The files of a checkpoint by their suffixes."""
    with TemporaryDirectory() as folder:
        checkpoint.write(Path(folder, "latest"), _new_training().snapshot(use_ema=use_ema))
        paths = Path(folder, "latest").glob("latest.*")
        return {path.suffix: path.read_bytes() for path in paths}


def _write_pickles() -> list[bytes]:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "a.weight": rng.standard_normal((3, 4)).astype(np.float32),
        "b.bias": np.asfortranarray(rng.standard_normal((2, 3))).astype(np.float16),
        "c": np.arange(4, dtype=np.uint16),
        "d": ("d", np.zeros((), np.float64)),
        "StructuredToParameterName@@": {"a.weight": "linear_0.w_0"},
    }
    nested = {"a": [1, 2.5, None, True, "x", b"y"], "b": ("t", {"c": np.float64(1.5)})}
    return [pickle.dumps(value, n) for value in (arrays, nested) for n in range(6)]


def _write_safetensors() -> list[bytes]:
    arrays: dict[str, np.ndarray] = {
        "a.weight": np.ones((3, 4), np.float32),
        "b": np.arange(4, dtype=np.float16),
    }
    texts = {"model_name": "m", "label_names": '["cat", "dog"]', "image_size": "64", "run": "null"}
    return [save(arrays), save(arrays, texts), save({"a": np.zeros(0, np.float32)}, {"x": "y"})]


def _read_weights(folder: Path, content: bytes, *, suffix: str) -> object:
    path = folder / f"weights{suffix}"
    path.write_bytes(content)
    found = weights.read(path)
    if suffix == ".safetensors":
        checkpoint.read_embedded_model_info(path)
    model = _training().model
    try:
        weights.fit(model, found, head="head.", where=str(path))
    except PaddlexMLError as error:
        return error.what[:40]
    return sorted(str(array.dtype) for array in found.values())


def _put(folder: Path, given: dict[str, bytes]) -> Path:
    checkpoint_folder = folder / "latest"
    checkpoint_folder.mkdir()
    for suffix, content in given.items():
        (checkpoint_folder / f"latest{suffix}").write_bytes(content)
    return checkpoint_folder


def _go_on(folder: Path) -> object:
    training = _training()
    checkpoint.read_model_info(folder / "latest.pdparams")
    progress = checkpoint.read_progress(folder)
    saved = checkpoint.load(folder)
    resume.find_changed_lists(saved, training.info)
    training.restore(saved)
    resume.log(training, folder, saved.fingerprint, 3)
    checkpoint.write(folder.parent / "again" / "latest", training.snapshot())
    return None if progress is None else sorted(progress)


def _read_states(folder: Path, content: bytes) -> object:
    return _go_on(_put(folder, _files() | {".pdstates": content}))


def _read_optimizer(folder: Path, content: bytes) -> object:
    states = pickle.loads(_files()[".pdstates"])
    del states["checksums"]  # as release 0.1.0 wrote it
    given = {".pdstates": pickle.dumps(states, 4), ".pdopt": content}
    return _go_on(_put(folder, _files() | given))


def _write_states() -> list[bytes]:
    plain = pickle.loads(_files()[".pdstates"])
    oldest = {name: value for name, value in plain.items() if name != "format_version"}
    with_run = {**plain, "card": {**plain["card"], "run": {"id": "0" * 32, "digests": {}}}}
    with_ema = _files(use_ema=True)[".pdstates"]
    return [*(pickle.dumps(each, 4) for each in (plain, oldest, with_run)), with_ema]


_OPCODES = (
    *(b"\x80\x04", b"\x95\xff\xff\xff\xff\xff\xff\xff\xff", b"(", b"0", b"2", b"\x94", b"q\xff"),
    *(b"r\xff\xff\xff\x7f", b"j\xff\xff\xff\x7f", b"h\x00", b"h\x01", b"t", b"l", b"d", b"a", b"e"),
    *(
        b"s",
        b"u",
        b"cos\nsystem\n",
        b"cbuiltins\neval\n",
        b"\x93",
        b"R",
        b"b",
        b".",
        b"]",
        b"}",
        b")",
    ),
    *(
        b"N",
        b"\x88",
        b"K\x00",
        b"J\xff\xff\xff\xff",
        b"G" + b"\x7f\xf8" + bytes(6),
        b"I01\n",
        b"L9L\n",
    ),
    *(b"p0\n", b"g0\n", b"X\x00\x00\x00\x80", b"B\xff\xff\xff\xff", b"\x8c\x01a", b"\x85", b"\x86"),
    *(b"cnumpy\ndtype\n", b"cnumpy\nndarray\n", b"c_codecs\nencode\n", b"V\\ud800\n", b"F1e999\n"),
    *(
        b"cbuiltins\ntuple\n",
        b"ccollections\nOrderedDict\n",
        b"\x8a\xff",
        b"f4",
        b"O8",
        b"V16",
        b"M8",
    ),
    *(b"i", b"o", b"\x81", b"\x92", b"\x97", b"\x98", b"P0\n", b"Q", b"\x82\x01", b"S'\\x'\n"),
)
_TABLE = (
    *(
        b'"dtype":"F32"',
        b'"BF16"',
        b'"F8_E4M3"',
        b'"shape":[0]',
        b'"shape":[4294967296,4294967296]',
    ),
    *(b'"data_offsets":[0,8]', b'"__metadata__":{"a":"b"}', b'"model_name"', b'"label_names"'),
    *(b'"image_size":"2049"', b'"run":"{}"', b'"[1]"', b"\\ud800", b"[" * 3000),
)
READERS = [
    Reader("pdparams", partial(_read_weights, suffix=".pdparams"), _write_pickles, _OPCODES),
    Reader(
        "safetensors", partial(_read_weights, suffix=".safetensors"), _write_safetensors, _TABLE
    ),
    Reader("pdstates", _read_states, _write_states, _OPCODES),
    Reader("pdopt", _read_optimizer, lambda: [_files()[".pdopt"]], _OPCODES),
]
