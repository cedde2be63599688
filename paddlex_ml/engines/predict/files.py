# SPDX-License-Identifier: Apache-2.0
"""The files of a prediction: one JSON file, one table, and the drawn pictures.

predictions.json   a list with one result a line      predictions.csv   the same as a table
explain/           heatmaps of what the model looked at, under the names of the pictures
"""

from __future__ import annotations

import copy
import json
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import TextIO

from paddlex_ml import systems
from paddlex_ml.artifacts.run_folder import PredictFiles
from paddlex_ml.cores import usable_cores
from paddlex_ml.data.image_finder import fold
from paddlex_ml.engines.predict.set_aside import unfinished
from paddlex_ml.inference import table
from paddlex_ml.inference.result import WRITABLE, MultiLabelResult
from paddlex_ml.storage import csv_text, files

Add = Callable[[MultiLabelResult, str], None]
"""Takes a result and the file name of its picture, "" for none."""

_log = logging.getLogger(__name__)


@contextmanager
def writing(
    saved: PredictFiles, classes: Sequence[str], *, with_all_scores: bool, with_picture: bool
) -> Iterator[Add]:
    """Yield a function that adds a result to both files; they get their names at the end.

    After a long run that was stopped, or that met an error, they hold what was done before; after
    a kill or on a full disk, those that are unfinished name the pictures that were drawn. Memory
    does not grow with the number of results.
    """
    is_empty = True
    ended_by: BaseException | None = None
    with _opening(saved) as (lines, rows_file):
        header = table.header(classes, with_all_scores=with_all_scores, with_picture=with_picture)
        rows = _Table(rows_file)
        rows.add(header)

        def add(result: MultiLabelResult, picture: str) -> None:
            nonlocal is_empty
            res = result.json["res"] | ({"picture": picture} if picture else {})
            lines.write(("[\n" if is_empty else ",\n") + json.dumps(res, ensure_ascii=False))
            rows.add(table.row(res, classes, with_picture=with_picture))
            is_empty = False
            if picture:
                lines.flush()  # before the picture is there

        try:
            yield add
        except BaseException as error:
            ended_by = error
        lines.write("[]\n" if is_empty else "\n]\n")
    if ended_by is not None:
        raise ended_by


class _Table:
    """A CSV file that grows; the first letter that is not ASCII puts a mark at its beginning."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._is_marked = file, False

    def add(self, row: Sequence[str]) -> None:
        """Write a row at the end."""
        text = table.write([row])
        if not self._is_marked and not text.isascii():
            self._is_marked = True
            self._file.seek(0)
            text = csv_text.MARK + self._file.read() + text
            self._file.seek(0)
        self._file.write(text)


@contextmanager
def _opening(saved: PredictFiles) -> Iterator[tuple[TextIO, TextIO]]:
    """Yield the JSON file and the table, under names that say that they are unfinished.

    At the end they get theirs. What cannot be written to its end stays, unless no result is in it.
    """
    paths = saved.predictions_json, saved.predictions_csv
    for path in paths:
        files.set_link_aside(path)
        files.set_link_aside(unfinished(path))
    try:
        with ExitStack() as stack:
            lines, rows = (
                stack.enter_context(
                    unfinished(path).open(
                        "w+", encoding="utf-8", errors="backslashreplace", newline=""
                    )
                )
                for path in paths
            )
            yield lines, rows
        for path in paths:
            files.flush(unfinished(path))
            systems.rename(unfinished(path), path)
    except BaseException:
        lines_path = unfinished(saved.predictions_json)
        if lines_path.exists() and not lines_path.stat().st_size:
            for path in paths:
                unfinished(path).unlink(missing_ok=True)
        raise


class PictureNames:
    """File names for the pictures of one run: none is that of a file that is there already."""

    def __init__(self, saved: PredictFiles) -> None:
        folders = [folder for folder in (saved.folder, saved.explain) if folder.is_dir()]
        self._folders = folders
        self._taken = {
            fold(name)
            for folder in folders
            for name in os.listdir(folder)
            if name.lower().endswith(WRITABLE)
        }
        self._is_told = False

    def choose(self, result: MultiLabelResult) -> str:
        """The name of the image, or one with a number. Other images of the run have others.

        Raises PaddlexMLError where that of the image is the image itself.
        """
        wish = name = result.picture_name
        if not self._taken:
            return name
        for folder in self._folders if fold(name) in self._taken else ():
            result.refuse_own_image(folder / name)
        stem, suffix = os.path.splitext(wish)
        numbers = count(2)
        while fold(name) in self._taken:
            name = f"{stem}_{next(numbers)}{suffix}"
        self._taken.add(fold(name))
        if name != wish and not self._is_told:
            self._is_told = True
            _log.warning(
                "%s is not from a prediction and stays: the picture is saved as %s; the column "
                "picture of the table has such names",
                self._folders[0] / wish, name,
            )  # fmt: skip
        return name


@contextmanager
def drawing(saved: PredictFiles, *, labels: bool, maps: bool, longest_side: int) -> Iterator[Add]:
    """Yield a function that has a result drawn by threads while the next ones are predicted.

    Into the folder go the images with their `labels`, and into its `explain`, which must be there,
    their `maps`. An error of a picture is raised at one of the next calls, or at the end. Whatever
    ends the run, the pictures that were added before are drawn.
    """
    threads = usable_cores()
    waiting: deque[Future[None]] = deque()

    def draw(result: MultiLabelResult, picture: str) -> None:
        if labels:
            result.write_drawing(saved.folder / picture, "labels", longest_side)
        if maps:
            result.write_drawing(saved.explain / picture, "explain", longest_side)

    with ThreadPoolExecutor(threads, "draw") as pool:

        def add(result: MultiLabelResult, picture: str) -> None:
            # A copy, since the result forgets its pixels when the next one is asked for.
            waiting.append(pool.submit(draw, copy.copy(result), picture))
            if len(waiting) > 2 * threads:  # each holds a decoded image
                waiting.popleft().result()

        yield add
        while waiting:
            waiting.popleft().result()
