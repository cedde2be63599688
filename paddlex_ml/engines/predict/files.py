# SPDX-License-Identifier: Apache-2.0
"""The files of a prediction: one JSON file, one table, and the drawn pictures.

predictions.json   a list with one result a line      predictions.csv   the same as a table
explain/           heatmaps of what the model looked at, under the names of the pictures
"""

from __future__ import annotations

import copy
import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from paddlex_ml.artifacts.run_folder import PredictFiles
from paddlex_ml.cores import usable_cores
from paddlex_ml.errors import PaddlexMLError, Stopped
from paddlex_ml.inference import table
from paddlex_ml.inference.result import MultiLabelResult
from paddlex_ml.storage import files

Add = Callable[[MultiLabelResult], None]


@contextmanager
def writing(saved: PredictFiles, classes: Sequence[str], *, with_all_scores: bool) -> Iterator[Add]:
    """Yield a function that adds a result to both files; they get their names at the end.

    After a long run that was stopped, or that met an error, they hold what was done before. Memory
    does not grow with the number of results.
    """
    ended_by: BaseException | None = None
    with ExitStack() as stack:
        lines, rows = (
            stack.enter_context(
                stack.enter_context(files.replacing(path)).open(
                    "w", encoding="utf-8", errors="backslashreplace", newline=""
                )
            )
            for path in (saved.predictions_json, saved.predictions_csv)
        )
        rows.write(table.write([table.header(classes, with_all_scores=with_all_scores)]))
        before = "[\n"

        def add(result: MultiLabelResult) -> None:
            nonlocal before
            res = result.json["res"]
            lines.write(before + json.dumps(res, ensure_ascii=False))
            rows.write(table.write([table.row(res, classes)]))
            before = ",\n"

        try:
            yield add
        except (PaddlexMLError, KeyboardInterrupt, Stopped) as error:
            ended_by = error
        lines.write("[]\n" if before == "[\n" else "\n]\n")
    if ended_by is not None:
        raise ended_by


@contextmanager
def drawing(saved: PredictFiles, *, labels: bool, maps: bool) -> Iterator[Add]:
    """Yield a function that has a result drawn by threads while the next ones are predicted.

    Into the folder go the images with their `labels`, and into its `explain`, which must be there,
    their `maps`. An error of a picture is raised at one of the next calls, or at the end.
    """
    threads = usable_cores()
    waiting: deque[Future[None]] = deque()

    def draw(result: MultiLabelResult) -> None:
        if labels:
            result.save_to_img(saved.folder)
        if maps:
            result.save_explain_to_img(saved.explain)

    with ThreadPoolExecutor(threads, "draw") as pool:

        def add(result: MultiLabelResult) -> None:
            # A copy, since the result forgets its pixels when the next one is asked for.
            waiting.append(pool.submit(draw, copy.copy(result)))
            if len(waiting) > 2 * threads:  # each holds a decoded image
                waiting.popleft().result()

        try:
            yield add
            while waiting:
                waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
