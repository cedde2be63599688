# SPDX-License-Identifier: Apache-2.0
"""The demo data set: drawn, not downloaded; written as MLClsDataset and as its COCO twin."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from paddlex_ml.data import annotation, demo_scenes
from paddlex_ml.data.annotation import Targets
from paddlex_ml.errors import PaddlexMLError

_JPEG_QUALITY = 92


@dataclass(frozen=True)
class Demo:
    """What was written: two folders, and targets [N, C] of each list."""

    folder: Path
    coco_folder: Path
    label_names: list[str]
    train: Targets
    val: Targets

    @property
    def constant_map(self) -> float:
        """mAP of a model that gives every image the same scores: the mean positive rate in val."""
        rates = self.val.mean(axis=0)
        return float(rates[rates > 0].mean()) if rates.any() else 0.0


@dataclass(frozen=True)
class _Drawn:
    name: str
    jpeg: bytes
    things: list[demo_scenes.Thing]


def make(output: Path, *, images: int, size: int, seed: int, val_percent: int) -> Demo:
    """Draw `images` pictures of `size` pixels into `output` and, with boxes, `<output>_coco`.

    The same arguments write the same files. Both folders appear complete or not at all. Raises
    PaddlexMLError for a folder that holds files already and for numbers out of range.
    """
    num_val = _judge(images, size, val_percent)
    coco = output.with_name(output.name + "_coco")
    for folder in (output, coco):
        _refuse_full(folder)
    rng = np.random.default_rng(seed)
    drawn = [_draw(rng, size, i) for i in range(images)]
    # Positions in the list are chance already: the first ones are as good as any for validation.
    lists = {"train": drawn[num_val:], "val": drawn[:num_val]}
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as aside:
        plain, twin = Path(aside, "plain"), Path(aside, "twin")
        targets = _write_lists(plain, lists)
        _write_coco(twin, lists, size)
        for written, place in ((plain, output), (twin, coco)):
            _move(written, place)
    names = [kind.name for kind in demo_scenes.KINDS]
    return Demo(output, coco, names, targets["train"], targets["val"])


def _judge(images: int, size: int, val_percent: int) -> int:
    """Refuse numbers that make no data set; return how many images validate."""
    limits = (
        ("--images", images, 10, 1_000_000),
        ("--size", size, 32, 1024),
        ("--val-percent", val_percent, 1, 90),
    )
    for option, value, low, high in limits:
        if not low <= value <= high:
            raise PaddlexMLError(
                f"{option} {value} is out of range", where=option, fix=f"from {low} to {high:,}"
            )
    return max(1, round(images * val_percent / 100))


def _refuse_full(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists():
        what = "is a folder with files in it" if folder.is_dir() else "is a file"
        raise PaddlexMLError(
            f"the place for the demo data {what}; nothing is overwritten",
            where=str(folder),
            fix="choose another --output, or move it away",
        )


def _draw(rng: np.random.Generator, size: int, index: int) -> _Drawn:
    image, things = demo_scenes.draw_scene(rng, size)
    flags = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), flags)
    return _Drawn(f"{index:06d}.jpg", jpeg.tobytes(), things)


def _write_lists(folder: Path, lists: dict[str, list[_Drawn]]) -> dict[str, Targets]:
    (folder / "images").mkdir(parents=True)
    annotation.write_labels(
        folder / annotation.LABEL_FILE, [kind.name for kind in demo_scenes.KINDS]
    )
    targets = {}
    for key, drawn in lists.items():
        targets[key] = np.zeros((len(drawn), len(demo_scenes.KINDS)), np.uint8)
        for row, image in zip(targets[key], drawn, strict=True):
            row[[thing.class_id for thing in image.things]] = 1
            (folder / "images" / image.name).write_bytes(image.jpeg)
        paths = [f"images/{image.name}" for image in drawn]
        annotation.write_list(folder / f"{key}.txt", paths, targets[key])
    return targets


def _write_coco(folder: Path, lists: dict[str, list[_Drawn]], size: int) -> None:
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    for key, drawn in lists.items():
        for image in drawn:
            (folder / "images" / image.name).write_bytes(image.jpeg)
        text = json.dumps(_describe_coco(drawn, size))
        (folder / "annotations" / f"instance_{key}.json").write_text(text, encoding="utf-8")


def _describe_coco(drawn: list[_Drawn], size: int) -> dict[str, Any]:
    things = [(i, thing) for i, image in enumerate(drawn, 1) for thing in image.things]
    return {
        "images": [
            {"id": i, "file_name": image.name, "width": size, "height": size}
            for i, image in enumerate(drawn, 1)
        ],
        "annotations": [
            {
                "id": k,
                "image_id": i,
                "category_id": _category_id(thing.class_id),
                "bbox": _box(thing.visible),
                "area": int(thing.visible.sum()),
                "iscrowd": 0,
            }
            for k, (i, thing) in enumerate(things, 1)
        ],
        "categories": [
            {"id": _category_id(i), "name": kind.name, "supercategory": kind.outline}
            for i, kind in enumerate(demo_scenes.KINDS)
        ],
    }


def _category_id(class_id: int) -> int:
    return 2 * class_id + 1  # with gaps and not from 0, as in COCO itself


def _box(visible: demo_scenes.Mask) -> list[int]:
    """Smallest box around the pixels: x, y, width, height."""
    x, y = np.flatnonzero(visible.any(axis=0)), np.flatnonzero(visible.any(axis=1))
    return [int(x[0]), int(y[0]), int(x[-1] - x[0] + 1), int(y[-1] - y[0] + 1)]


def _move(written: Path, place: Path) -> None:
    if place.is_dir():
        place.rmdir()  # known to be empty; Windows does not rename onto a folder
    os.rename(written, place)
