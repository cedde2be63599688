# SPDX-License-Identifier: Apache-2.0
"""val_scores.npz: the scores of one model for every image of a list, for a later comparison.

    scores              float32 [N, C], 0..1, in the order of the list
    targets             int8 [N, C]: 1, 0, or -1 where nobody has looked
    average_precision   float64 [C]; NaN for a class without a positive
    influence           float64 [N]: of each image on the mAP (`metrics.influence`)
    note                uint8: JSON, see `ScoresNote`

An uncompressed archive of numpy's arrays, which `numpy.load` reads too. A training writes it with
each better model, mode evaluate beside its report. N images, C classes.
"""

from __future__ import annotations

import logging
import re
import zipfile
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from paddlex_ml.artifacts.conditions import Digest
from paddlex_ml.artifacts.train_result import Share, WeightsKind
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.metrics import influence
from paddlex_ml.metrics.ties import NOISE
from paddlex_ml.storage import files, regular_file

FORMAT_VERSION = 1
LARGEST = 256 << 20
"""Bytes of the scores; those of larger lists are not kept."""
_TYPES: dict[str, np.dtype[Any]] = {
    "scores": np.dtype("<f4"),
    "targets": np.dtype("|i1"),
    "average_precision": np.dtype("<f8"),
    "influence": np.dtype("<f8"),
    "note": np.dtype("|u1"),
}
_HEAD = re.compile(
    rb"\x93NUMPY\x01\x00(..)\{'descr': '(...)', 'fortran_order': False, "
    rb"'shape': \(([0-9, ]{0,60})\), \}",
    re.DOTALL,
)
"""How numpy writes the type and the shape of an array: format version 1.0."""

logger = logging.getLogger(__name__)


class ScoresNote(msgspec.Struct, frozen=True, kw_only=True):
    """Whose scores they are, and of which list."""

    format_version: Annotated[int, msgspec.Meta(ge=0)]
    val_digest: Digest
    """Hash of the list, as in evaluate_result.json."""
    label_names: list[str]
    map: Share
    weights: WeightsKind | None = None
    """Of the training: raw or averaged. None: of an evaluation."""
    epoch: int | None = None


@dataclass(frozen=True)
class ScoresSummary:
    """What a table of models needs of each of them."""

    note: ScoresNote
    average_precision: np.ndarray
    """float64 [C]."""
    influence: np.ndarray
    """float64 [N]."""


def write(
    path: Path,
    scores: np.ndarray,
    targets: np.ndarray,
    *,
    val_digest: str,
    label_names: list[str],
    weights: WeightsKind | None = None,
    epoch: int | None = None,
) -> None:
    """Write the file atomically; a list that is too large removes it, and a log line says so.

    scores, targets: [N, C]. Raises OSError as the system does.
    """
    if 4 * scores.size > LARGEST:
        path.unlink(missing_ok=True)
        logger.info(
            "the scores of %d images and %d classes are not kept: %s would have more than %d MiB",
            *scores.shape, path.name, LARGEST >> 20,
        )  # fmt: skip
        return
    found = influence.measure(scores, targets, noise=NOISE)
    defined = found.measured[~np.isnan(found.measured)]
    note = ScoresNote(
        format_version=FORMAT_VERSION,
        val_digest=val_digest,
        label_names=label_names,
        map=float(defined.mean()) if len(defined) else 0.0,
        weights=weights,
        epoch=epoch,
    )
    arrays = (
        scores, targets, found.measured, found.on_mean,
        np.frombuffer(msgspec.json.encode(note), np.uint8),
    )  # fmt: skip
    kept = {name: np.asarray(a, _TYPES[name]) for name, a in zip(_TYPES, arrays, strict=True)}
    with files.replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **kept)  # type: ignore[arg-type]


def read_summary(path: Path) -> ScoresSummary:
    """Read all but the scores. Raises PaddlexMLError where it is no such file."""
    found = _read(path, ("note", "average_precision", "influence"))
    return ScoresSummary(found["note"], found["average_precision"], found["influence"])


def read_table(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Scores float32 [N, C] and targets int8 [N, C]. Raises PaddlexMLError as `read_summary`."""
    found = _read(path, ("scores", "targets"))
    return found["scores"], found["targets"]


def _read(path: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """Some arrays of a file, whose shapes fit each other; `note` as its type."""
    try:
        with (
            regular_file.open_regular(path, 2 * LARGEST, is_text=False) as file,
            zipfile.ZipFile(file) as archive,
        ):
            found: dict[str, Any] = {name: _read_array(archive, name) for name in names}
        if "note" in found:
            note = msgspec.json.decode(found["note"].tobytes(), type=ScoresNote)
            if note.format_version > FORMAT_VERSION:
                raise ValueError(f"its format_version is {note.format_version}, a newer one")
            is_flat = found["influence"].ndim == 1
            if found["average_precision"].shape != (len(note.label_names),) or not is_flat:
                raise ValueError("it has another number of classes than names")
            found["note"] = note
        elif found["scores"].shape != found["targets"].shape or found["scores"].ndim != 2:
            raise ValueError("its scores and targets have other shapes")
        return found
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise PaddlexMLError(
            f"the scores of a model cannot be read: {error}",
            where=str(path),
            fix="remove the file, and evaluate the model again",
        ) from error


def _read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """One array. Nothing is allocated that the file does not hold, and no text is evaluated."""
    entry = archive.getinfo(f"{name}.npy")
    if entry.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{entry.filename} is compressed")
    content = archive.read(entry)
    head = _HEAD.match(content)
    if head is None:
        raise ValueError(f"{entry.filename} does not begin as an array of numpy")
    kind, shape = head[2].decode(), tuple(int(n) for n in head[3].split(b",") if n.strip())
    begin = 10 + int.from_bytes(head[1], "little")
    if kind != _TYPES[name].str or prod(shape) * _TYPES[name].itemsize != len(content) - begin:
        raise ValueError(f"{entry.filename} is another array than this file has")
    return np.frombuffer(content, _TYPES[name], offset=begin).reshape(shape)
