# SPDX-License-Identifier: Apache-2.0
"""Predict.save_labels: the scores of photographs become lines of train.txt, for self-training.

    [low, high]    score at least high -> 1 (present)    below low -> 0 (absent)    between -> -1
    soft           the scores themselves, of four digits, for Train.soft_labels

The photographs lie in the data set of Global.dataset_dir; the lines that are there stay as they
are, byte for byte. Classes are matched by name: what the model does not know is unknown. With
Predict.relations the labels keep them, as the predictions do.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from msgspec import UNSET

from paddlex_ml import systems
from paddlex_ml.artifacts.predict_result import SavedLabels
from paddlex_ml.data import annotation, journal, label_file, soft_targets, targets
from paddlex_ml.data.annotation import ImageList
from paddlex_ml.data.lines import UTF8, to_utf8
from paddlex_ml.data.relations import Relations
from paddlex_ml.data.soft_targets import HALF, SoftCells
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference.result import MultiLabelResult
from paddlex_ml.metrics.class_relations import ClassRelations
from paddlex_ml.wording import count, first_names

_KEY = "Predict.save_labels"
_UNFIT = re.compile("[\t\r\n\ud800-\udfff]")  # line ends, and names that are no Unicode
_DIGITS = 4  # of a saved score
_log = logging.getLogger(__name__)


class LabelSaver:
    """Collects the labels of photographs, and adds them to train.txt at the end."""

    def __init__(
        self,
        root: Path | None,
        classes: Sequence[str],
        wanted: tuple[float, float] | Literal["soft"],
        known: Relations | None,
    ) -> None:
        """`wanted` as the key, `known` the relations between `classes`. Raises PaddlexMLError where
        the set cannot take these classes."""
        if root is None:
            raise PaddlexMLError(
                f"{_KEY} adds lines to the train.txt of a data set, but none is given",
                where="Global.dataset_dir",
                fix="-o Global.dataset_dir=./dataset/my_set (the folder that holds the images)",
            )
        self._root, self._is_soft = root, wanted == "soft"
        self._low, self._high = (HALF, HALF) if wanted == "soft" else wanted
        self._kept = None if known is None else ClassRelations(known.implied, known.exclusive)
        self._is_new = not (root / annotation.LABEL_FILE).exists()
        self._names = (
            list(classes) if self._is_new else annotation.read_labels(root / annotation.LABEL_FILE)
        )
        ids = {name: i for i, name in enumerate(self._names)}
        self._ids = np.array([ids.get(name, -1) for name in classes], np.int64)
        self._unknown = set(range(len(ids))) - set(self._ids.tolist())
        if len(self._unknown) == len(ids):
            raise PaddlexMLError(
                f"the model and label.txt have no class in common: {first_names(classes)} and "
                f"{first_names(self._names)}",
                where=str(root / annotation.LABEL_FILE),
                fix="choose the data set that the model was trained on, or write the names alike",
            )
        if other := [name for name in classes if name not in ids]:
            _log.warning(
                "not saved: %s of the model that label.txt does not have: %s",
                *(count(len(other), "class", "classes"), first_names(other)),
            )
        self._listed = {
            annotation.normalise_path(path)
            for images in self._read().values()
            for path in images.paths
        }
        self._shown: dict[str, set[int]] = {}
        self._hidden: dict[str, set[int]] = {}
        self._absent: dict[str, set[int] | None] = {}
        self._soft: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        """Ids and values of the labels between 0 and 1."""
        self._left_out: Counter[str] = Counter()

    def _read(self) -> dict[str, ImageList]:
        names = [name for name in annotation.LISTS if (self._root / f"{name}.txt").exists()]
        if not names:
            return {}
        if self._is_new:
            raise PaddlexMLError(
                f"there is no {annotation.LABEL_FILE} that says which classes the labels of "
                f"{' and '.join(f'{name}.txt' for name in names)} have",
                where=str(self._root),
                fix=f"put {annotation.LABEL_FILE} back, or choose another Global.dataset_dir",
            )
        dataset = annotation.read(self._root, names, soft_labels=True)
        return {name: getattr(dataset, name) for name in names}

    def add(self, result: MultiLabelResult) -> None:
        """Take the labels of one image, with the scores of all classes."""
        path = self._locate(result)
        if path is None or result.all_scores is None:
            return
        if path in self._shown:
            self._left_out["given again"] += 1
            return
        scores = np.array(result.all_scores)
        is_present, excluded = scores >= self._high, np.zeros(len(scores), np.bool_)
        if self._kept is not None:
            chosen = self._kept.choose(scores, np.full(len(scores), self._high), 0, None)
            limits = self._kept.find_limits(scores, chosen)
            is_present, excluded = np.isin(np.arange(len(scores)), chosen), limits < 1
            scores = np.minimum(scores, limits)
        is_unknown = (scores >= self._low) & ~is_present & ~excluded
        has_id = self._ids >= 0
        hidden = self._unknown.union(self._ids[has_id & is_unknown].tolist())
        absent = set(self._ids[has_id & ~is_unknown & ~is_present].tolist())
        is_shorter = len(absent) < len(hidden)  # the fewer are kept
        self._shown[path] = set(self._ids[has_id & is_present].tolist())
        self._hidden[path] = set() if is_shorter else hidden
        self._absent[path] = absent if is_shorter else None
        if self._is_soft:
            scores[~is_present] = np.minimum(scores[~is_present], HALF - 10.0**-_DIGITS)
            scores = np.round(scores, _DIGITS)
            cells = has_id & (scores > 0) & (scores < 1)
            self._soft[path] = self._ids[cells], scores[cells].astype(np.float32)

    def _locate(self, result: MultiLabelResult) -> str | None:
        """The path of an image as a list has it; None, and counted, where it cannot have one."""
        reason = ""
        if result.error is not None:
            reason = "not readable"
        elif result.frame is not None or result.input_path is None:
            reason = "a frame, or an image without a file"
        else:
            folder, name = os.path.split(os.path.abspath(result.input_path))
            place = os.path.join(os.path.realpath(folder), name)
            path = systems.relative(place, os.path.realpath(self._root)) or os.pardir
            path = path.replace(os.sep, "/")
            if path.split("/", 1)[0] == os.pardir or not os.path.isfile(place):
                reason = f"outside {self._root}"
            elif annotation.normalise_path(path) in self._listed:
                reason = "in a list already"
            elif _UNFIT.search(path):
                reason = "with a name that no list can hold"
            else:
                return path
        self._left_out[reason] += 1
        return None

    def _read_lines(self) -> tuple[str, str]:
        """The text of train.txt as it is, to the end of its last line, and its line ends."""
        content = (self._root / annotation.TRAIN_FILE).read_bytes()
        in_utf8, encoding = to_utf8(content)
        text = (content if encoding == UTF8 else in_utf8).decode("utf-8")
        filled = len(text.rstrip("\r\n \t"))  # no tab of the last line goes, as in `read_lines`
        last, end = text.find("\n", filled), "\r\n" if "\r\n" in text else "\n"
        return text[: last if last >= 0 else None].rstrip("\r") + end, end

    def _collect(
        self, lists: dict[str, ImageList]
    ) -> tuple[list[str], targets.Targets, SoftCells | None]:
        """The images that no list names by now, their labels, and the soft ones."""
        known = {annotation.normalise_path(path) for each in lists.values() for path in each.paths}
        paths = [path for path in self._shown if annotation.normalise_path(path) not in known]
        if late := len(self._shown) - len(paths):
            self._left_out["in a list already"] += late
        values = targets.from_labels(
            [self._shown[path] for path in paths],
            [self._hidden[path] for path in paths],
            len(self._names),
            [self._absent[path] for path in paths],
        )
        if not self._soft or not paths:
            return paths, values, None
        cells = [self._soft[path] for path in paths]
        images = np.repeat(np.arange(len(paths)), [len(ids) for ids, _ in cells])
        ids, shares = (np.concatenate(each) for each in zip(*cells, strict=True))
        return paths, values, soft_targets.from_cells(images, ids, shares, len(paths))

    def write(self) -> SavedLabels:
        """Add the lines to train.txt; the old file is kept as .bak."""
        with journal.writing(self._root):
            lists = self._read()
            before = lists.get("train")
            paths, values, soft = self._collect(lists)
            old, end = self._read_lines() if before is not None else ("", "\n")
            added = values
            if before is not None and isinstance(before.values, targets.SparseTargets):
                added = targets.to_sparse(values)
            new = annotation.list_text(paths, added, soft).replace("\n", end)
            files = {annotation.TRAIN_FILE: old + new} if paths else {}
            if self._is_new and paths:
                files[annotation.LABEL_FILE] = label_file.labels_text(self._names)
            journal.apply(self._root, "labels of a model added", files)
        number = 0 if soft is None else len(soft.ids)
        counts, unknown = targets.count(values), targets.count_unknown(values)
        present = int(counts.present.sum())
        absent = int(counts.absent.sum())
        _log.info(
            "%s: %s added, with %s present, %s absent and %s unknown labels%s%s",
            *(self._root / annotation.TRAIN_FILE, count(len(paths), "image")),
            *(f"{each:,}" for each in (present, absent, unknown)),
            f", {number:,} of them with soft values: train with -o Train.soft_labels=true"
            * (number > 0),
            "".join(f"; {n} left out: {why}" for why, n in self._left_out.items()),
        )
        hidden = targets.labels_per_image(values, unknown=True) == len(self._names)
        if bare := int(np.count_nonzero(hidden)):
            _log.warning(
                "no label of %s is certain: nothing is learned from %s. Two scores nearer to each "
                "other in %s make more labels certain",
                *(count(bare, "added image"), "it" if bare == 1 else "them", _KEY),
            )
        if paths:
            _log.info("to take them out again: %s", journal.undo_command(self._root))
        file = (self._root / annotation.TRAIN_FILE).as_posix()
        left_out, soft_labels = dict(self._left_out), number if self._is_soft else UNSET
        return SavedLabels(file, len(paths), present, absent, unknown, left_out, soft_labels)
