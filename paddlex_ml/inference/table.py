# SPDX-License-Identifier: Apache-2.0
"""Results as a table, one image a row: image,labels,scores,error and, if there are any, the file
name of the drawn picture and the scores of every class.

    image,labels,scores,error
    photos/a.jpg,cat|dog,0.98112|0.61403,
    photos/b.jpg,,,the image file is empty (0 bytes)

A frame of a video is clip.mp4#frame=30. Labels are separated by the first of | ; / that no class
name contains, in the order of their scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from paddlex_ml.storage import csv_text

_SEPARATORS = "|;/"


def header(
    classes: Sequence[str], *, with_all_scores: bool, with_picture: bool = False
) -> list[str]:
    """Names of the columns."""
    picture = ["picture"] if with_picture else []
    return ["image", "labels", "scores", "error", *picture, *(classes if with_all_scores else ())]


def row(res: Mapping[str, Any], classes: Sequence[str], *, with_picture: bool = False) -> list[str]:
    """The cells of one result: `res` is the inner part of its `json`, and perhaps `picture`."""
    free = (mark for mark in _SEPARATORS if not any(mark in name for name in classes))
    mark = next(free, _SEPARATORS[0])
    every = res.get("all_scores")
    if every is None:
        every = []
    return [
        (res["input_path"] or "") + (f"#frame={res['frame']}" if "frame" in res else ""),
        mark.join(res["label_names"]),
        mark.join(map(str, res["scores"])),
        res.get("error", ""),
        *([res.get("picture", "")] if with_picture else ()),
        *map(str, every),
    ]


write = csv_text.write
