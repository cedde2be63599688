# SPDX-License-Identifier: Apache-2.0
"""The folds of one combination together: scores of all images by models that did not learn them.

    val_scores.npz of K runs -> out_of_fold/<name>/val_scores.npz, label_errors.csv

The images stand in the order of fold 1, fold 2, ...; label_errors.csv names them. The scores come
from K trainings, each without one fold of the list: the strict form of what Evaluate.label_errors
approximates by linear probes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from paddlex_ml.artifacts import saved_scores
from paddlex_ml.artifacts.run_folder import EXAMPLE, RunFolder
from paddlex_ml.artifacts.sweep_folder import SweepFolder
from paddlex_ml.data import annotation
from paddlex_ml.metrics.average_precision import mean_average_precision
from paddlex_ml.metrics.label_quality import review
from paddlex_ml.metrics.ties import NOISE
from paddlex_ml.storage import csv_text, files


class JoinedFolds(NamedTuple):
    """What the folds of one combination say together."""

    images: int
    map: float
    """Of the scores of all images in one list."""
    suspected: int
    """Labels that are probably wrong or missing."""
    folder: Path


def join(folder: SweepFolder, group: str, names: Sequence[str]) -> JoinedFolds | None:
    """Join the runs of all folds of a combination, in order; None where one has kept no scores.

    Raises PaddlexMLError where the lists of a fold cannot be read.
    """
    tables, shown, label_names = [], list[str](), list[str]()
    for number, name in enumerate(names, start=1):
        path = RunFolder(folder.output / name).val_scores
        if not path.is_file():
            return None
        val = annotation.read(folder.fold(number, len(names)), lists=("val",))
        tables.append(saved_scores.read_table(path))
        shown += val.val.paths
        label_names = val.label_names
    scores, targets = (np.concatenate(parts) for parts in zip(*tables, strict=True))
    found = review(scores, targets)
    place = folder.out_of_fold / group
    saved_scores.write(
        place / EXAMPLE.val_scores.name,
        scores,
        targets,
        val_digest="",  # of no val.txt
        label_names=label_names,
    )
    rows: list[list[object]] = [["rank", "image", "class", "problem", "label", "score", "quality"]]
    rows[0].append("probability")
    for rank, each in enumerate(found.suspects, start=1):
        problem = "wrong" if each.given else "missing"
        name = label_names[each.class_id]
        figures = f"{each.score:.5f}", f"{each.quality:.5f}", f"{each.probability:.2f}"
        rows.append([rank, shown[each.image], name, problem, int(each.given), *figures])
    files.write_bytes(
        place / EXAMPLE.evaluate.label_errors_csv.name, csv_text.encode(csv_text.write(rows))
    )
    score = mean_average_precision(scores, targets, noise=NOISE)
    return JoinedFolds(len(scores), score, len(found.suspects), place)
