# SPDX-License-Identifier: Apache-2.0
"""The demo data set: drawn, not downloaded; written as MLClsDataset and in COCO format."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from paddlex_ml import program, systems, terminal
from paddlex_ml.data import annotation
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.metrics.average_precision import constant_predictor_map
from paddlex_ml.scenes import compose
from paddlex_ml.storage import folders
from paddlex_ml.wording import count

IMAGES, SIZE, SEED, VAL_PERCENT = 1500, 128, 42, 20
"""Of the demo that `make demo` and --demo draw."""
_TRAINING = (
    *("Train.pretrain_weight_path=starter", "Train.image_size=128", "Train.batch_size=16"),
    *("Train.epochs_iters=10", "Train.learning_rate=0.002", "Train.augment.randaugment=false"),
    *("Train.head_lr_mult=0.1", "Train.loss.gamma_neg=0", "Train.loss.clip=0"),
    *("Train.save_interval=10", "Train.resume_path=auto"),
)
"""Of `make demo`. Ten epochs are few: twice the rate, more of it for the head, no RandAugment,
and plain cross-entropy."""
_JPEG_QUALITY = 92


@dataclass(frozen=True)
class Demo:
    """What was written: two folders, and targets [N, C] of each list."""

    folder: Path
    coco_folder: Path
    label_names: list[str]
    train: np.ndarray
    val: np.ndarray

    @property
    def constant_map(self) -> float:
        """mAP of a model that gives every image the same scores: the mean positive rate in val."""
        return constant_predictor_map(self.val)


class _DrawnImage(NamedTuple):
    name: str
    jpeg: bytes
    things: list[compose.SceneObject]


def make(output: Path, *, images: int, size: int, seed: int, val_percent: int) -> Demo:
    """Draw `images` pictures of `size` pixels into `output` and, with boxes, `<output>_coco`.

    The same arguments write the same files. Each folder appears complete or not at all, `output`
    last. Raises PaddlexMLError for a folder with files in it and for numbers out of range.
    """
    for option, value, low, high in (
        ("--images", images, 10, 1_000_000),
        ("--size", size, 32, 1024),
        ("--val-percent", val_percent, 1, 90),
    ):
        if not low <= value <= high:
            what = f"{option} {value} is out of range"
            raise PaddlexMLError(what, where=option, fix=f"from {low} to {high:,}")
    num_val = max(1, round(images * val_percent / 100))
    coco = output.with_name(output.name + "_coco")
    with folders.building(output) as new_folder, folders.building(coco) as new_coco:
        drawn = _draw_all(images, size, seed)
        # The order is random already: the first images are as good as any for validation.
        lists = {"train": drawn[num_val:], "val": drawn[:num_val]}
        targets = _write_lists(new_folder, lists)
        _write_coco(new_coco, lists, size)
    names = [kind.name for kind in compose.KINDS]
    return Demo(output, coco, names, targets["train"], targets["val"])


def draw_and_tell(folder: Path) -> str:
    """Draw the demo into a new folder; what was written, and the command that trains on it.

    Raises PaddlexMLError for a folder with files in it.
    """
    drawn = make(folder, images=IMAGES, size=SIZE, seed=SEED, val_percent=VAL_PERCENT)
    options = ["-c", "PP-LCNet_x1_0_ML", "-o", "Global.mode=train"]
    options += [f"Global.dataset_dir={folder}", *_TRAINING]
    return "\n".join(
        (
            f"wrote {drawn.folder}: {len(drawn.train)} training and {len(drawn.val)} validation "
            f"images of {count(len(drawn.label_names), 'class', 'classes')}; and, in COCO format, "
            f"{drawn.coco_folder}",
            f"mAP of a constant predictor, the score to beat: {drawn.constant_map:.3f}",
            f"next: {program.command()} {systems.join(options)}",
        )
    )


def _draw_all(images: int, size: int, seed: int) -> list[_DrawnImage]:
    """All pictures, while a count shows how far they are."""
    rng, drawn = np.random.default_rng(seed), []
    with terminal.progress("drawn images", always=False) as report:
        report(0, images)
        for done in range(images):
            drawn.append(_draw(rng, size, f"{done:06d}.jpg"))
            report(done + 1, images)
    return drawn


def _draw(rng: np.random.Generator, size: int, name: str) -> _DrawnImage:
    image, things = compose.draw_scene(rng, size)
    flags = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), flags)
    return _DrawnImage(name, jpeg.tobytes(), things)


def _write_lists(folder: Path, lists: dict[str, list[_DrawnImage]]) -> dict[str, np.ndarray]:
    (folder / "images").mkdir()
    annotation.write_labels(folder / annotation.LABEL_FILE, [kind.name for kind in compose.KINDS])
    targets = {}
    for key, drawn in lists.items():
        targets[key] = np.zeros((len(drawn), len(compose.KINDS)), np.uint8)
        for row, image in zip(targets[key], drawn, strict=True):
            row[[thing.class_id for thing in image.things]] = 1
            (folder / "images" / image.name).write_bytes(image.jpeg)
        paths = [f"images/{image.name}" for image in drawn]
        annotation.write_list(folder / f"{key}.txt", paths, targets[key])
    return targets


def _write_coco(folder: Path, lists: dict[str, list[_DrawnImage]], size: int) -> None:
    (folder / "images").mkdir()
    (folder / "annotations").mkdir()
    ids = [2 * i + 1 for i in range(len(compose.KINDS))]  # with gaps, as in COCO itself
    for key, drawn in lists.items():
        things = [(i, thing) for i, image in enumerate(drawn, 1) for thing in image.things]
        content = {
            "images": [
                {"id": i, "file_name": image.name, "width": size, "height": size}
                for i, image in enumerate(drawn, 1)
            ],
            "annotations": [
                {
                    "id": k,
                    "image_id": i,
                    "category_id": ids[thing.class_id],
                    "bbox": _box(thing.visible),
                    "area": int(thing.visible.sum()),
                    "iscrowd": 0,
                }
                for k, (i, thing) in enumerate(things, 1)
            ],
            "categories": [
                {"id": ids[i], "name": kind.name, "supercategory": kind.group}
                for i, kind in enumerate(compose.KINDS)
            ],
        }
        path = folder / "annotations" / f"instance_{key}.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        for image in drawn:
            (folder / "images" / image.name).write_bytes(image.jpeg)


def _box(visible: npt.NDArray[np.bool_]) -> list[int]:
    """Smallest box around the pixels: x, y, width, height."""
    x, y = np.flatnonzero(visible.any(axis=0)), np.flatnonzero(visible.any(axis=1))
    return [int(x[0]), int(y[0]), int(x[-1] - x[0] + 1), int(y[-1] - y[0] + 1)]
