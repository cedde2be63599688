# SPDX-License-Identifier: Apache-2.0
"""Mode check_dataset: every fault of a data set in one error, or a result with pictures."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from paddlex_ml import terminal
from paddlex_ml.artifacts.run_folder import CheckDatasetFiles, RunFolder
from paddlex_ml.config.schema import Config
from paddlex_ml.data import annotation, check
from paddlex_ml.data.annotation import ImageList, MLClsDataset
from paddlex_ml.data.faults import combine
from paddlex_ml.data.split import Division
from paddlex_ml.data.transforms import read_image
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import rewrite
from paddlex_ml.formats.collector import Options
from paddlex_ml.pictures import dataset_page, plots
from paddlex_ml.pictures.labelled import draw_labels

_DEMOS = 10  # images of each list
_DEMO_SIDE = 1024  # pixels: a page of thumbnails, not copies of the photographs
_NAMES = RunFolder(Path()).check_dataset  # relative to the output folder, as the result has them

_log = logging.getLogger(__name__)


def run(config: Config) -> dict[str, Any]:
    """Check the data set and return the content of check_dataset_result.json.

    Pictures appear in `<output>/check_dataset` when the check has passed. Raises one
    PaddlexMLError that names every fault of the data set.
    """
    root = config.Global.dataset_dir
    if root is None:
        raise PaddlexMLError(
            "no data set is given",
            where="Global.dataset_dir",
            fix="-o Global.dataset_dir=... (the folder with label.txt, train.txt and val.txt)",
        )
    rewritten = _rewrite(config, root)
    with terminal.progress("decoded images") as progress:
        report = check.check(root, progress)
    if report.faults:
        raise combine(report.faults, root)
    warnings = [finding.text for finding in report.warnings]
    warnings += _judge_num_classes(config, len(report.dataset.label_names))
    for warning in warnings:
        _log.warning("%s", warning)
    demos = _draw_pictures(report, config.Global.output, config.Global.seed)
    return {**_describe(report, root, config.Global.output, demos, warnings), **rewritten}


def _rewrite(config: Config, root: Path) -> dict[str, Any]:
    """Convert and divide as configured; returns what the result file says of it."""
    convert, split = config.CheckDataset.convert, config.CheckDataset.split
    division = None
    if split.enable:
        assert split.val_percent is not None
        names = ("val_percent", "strategy", "seed", "group_regex")
        division = Division(**{name: getattr(split, name) for name in names})
    if convert.enable:
        assert convert.src_dataset_type is not None
        with terminal.progress("read annotations") as progress:
            made = rewrite.convert(
                root,
                convert.src_dataset_type,
                Options(
                    skip_missing=convert.skip_missing,
                    separator=convert.separator,
                    progress=progress,
                ),
                division,
            )
    elif division:
        made = rewrite.resplit(root, division)
    else:
        return {}
    for line in made.told(root):
        _log.info("%s", line)
    if "val" not in made.lists:
        raise rewrite.ask_for_split(root)
    return {"rewritten": made.describe()}


def choose_varied(images: ImageList, count: int, seed: int) -> list[int]:
    """Choose up to `count` images that together show many classes; the same for the same seed."""
    order = np.random.default_rng(seed).permutation(len(images))
    targets = images.targets[order].astype(bool)
    free = np.ones(len(order), bool)
    missing = np.ones(targets.shape[1], bool)  # classes that no chosen image shows
    chosen: list[int] = []
    while len(chosen) < min(count, len(order)):
        gain = (targets & missing).sum(axis=1)
        if not gain[free].any() and not missing.all():
            missing[:] = True  # all that can be shown is shown: begin a second round
            continue
        pick = int(np.where(free, gain, -1).argmax())
        free[pick] = False
        missing &= ~targets[pick]
        chosen.append(int(order[pick]))
    return chosen


def _judge_num_classes(config: Config, found: int) -> list[str]:
    asked = config.Train.num_classes
    if asked is None or asked == found:
        return []
    return [
        f"Train.num_classes is {asked}, but label.txt names {found} classes; "
        f"for training add -o Train.num_classes={found} (or null: as many as label.txt names)"
    ]


def _draw_pictures(report: check.Report, output: Path, seed: int) -> dict[str, list[str]]:
    """Draw into a folder aside and swap it in, so that pictures of two runs never mix."""
    dataset = report.dataset
    output.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{_NAMES.folder.name}.", dir=output))
    drawn = CheckDatasetFiles(aside)
    try:
        names = _draw_demos(dataset, drawn.demo_img, seed)
        counts = check.count_positives(dataset.train), check.count_positives(dataset.val)
        plots.histogram(drawn.histogram, dataset.label_names, *counts)
        dataset_page.write(drawn.report, _fill_page(report, seed))
        _swap_in(aside, output / _NAMES.folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return names


def _fill_page(report: check.Report, seed: int) -> dataset_page.DatasetPage:
    dataset, counts = report.dataset, check.summarise(report)
    return dataset_page.DatasetPage(
        root=dataset.root,
        label_names=dataset.label_names,
        train=dataset_page.Side(dataset.train.paths, dataset.train.targets),
        val=dataset_page.Side(dataset.val.paths, dataset.val.targets),
        warnings=[
            dataset_page.Warned(found.text, found.images, found.alike) for found in report.warnings
        ],
        pairs=check.count_pairs((dataset.train, dataset.val)),
        sizes=counts["image_sizes"],
        formats=counts["image_formats"],
        seed=seed,
    )


def _draw_demos(dataset: MLClsDataset, folder: Path, seed: int) -> dict[str, list[str]]:
    folder.mkdir()
    taken: set[str] = set()
    names: dict[str, list[str]] = {"train": [], "val": []}
    for key, images in (("train", dataset.train), ("val", dataset.val)):
        for index in choose_varied(images, _DEMOS, seed):
            image = read_image(images.path(index))
            image.thumbnail((_DEMO_SIDE, _DEMO_SIDE))
            labels = [dataset.label_names[i] for i in np.flatnonzero(images.targets[index])]
            name = _free_name(Path(images.paths[index]), taken)
            draw_labels(image, labels).save(folder / name, quality=92)
            names[key].append((_NAMES.demo_img / name).as_posix())
    return names


def _free_name(path: Path, taken: set[str]) -> str:
    """The base name, as PaddleX; numbered where two folders hold the same one."""
    ending = path.suffix if path.suffix.lower() in (".jpg", ".jpeg", ".png") else ".jpg"
    name, number = path.stem + ending, 1
    while name.lower() in taken:  # file systems that ignore case must not lose one either
        number += 1
        name = f"{path.stem}_{number}{ending}"
    taken.add(name.lower())
    return name


def _swap_in(new: Path, place: Path) -> None:
    # Only what is ours: the folder may hold notes of the user.
    for name in (_NAMES.demo_img.name, _NAMES.histogram.name, _NAMES.report.name):
        old = place / name
        if old.is_dir():
            shutil.rmtree(old)
        place.mkdir(exist_ok=True)
        (new / name).replace(old)


def _describe(
    report: check.Report,
    root: Path,
    output: Path,
    demos: dict[str, list[str]],
    warnings: list[str],
) -> dict[str, Any]:
    dataset = report.dataset
    return {
        "done_flag": True,
        "check_pass": True,
        "attributes": {
            "label_file": _relative(root / annotation.LABEL_FILE, output),
            "num_classes": len(dataset.label_names),
            "train_samples": len(dataset.train),
            "train_sample_paths": demos["train"],
            "val_samples": len(dataset.val),
            "val_sample_paths": demos["val"],
        },
        "analysis": {
            "histogram": _NAMES.histogram.as_posix(),
            "report": _NAMES.report.as_posix(),
        },
        "dataset_path": str(root),
        "show_type": "image",
        "dataset_type": "MLClsDataset",
        "warnings": warnings,
        "report": check.summarise(report),
    }


def _relative(path: Path, start: Path) -> str:
    try:
        return Path(os.path.relpath(path, start)).as_posix()
    except ValueError:  # another drive of Windows
        return path.absolute().as_posix()
