# SPDX-License-Identifier: Apache-2.0
"""Mode check_dataset: all faults of a data set in one error, or a result with pictures."""

from __future__ import annotations

import logging
import os
from dataclasses import fields
from pathlib import Path

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from paddlex_ml import terminal
from paddlex_ml.artifacts.check_result import (
    CheckAnalysis,
    CheckAttributes,
    CheckResult,
    DatasetCounts,
    RewrittenLists,
)
from paddlex_ml.artifacts.run_folder import CheckDatasetFiles, RunFolder
from paddlex_ml.config.schema import Config
from paddlex_ml.data import annotation, check
from paddlex_ml.data.annotation import ImageList, MLClsDataset
from paddlex_ml.data.faults import combine
from paddlex_ml.data.split import Division
from paddlex_ml.data.transforms import read_image
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import registry, rewrite
from paddlex_ml.formats.collector import Options
from paddlex_ml.pictures import dataset_page, plots
from paddlex_ml.pictures.labelled import draw_labels
from paddlex_ml.storage import files, folders

_DEMOS = 10  # images of each list
_DEMO_SIDE = 1024  # pixels: a page of thumbnails, not copies of the photographs
_NAMES = RunFolder(Path()).check_dataset  # relative to the output folder, as the result has them

logger = logging.getLogger(__name__)


def run(config: Config) -> CheckResult:
    """Convert and split the data set if asked, and check it.

    Pictures appear in `<output>/check_dataset` when the check has passed. Raises one
    PaddlexMLError that names every fault of the data set.
    """
    root, output = config.Global.dataset_dir, config.Global.output
    if root is None:
        raise PaddlexMLError(
            "no data set is given",
            where="Global.dataset_dir",
            fix="-o Global.dataset_dir=... (the folder with label.txt, train.txt and val.txt)",
        )
    rewritten = _rewrite_lists(config, root)
    if rewritten is UNSET and (error := _ask_for_conversion(root)):
        raise error
    with terminal.progress("decoded images") as progress:
        report = check.check(root, progress)
    if report.faults:
        raise combine(report.faults, root)
    dataset, warnings = report.dataset, [finding.text for finding in report.warnings]
    asked, classes = config.Train.num_classes, len(dataset.label_names)
    if asked not in (None, classes):
        warnings.append(
            f"Train.num_classes is {asked}, but label.txt names {classes} classes; "
            f"for training add -o Train.num_classes={classes} (or null: as many as label.txt names)"
        )
    for warning in warnings:
        logger.warning("%s", warning)
    samples = _draw_pictures(report, output, config.Global.seed, rewritten)
    return CheckResult(
        attributes=CheckAttributes(
            label_file=_relative(root / annotation.LABEL_FILE, output),
            num_classes=classes,
            train_samples=len(dataset.train),
            train_sample_paths=samples["train"],
            val_samples=len(dataset.val),
            val_sample_paths=samples["val"],
        ),
        analysis=CheckAnalysis(_NAMES.histogram.as_posix(), _NAMES.report.as_posix()),
        dataset_path=str(root),
        warnings=warnings,
        report=msgspec.convert(check.summarise(report), DatasetCounts),
        rewritten=rewritten,
    )


def _rewrite_lists(config: Config, root: Path) -> RewrittenLists | UnsetType:
    """Convert and split as configured."""
    convert, split = config.CheckDataset.convert, config.CheckDataset.split
    division = None
    if split.enable:
        assert split.val_percent is not None
        division = Division(
            val_percent=split.val_percent,
            strategy=split.strategy,
            seed=split.seed,
            group_regex=split.group_regex,
        )
    if convert.enable:
        assert convert.src_dataset_type is not None
        with terminal.progress("read annotations") as progress:
            chosen = {
                item.name: getattr(convert, item.name)
                for item in fields(Options)
                if item.name != "progress"
            }
            options = Options(**chosen, progress=progress)
            rewritten = rewrite.convert(root, convert.src_dataset_type, options, division)
    elif division:
        rewritten = rewrite.resplit(root, division)
    else:
        return UNSET
    for line in rewritten.format_lines(root):
        logger.info("%s", line)
    if rewritten.account:
        table = RunFolder(config.Global.output).check_dataset.conversion_csv
        files.write_text(table, rewritten.account.format_csv())
        logger.info("what has no part in the lists, and why: %s", table)
    if "val" not in rewritten.lists:
        raise rewrite.ask_for_split(root)
    return msgspec.convert(rewritten.describe(), RewrittenLists)


def _ask_for_conversion(root: Path) -> PaddlexMLError | None:
    """The error for a folder that lacks our lists and has annotations in another format."""
    ours = [root / annotation.LABEL_FILE, root / annotation.TRAIN_FILE]
    if not root.is_dir() or all(path.is_file() for path in ours):
        return None
    found = registry.recognise(root)
    if not found:
        return None
    name, why = found[0].format.name, found[0].why
    try:
        is_divided = "val" in registry.read(root, name, Options()).lists
    except PaddlexMLError:
        is_divided = True  # the conversion will tell what is wrong first
    fix = f"-o CheckDataset.convert.enable=true -o CheckDataset.convert.src_dataset_type={name}"
    if not is_divided:
        fix += " -o CheckDataset.split.enable=true -o CheckDataset.split.train_percent=80"
        fix += " -o CheckDataset.split.val_percent=20"
    others = [f"{candidate.format.name} ({candidate.why})" for candidate in found[1:]]
    also = f"; it may also be {' or '.join(others)}" if others else ""
    missing = next(path.name for path in ours if not path.is_file())
    return PaddlexMLError(
        f"{missing} is not there, but annotations in the format {name} are: {why}{also}",
        where=str(root),
        fix=fix,
    )


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
            missing[:] = True  # the images left add no class: begin a second round
            continue
        pick = int(np.where(free, gain, -1).argmax())
        free[pick] = False
        missing &= ~targets[pick]
        chosen.append(int(order[pick]))
    return chosen


def _draw_pictures(
    report: check.Report, output: Path, seed: int, rewritten: RewrittenLists | UnsetType = UNSET
) -> dict[str, list[str]]:
    """Draw the pictures of one run, all or nothing; other files in that folder stay."""
    dataset, ours = (
        report.dataset,
        {_NAMES.demo_img.name, _NAMES.histogram.name, _NAMES.report.name},
    )
    folder = RunFolder(output).check_dataset.folder
    with folders.replacing(folder, lambda path: path.name in ours) as fresh:
        drawn = CheckDatasetFiles(fresh)
        names = _draw_demos(dataset, drawn.demo_img, seed)
        counts = check.count_positives(dataset.train), check.count_positives(dataset.val)
        plots.histogram(drawn.histogram, dataset.label_names, *counts)
        dataset_page.write(drawn.report, _fill_page(report, seed, rewritten))
    return names


def _fill_page(
    report: check.Report, seed: int, rewritten: RewrittenLists | UnsetType = UNSET
) -> dataset_page.DatasetPage:
    dataset = report.dataset
    lists = (dataset.train, dataset.val)
    images = np.sum([check.count_positives(each) for each in lists], axis=0)
    frequent = np.argsort(-images, kind="stable")[: dataset_page.MOST_TOGETHER]
    account = rewritten.account if isinstance(rewritten, RewrittenLists) else UNSET
    return dataset_page.DatasetPage(
        root=dataset.root,
        label_names=dataset.label_names,
        train=dataset_page.PageList(dataset.train.paths, dataset.train.targets),
        val=dataset_page.PageList(dataset.val.paths, dataset.val.targets),
        warnings=[
            dataset_page.PageWarning(found.text, found.images, found.alike, found.names)
            for found in report.warnings
        ],
        pairs=dataset_page.PagePairs(frequent, check.count_pairs(lists, frequent)),
        sizes=check.measure_images(report),
        formats=check.count_formats(report),
        seed=seed,
        account=None if account is UNSET else msgspec.to_builtins(account),
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
    """The base name, as in PaddleX; numbered where two folders hold files of the same name."""
    ending = path.suffix if path.suffix.lower() in (".jpg", ".jpeg", ".png") else ".jpg"
    name, number = path.stem + ending, 1
    while name.lower() in taken:  # some file systems ignore case
        number += 1
        name = f"{path.stem}_{number}{ending}"
    taken.add(name.lower())
    return name


def _relative(path: Path, start: Path) -> str:
    try:
        return Path(os.path.relpath(path, start)).as_posix()
    except ValueError:  # another drive of Windows
        return path.absolute().as_posix()
