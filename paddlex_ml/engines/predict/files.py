# SPDX-License-Identifier: Apache-2.0
"""What a prediction leaves in its folder: one JSON file, one table, and the drawn pictures.

predictions.json   a list with one result a line      predictions.csv   the same as a table
explain/           where the model looked, drawn, under the names of the pictures
"""

from __future__ import annotations

import copy
import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from paddlex_ml.cores import usable_cores
from paddlex_ml.errors import PaddlexMLError, Stopped
from paddlex_ml.inference import table
from paddlex_ml.inference.result import MultiLabelResult
from paddlex_ml.storage import files

JSON = "predictions.json"
CSV = "predictions.csv"
EXPLAIN = "explain"

Add = Callable[[MultiLabelResult], None]


@contextmanager
def collecting(folder: Path, classes: Sequence[str], *, with_all_scores: bool) -> Iterator[Add]:
    """Yield a function that adds a result to both files; they get their names at the end.

    Who stops a long run, or meets an error in it, finds there what was done before. Memory does
    not grow with the number of results.
    """
    ended_by: BaseException | None = None
    with ExitStack() as stack:
        lines, rows = (_replacing(stack, folder / name) for name in (JSON, CSV))
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


def _replacing(stack: ExitStack, path: Path) -> TextIO:
    """A file for text that takes the name `path` when the stack ends well."""
    temporary = stack.enter_context(files.replacing(path))
    file = temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="")
    return stack.enter_context(file)


@contextmanager
def drawing(folder: Path, *, labels: bool, maps: bool) -> Iterator[Add]:
    """Yield a function that has a result drawn into `folder`, by threads, while others are made.

    Drawn are the image with its `labels`, and its `maps` in the folder EXPLAIN within, which must
    be there. Raises what went wrong with a picture at one of the next calls, or at the end.
    """
    threads = usable_cores()
    waiting: deque[Future[None]] = deque()

    def draw(result: MultiLabelResult) -> None:
        if labels:
            result.save_to_img(folder)
        if maps:
            result.save_explain_to_img(folder / EXPLAIN)

    with ThreadPoolExecutor(threads, "draw") as pool:

        def add(result: MultiLabelResult) -> None:
            # A copy, since the result forgets its pixels when the next one is asked for.
            waiting.append(pool.submit(draw, copy.copy(result)))
            if len(waiting) > 2 * threads:  # each holds a whole photograph
                waiting.popleft().result()

        try:
            yield add
            while waiting:
                waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
