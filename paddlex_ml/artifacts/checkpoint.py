# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: folders `<name>/<name>.{pdparams,pdema,pdopt,pdstates}`, replaced as a whole.

    .pdparams   the weights to use: name -> float32 array; readable by Paddle, PaddleX, PaddleClas
    .pdema      the averaged weights, same form
    .pdopt      moments of the optimizer, loss scaler, estimated labels of the training images
    .pdstates   what the model is (ModelInfo), the progress of the training, and the raw weights
                where .pdparams holds the averaged ones

A kill leaves the old checkpoint or the new one, complete (`storage.folders`).
"""

from __future__ import annotations

import json
import logging
import pickle
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import msgspec
import numpy as np

from paddlex_ml import program, systems
from paddlex_ml.artifacts import earlier_export, named_files, run_lock, safetensors_file
from paddlex_ml.artifacts.run_folder import (
    CHECKPOINT_SUFFIXES,
    EXPORTS,
    MODEL_CARD,
    STATES,
    CheckpointFiles,
)
from paddlex_ml.artifacts.run_record import RunIdentity
from paddlex_ml.artifacts.saved_states import validate_optimizer, validate_states
from paddlex_ml.artifacts.weights import load_pickle, read
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import files, folders, regular_file

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
"""Of .pdstates. Release 0.1.0 wrote no version, which counts as 0 and is read in the same way."""
_KEYS = {"progress", "settings", "use_ema"}
"""Keys by which a .pdstates of this tool is known."""


@dataclass(frozen=True)
class ModelInfo:
    """What a model is: saved beside its weights, so that no later command can mistake it."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
    label_names: Annotated[list[str], msgspec.Meta(min_length=1)]
    image_size: Annotated[int, msgspec.Meta(ge=1, le=2048)]
    decoder_tokens: str | None = None
    """What the head sees of the image; None for models without that choice."""
    run: RunIdentity | None = None
    """The training that made it; None: release 0.1.0, or weights of another tool."""
    num_queries: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Queries of the head; None: the file does not say it, as release 0.1.0: the weights tell."""
    class_queries: list[Annotated[int, msgspec.Meta(ge=0)]] | None = None
    """Query of each class; None: as in the paper (`models.head_layout`)."""


@dataclass(frozen=True)
class Checkpoint:
    """Everything that a training needs to continue, or an evaluation to begin."""

    info: ModelInfo
    weights: Mapping[str, np.ndarray]
    """The training's own (raw) weights."""
    ema: Mapping[str, np.ndarray]
    optimizer: Mapping[str, Any]
    progress: Mapping[str, Any]
    """Plain values, written by the training loop: epoch, step, best score and so on."""
    fingerprint: Mapping[str, Any]
    """Configuration keys that change the numbers of a training, with their values."""
    use_ema: bool = False
    """Whether .pdparams holds the averaged weights (the better ones of a best model)."""


def describe(info: ModelInfo) -> dict[str, str]:
    """ModelInfo as texts, for formats that hold only texts beside their numbers."""
    texts = {
        "model_name": info.model,
        "label_names": json.dumps(info.label_names, ensure_ascii=False),
        "image_size": str(info.image_size),
    }
    if info.run is not None:
        texts["run"] = msgspec.json.encode(info.run).decode()
    if info.num_queries is not None:
        texts["num_queries"] = str(info.num_queries)
    return texts | ({"decoder_tokens": info.decoder_tokens} if info.decoder_tokens else {})


def read_embedded_model_info(weights_file: Path) -> ModelInfo | None:
    """ModelInfo inside a .safetensors file, or None where another tool wrote the file."""
    if not safetensors_file.is_safetensors(weights_file):
        return None
    texts = safetensors_file.read_metadata(weights_file)
    try:
        model, size = texts["model_name"], int(texts["image_size"])
        names = json.loads(texts["label_names"])
        run = msgspec.json.decode(texts.get("run", "null"), type=RunIdentity | None)
        queries = int(texts["num_queries"]) if "num_queries" in texts else None
    except (KeyError, ValueError, RecursionError):  # the second: errors of msgspec too
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    if not names or not 1 <= size <= 2048 or not model:
        return None
    return ModelInfo(model, names, size, texts.get("decoder_tokens"), run, queries)


def write(folder: Path, checkpoint: Checkpoint) -> None:
    """Save as `<folder>/<name of folder>.*`, in place of an earlier checkpoint."""
    states = {
        "format_version": FORMAT_VERSION,
        "card": msgspec.to_builtins(checkpoint.info),
        "progress": dict(checkpoint.progress),
        "settings": dict(checkpoint.fingerprint),
        "use_ema": checkpoint.use_ema,
        "raw_weights": dict(checkpoint.weights) if checkpoint.use_ema else None,
    }
    usable = checkpoint.ema if checkpoint.use_ema else checkpoint.weights
    contents = (dict(usable), dict(checkpoint.ema), dict(checkpoint.optimizer))
    with _replacing(folder) as fresh:
        sums = {}
        for suffix, content in zip(CHECKPOINT_SUFFIXES, contents, strict=False):
            sums[suffix] = _write_pickle(fresh / f"{folder.name}{suffix}", content)
        _write_pickle(fresh / f"{folder.name}{STATES}", states | {"checksums": sums})


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """As `folders.replacing`, for a checkpoint; warnings name what its exports leave."""
    with folders.replacing(folder, partial(_is_ours, folder.name)) as fresh:
        yield fresh
        left = earlier_export.carry_over(folder, fresh)
    for line in left:
        logger.warning("%s", line)


def duplicate(source: Path, folder: Path) -> None:
    """Save the content of the checkpoint `source` as `folder` too.

    With hard links where the disk has them: a checkpoint may be larger than a gigabyte.
    """
    with _replacing(folder) as fresh:
        for suffix in CHECKPOINT_SUFFIXES:
            files.link(source / f"{source.name}{suffix}", fresh / f"{folder.name}{suffix}")


def verify(folder: Path) -> None:
    """Raise PaddlexMLError unless all files of a checkpoint are there as they were written."""
    finish_interrupted(folder)
    parts = _refuse_incomplete(folder)
    states = _read_states(parts.states)
    if "checksums" not in states:  # release 0.1.0 wrote none
        load(folder)
    _compare_checksums(folder, states)


def _compare_checksums(folder: Path, states: Mapping[str, Any]) -> None:
    """Raise PaddlexMLError unless the other files are of the same write as .pdstates."""
    for suffix, (size, checksum) in states.get("checksums", {}).items():
        path = folder / f"{folder.name}{suffix}"
        found, summed = path.stat().st_size, 0
        if found == size <= regular_file.LARGEST_WEIGHTS:  # nothing is read of another length
            with path.open("rb") as file:
                while piece := file.read(1 << 20):
                    summed = zlib.crc32(piece, summed)
        if (found, summed) != (size, checksum):
            raise PaddlexMLError(
                f"the file is damaged, or of another checkpoint than {folder.name}{STATES} beside "
                f"it: it has {found} bytes of {size}, or other ones",
                where=str(path),
                fix=f"resume from another checkpoint{named_files.such_as(folder)}",
            )


def _refuse_incomplete(folder: Path) -> CheckpointFiles:
    """The files of the checkpoint. Raises PaddlexMLError where one of them is missing."""
    parts = CheckpointFiles(folder)
    for part in (parts.weights, parts.ema, parts.optimizer, parts.states):
        if not part.is_file():
            raise PaddlexMLError(
                f"not a complete checkpoint: {part.name} is missing",
                where=str(folder),
                fix=f"name a folder that a training wrote{named_files.such_as(folder)}",
            )
    return parts


def load(folder: Path) -> Checkpoint:
    """Read a checkpoint folder back.

    Raises PaddlexMLError when a part is missing, damaged, or of another write, as two processes
    that write into one folder may leave it.
    """
    finish_interrupted(folder)
    parts = _refuse_incomplete(folder)
    states = _read_states(parts.states)
    _compare_checksums(folder, states)
    info, weights = _find_model_info(states), read(parts.weights)
    assert info is not None  # `_read_states` has looked
    use_ema, optimizer = states["use_ema"], load_pickle(parts.optimizer)
    validate_optimizer(optimizer, parts.optimizer)
    return Checkpoint(
        info=info,
        weights=states["raw_weights"] if use_ema else weights,
        ema=read(parts.ema),
        optimizer=optimizer,
        progress=states["progress"],
        fingerprint=states["settings"],
        use_ema=use_ema,
    )


def is_complete(folder: Path) -> bool:
    """Whether all files of a checkpoint are there."""
    finish_interrupted(folder)
    return named_files.is_whole(folder)


def read_model_info(weights_file: Path) -> ModelInfo | None:
    """ModelInfo in a weight file or beside it, or None where another tool wrote the weights."""
    if embedded := read_embedded_model_info(weights_file):
        return embedded
    states = weights_file.with_suffix(STATES)
    if not states.is_file():
        return None
    content = load_pickle(states)
    _refuse_newer(content, states)
    if not isinstance(content, dict):
        return None
    info = _find_model_info(content)
    # PaddleX and PaddleClas keep other things in a file of this name.
    if info is None and content.keys() >= _KEYS:
        raise PaddlexMLError(
            "what the file says of its model is damaged, or not of this tool",
            where=str(states),
            fix="copy the files of the checkpoint again; or, to use the weights without what the "
            f"file says, copy {weights_file.name} into another folder",
        )
    return info


def read_progress(folder: Path) -> Mapping[str, Any] | None:
    """`Checkpoint.progress` of a checkpoint folder, or None where there is no checkpoint."""
    finish_interrupted(folder)
    states = CheckpointFiles(folder).states
    return _read_states(states)["progress"] if states.is_file() else None


def read_settings(folder: Path) -> Mapping[str, Any]:
    """`Checkpoint.fingerprint` of a checkpoint folder; {} where there is no checkpoint."""
    states = CheckpointFiles(folder).states
    return _read_states(states)["settings"] if states.is_file() else {}


def find_folder(text: str, key: str) -> Path:
    """The checkpoint folder that `text` names: as folder, file in it, or file without suffix."""
    for folder in named_files.around(text):
        finish_interrupted(folder)
    return named_files.find_checkpoint(text, key)


def finish_interrupted(folder: Path) -> None:
    """Complete the replacement of a checkpoint that a kill interrupted.

    Does nothing while another process trains in the folder around it: that one is not interrupted.
    """
    with run_lock.alone(folder.parent) as is_alone:
        if is_alone:
            folders.finish_interrupted(folder, partial(_is_ours, folder.name))


def remove(folder: Path) -> None:
    """Remove a checkpoint; a kill leaves nothing of it under its name. A link to one stays."""
    if folder.is_symlink():
        return
    going = folder.with_name(f".{folder.name}.gone")
    folders.discard(going)  # a kill may have left it
    if folder.is_dir():
        systems.rename(folder, going)
        folders.discard(going)


def remove_own_files(folder: Path) -> None:
    """Remove what this tool wrote into a checkpoint folder, and the folder where it is empty then.

    The files lie in another folder by now, or are no longer wanted: a kill may leave some of them.
    Nothing is removed where a link leads.
    """
    if not folder.is_dir() or folder.is_symlink():
        return
    for entry in list(folder.iterdir()):
        if not _is_ours(folder.name, entry):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink()
    if not any(folder.iterdir()):
        with files.where_possible("empty folders stay"):
            folder.rmdir()


def _is_ours(name: str, entry: Path) -> bool:
    """Whether an entry of the checkpoint `name` was written by this tool, exports included."""
    if entry.name == f"{name}.safetensors":
        return read_embedded_model_info(entry) is not None
    ours = {f"{name}{suffix}" for suffix in CHECKPOINT_SUFFIXES} | {*EXPORTS.values(), MODEL_CARD}
    unfinished = tuple(f".{own}." for own in (*ours, "paddlex_ml"))  # and the lock
    return entry.name in ours or entry.name.startswith(unfinished)


class _Summing:
    """A file that is written, with its length and CRC-32 so far."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.size, self.checksum = file, 0, 0

    def write(self, data: bytes | memoryview) -> int:
        self.checksum = zlib.crc32(data, self.checksum)
        self.size += memoryview(data).nbytes
        return self._file.write(data)


def _write_pickle(path: Path, content: Any) -> tuple[int, int]:
    """Write a file; returns its length in bytes and its CRC-32."""
    # The form that paddle.save gives a state_dict; protocol 4 is what it writes too.
    with path.open("wb") as file:
        summing = _Summing(file)
        pickle.dump(content, summing, protocol=4)
    return summing.size, summing.checksum


def _find_model_info(states: Mapping[str, Any]) -> ModelInfo | None:
    info, known = states.get("card"), {field.name for field in fields(ModelInfo)}
    needed = {"model", "label_names", "image_size"}  # what release 0.1.0 did not know is left out
    if isinstance(info, dict) and needed <= info.keys() <= known:
        with suppress(ValueError):  # of msgspec, also for a text that is not Unicode
            return msgspec.convert(info, ModelInfo)
    return None


def _read_states(path: Path) -> dict[str, Any]:
    states = load_pickle(path)
    _refuse_newer(states, path)
    if isinstance(states, dict) and states.keys() >= _KEYS and _find_model_info(states) is not None:
        validate_states(states, path)
        return states
    raise PaddlexMLError(
        "not a checkpoint of this tool",
        where=str(path),
        fix="resume from a folder that this tool wrote; weights of another tool are "
        "named behind Train.pretrain_weight_path",
    )


def _refuse_newer(states: Any, path: Path) -> None:
    version = states.get("format_version", 0) if isinstance(states, dict) else 0
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise PaddlexMLError(
            f"the checkpoint has format version {version}; this release reads up to version "
            f"{FORMAT_VERSION}",
            where=str(path),
            fix=f"upgrade with {program.pip_install('--upgrade', 'paddlex-ml')}, or train again "
            "with this release",
        )
