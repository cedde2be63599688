# SPDX-License-Identifier: Apache-2.0
"""The data sets of the folds of a sweep: lists of their own, and links to the images."""

from __future__ import annotations

import os
from pathlib import Path

from paddlex_ml.artifacts.sweep_folder import SweepFolder
from paddlex_ml.config.schema import Config
from paddlex_ml.data import annotation, folds, inventory, label_file
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import files, regular_file


def write(folder: SweepFolder, config: Config, count: int) -> None:
    """Divide the data set of the configuration into `count` folds, and write their data sets.

    Those that are there stay. Raises PaddlexMLError where they are of other lists, or have the
    images of another data set.
    """
    root, wanted = config.Global.dataset_dir, config.CheckDataset.split
    assert root is not None  # the configuration refuses it
    dataset = annotation.read(root, soft_labels=config.Train.soft_labels)
    divided = folds.divide(
        [dataset.train, dataset.val],
        count,
        strategy=wanted.strategy,
        seed=wanted.seed,
        group_regex=wanted.group_regex,
    )
    labels = label_file.labels_text(dataset.label_names)
    relations = Path(root) / inventory.RELATIONS_FILE
    for number, (train, val) in enumerate(divided, start=1):
        place = folder.fold(number, count)
        texts = {
            annotation.LABEL_FILE: labels,
            annotation.TRAIN_FILE: train.text(),
            annotation.VAL_FILE: val.text(),
        }
        if relations.is_file():
            content = regular_file.read(relations, regular_file.LARGEST_YAML)
            texts[relations.name] = content.decode("utf-8")
        for name, text in texts.items():
            _write_once(place / name, text)
        for first in {Path(path).parts[0] for path in (*train.paths, *val.paths)}:
            _link(Path(root) / first, place / first)


def _write_once(path: Path, text: str) -> None:
    if not path.exists():
        files.write_text(path, text)
    elif regular_file.read(path) != text.encode("utf-8"):
        raise _refuse(
            "the folds here were made of other lists: the data set, or how it is divided, changed",
            path,
        )


def _refuse(what: str, path: Path) -> PaddlexMLError:
    fix = "choose another folder: -o Global.output=FOLDER"
    return PaddlexMLError(what, where=str(path), fix=fix)


def _link(source: Path, target: Path) -> None:
    """Link to the images; a link to where they were before they were moved is made again."""
    if target.exists():
        if os.path.realpath(target) != os.path.realpath(source):
            raise _refuse(f"the folds here have the images of {os.path.realpath(target)}", target)
        return
    try:
        target.unlink(missing_ok=True)
        os.symlink(source.absolute(), target, target_is_directory=source.is_dir())
    except OSError as error:
        raise PaddlexMLError(
            f"the data set of a fold needs links to the images: {error.strerror}",
            where=str(target),
            fix="choose a folder on a disk that supports them: -o Global.output=FOLDER",
        ) from error
