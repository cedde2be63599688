# SPDX-License-Identifier: Apache-2.0
"""Predict.save_labels: the scores of photographs become lines of train.txt, for self-training.

    score at least high -> 1 (present)     below low -> 0 (absent)     between -> -1 (unknown)

The photographs lie in the data set of Global.dataset_dir; those that its lists name stay as they
are. Classes are matched by name: what the model does not know is unknown.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from paddlex_ml.artifacts.predict_result import SavedLabels
from paddlex_ml.data import annotation, journal, targets
from paddlex_ml.data.annotation import ImageList
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference.result import MultiLabelResult
from paddlex_ml.wording import first_names

_KEY = "Predict.save_labels"
_UNFIT = re.compile("[\t\r\n\ud800-\udfff]")  # line ends, and names that are no Unicode
_log = logging.getLogger(__name__)


class LabelSaver:
    """Collects the labels of photographs, and adds them to train.txt at the end."""

    def __init__(
        self, root: Path | None, classes: Sequence[str], low: float, high: float, relations: object
    ) -> None:
        """Raises PaddlexMLError where the set cannot take these classes, and for relations."""
        if relations is not None:
            raise PaddlexMLError(
                f"{_KEY} saves the labels of single scores, which may contradict relations",
                where="Predict.relations",
                fix="-o Predict.relations=null, and complete the list afterwards: mode "
                "check_dataset with -o CheckDataset.repair.relations=true",
            )
        if root is None:
            raise PaddlexMLError(
                f"{_KEY} adds lines to the train.txt of a data set, but none is given",
                where="Global.dataset_dir",
                fix="-o Global.dataset_dir=./dataset/my_set (the folder that holds the images)",
            )
        self._root, self._low, self._high = root, low, high
        self._is_new = not (root / annotation.LABEL_FILE).exists()
        self._names = (
            list(classes) if self._is_new else annotation.read_labels(root / annotation.LABEL_FILE)
        )
        ids = {name: i for i, name in enumerate(self._names)}
        self._ids = [ids.get(name) for name in classes]
        self._unknown = set(range(len(ids))) - {i for i in self._ids if i is not None}
        if len(self._unknown) == len(ids):
            raise PaddlexMLError(
                f"the model and label.txt have no class in common: {first_names(classes)} and "
                f"{first_names(self._names)}",
                where=str(root / annotation.LABEL_FILE),
                fix="choose the data set that the model was trained on, or write the names alike",
            )
        if other := [name for name in classes if name not in ids]:
            _log.warning(
                "%d classes of the model are not in label.txt, and are not saved: %s",
                *(len(other), first_names(other)),
            )
        self._listed = {
            annotation.normalise_path(path)
            for images in self._read().values()
            for path in images.paths
        }
        self._shown: dict[str, set[int]] = {}
        self._hidden: dict[str, set[int]] = {}
        self._absent: dict[str, set[int] | None] = {}
        self._left_out: Counter[str] = Counter()

    def _read(self) -> dict[str, ImageList]:
        names = [name for name in annotation.LISTS if (self._root / f"{name}.txt").exists()]
        if self._is_new or not names:
            return {}
        dataset = annotation.read(self._root, names)
        return {name: getattr(dataset, name) for name in names}

    def add(self, result: MultiLabelResult) -> None:
        """Take the labels of one image, with the scores of all classes."""
        path = self._locate(result)
        if path is None or result.all_scores is None:
            return
        shown, hidden, absent = set(), set(), set()
        for class_id, score in zip(self._ids, result.all_scores, strict=True):
            if class_id is not None and score >= self._high:
                shown.add(class_id)
            elif class_id is not None and score >= self._low:
                hidden.add(class_id)
            elif class_id is not None:
                absent.add(class_id)
        self._shown[path], self._hidden[path], self._absent[path] = shown, hidden, None
        if len(absent) < len(hidden) + len(self._unknown):  # the fewer are kept
            self._hidden[path], self._absent[path] = set(), absent
        else:
            hidden |= self._unknown

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
            path = os.path.relpath(place, os.path.realpath(self._root)).replace(os.sep, "/")
            if path.startswith("../") or not os.path.isfile(place):
                reason = f"outside {self._root}"
            elif annotation.normalise_path(path) in self._listed:
                reason = "in a list already"
            elif _UNFIT.search(path):
                reason = "with a name that no list can hold"
            else:
                return path
        self._left_out[reason] += 1
        return None

    def write(self) -> SavedLabels:
        """Add the lines to train.txt; the old file is kept as .bak."""
        paths = list(self._shown)
        values = targets.from_labels(
            *(list(self._shown.values()), self._hidden.values(), len(self._names)),
            self._absent.values(),
        )
        with journal.writing(self._root):
            before = self._read().get("train")
            if before is not None:
                both = targets.concatenate([before.values, values])
                text = annotation.list_text([*before.paths, *paths], both)
            else:
                text = annotation.list_text(paths, values)
            files = {annotation.TRAIN_FILE: text} if paths else {}
            if self._is_new and paths:
                files[annotation.LABEL_FILE] = annotation.labels_text(self._names)
            journal.apply(self._root, "labels of a model added", files)
        counts, unknown = targets.count(values), targets.count_unknown(values)
        present = int(counts.present.sum())
        absent = int(counts.absent.sum())
        _log.info(
            "%s: %d images added, with %s present, %s absent and %s unknown labels%s",
            *(self._root / annotation.TRAIN_FILE, len(paths)),
            *(f"{number:,}" for number in (present, absent, unknown)),
            "".join(f"; {n} left out: {why}" for why, n in self._left_out.items()),
        )
        if paths:
            _log.info("to take them out again: %s", journal.undo_command(self._root))
        file = (self._root / annotation.TRAIN_FILE).as_posix()
        return SavedLabels(file, len(paths), present, absent, unknown, dict(self._left_out))
