# SPDX-License-Identifier: Apache-2.0
"""What stays of an export that is replaced, or whose weights are: thresholds, and files of users.

    inference/inference.yml   with thresholds of its own -> inference/inference.yml.bak, or .bak.1
                              and so on: no backup is overwritten
    inference/<other>         what no export writes      -> inference/<other>

Thresholds belong to the weights that they were tuned for, so a new export begins with 0.5. One of
the same weights keeps inference.yml as it is.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from paddlex_ml.artifacts import conditions, inference_yml, onnx_metadata, parameter_file
from paddlex_ml.artifacts.run_folder import (
    EXPORT_REPORT,
    EXPORTS,
    GRAPH,
    INFERENCE_YML,
    IR,
    IR_WEIGHTS,
    ONNX,
    PARAMETERS,
    PROGRAM,
    ExportedFiles,
)
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import files, folders

logger = logging.getLogger(__name__)

AGAIN = "-o Global.mode=evaluate -o Evaluate.save_threshold=true"
_PRODUCTS = {
    *(GRAPH, PROGRAM, PARAMETERS, f"{PARAMETERS}.info", ONNX, INFERENCE_YML),
    *(IR, IR_WEIGHTS, EXPORT_REPORT),
}


def is_product(path: Path) -> bool:
    """Whether an export of any format wrote this entry of its folder: a new one replaces it."""
    return path.name in _PRODUCTS


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """As `folders.replacing`, for an export; a warning names the earlier thresholds, if any.

    Those of the same weights stay in use.
    """
    kept = None
    with folders.replacing(folder, is_product) as fresh:
        yield fresh
        if is_same := _has_own_thresholds(folder) and _is_same_model(folder, fresh):
            inference_yml.take_over(ExportedFiles(folder).inference_yml, fresh)
        else:
            kept = _keep_thresholds(folder, fresh)
    if is_same:
        logger.info("the weights of %s have not changed, so its thresholds stay in use", folder)
    if kept is not None:
        logger.warning(
            "the export replaces one with thresholds of its own, which are kept in %s; predictions "
            "use those of the new one: to tune them again, %s",
            *(folder / kept, AGAIN),
        )


def carry_over(old: Path, fresh: Path) -> list[str]:
    """Give a new checkpoint folder what stays of the exports of the old one.

    Returns lines for the log, for the moment when the new folder has its name.
    """
    lines = []
    for name in EXPORTS.values():
        export, target = old / name, fresh / name
        if not export.is_dir() or export.is_symlink():
            continue
        others = [entry for entry in export.iterdir() if not is_product(entry)]
        if others or _has_own_thresholds(export):
            target.mkdir()
            kept = _keep_thresholds(export, target)
            folders.carry_over(export, target, is_product)
            if kept is not None:
                lines.append(
                    f"thresholds tuned for the earlier weights are in {export / kept}: when the "
                    f"training has ended, {AGAIN}"
                )
        if name != EXPORTS["paddle"] and any(is_product(entry) for entry in export.iterdir()):
            lines.append(f"{export} was of the earlier weights and is removed: export again")
    return lines


def find_thresholds(folder: Path) -> list[Path]:
    """The backups of inference.yml in the folder of an export that have thresholds of their own."""
    found = sorted(folder.glob(f"{INFERENCE_YML}.bak*"))
    return [path for path in found if path.is_file() and _differs(path, inference_yml.THRESHOLD)]


def _keep_thresholds(old: Path, fresh: Path) -> str | None:
    """Give an inference.yml with thresholds that `fresh` lacks a name there; returns that name."""
    described = ExportedFiles(fresh).inference_yml
    if not _has_own_thresholds(old) or (
        described.is_file()
        and not _differs(ExportedFiles(old).inference_yml, inference_yml.read(described).threshold)
    ):
        return None
    names = files.backup_names(INFERENCE_YML)
    kept = next(
        name for name in names if not any(os.path.lexists(each / name) for each in (old, fresh))
    )
    files.link(ExportedFiles(old).inference_yml, fresh / kept)
    return kept


def _is_same_model(old: Path, fresh: Path) -> bool:
    """Whether two exports have the same weights and differ in their thresholds alone.

    Never of lower precision: these get thresholds from the export in float32.
    """
    if any((folder / EXPORT_REPORT).is_file() for folder in (old, fresh)):
        return False
    with suppress(PaddlexMLError, OSError):
        first, second = (
            replace(
                inference_yml.read(ExportedFiles(each).inference_yml),
                threshold=inference_yml.THRESHOLD,
            )
            for each in (old, fresh)
        )
        weights = _digest_weights(fresh)
        return first == second and bool(weights) and weights == _digest_weights(old)
    return False


def _digest_weights(folder: Path) -> list[str]:
    """Digests of the weights that an export has, in an order that depends on nothing else."""
    readers: list[tuple[str, Callable[[Path], list[str]]]] = [
        (PARAMETERS, parameter_file.digest_tensors),
        (ONNX, onnx_metadata.digest_weights),
        (IR_WEIGHTS, lambda path: [conditions.digest_file(path)]),
    ]
    found = ((folder / name, read) for name, read in readers)
    return [text for path, read in found if path.is_file() for text in read(path)]


def _has_own_thresholds(folder: Path) -> bool:
    path = ExportedFiles(folder).inference_yml
    return path.is_file() and not path.is_symlink() and _differs(path, inference_yml.THRESHOLD)


def _differs(path: Path, threshold: object) -> bool:
    """Whether an inference.yml has other thresholds; False where nobody can read them."""
    with suppress(PaddlexMLError):
        held = inference_yml.read(path).threshold
        try:
            return not bool(np.all(np.asarray(held, float) == np.asarray(threshold, float)))
        except (TypeError, ValueError):  # such as a mapping that a user wrote
            return True
    return False
