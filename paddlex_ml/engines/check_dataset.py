# SPDX-License-Identifier: Apache-2.0
"""Mode check_dataset: all faults of a data set in one error, or a result with pictures."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from paddlex_ml import systems, terminal
from paddlex_ml.artifacts.check_result import (
    CheckAnalysis,
    CheckAttributes,
    CheckResult,
    DatasetCounts,
    RewrittenLists,
    RuleViolations,
)
from paddlex_ml.artifacts.run_folder import CheckDatasetFiles, RunFolder
from paddlex_ml.config import options_by_size, validation
from paddlex_ml.config.schema import Config
from paddlex_ml.data import annotation, check, journal, soft_targets, targets
from paddlex_ml.data.annotation import ImageList, MLClsDataset
from paddlex_ml.data.faults import DatasetFault, combine, format_csv
from paddlex_ml.data.relations import Violations
from paddlex_ml.data.split import Division
from paddlex_ml.data.transforms import read_image
from paddlex_ml.engines.train import earlier_run
from paddlex_ml.errors import Lines, PaddlexMLError
from paddlex_ml.formats import by_reference, registry, rewrite
from paddlex_ml.formats.collector import Options
from paddlex_ml.pictures import dataset_page, plots
from paddlex_ml.pictures.labelled import draw_labels
from paddlex_ml.progress import ReportProgress, named
from paddlex_ml.safe_text import one_line
from paddlex_ml.storage import csv_text, files, folders
from paddlex_ml.wording import count, path_override

_DEMOS = 10  # images of each list
_DEMO_SIDE = 1024  # pixels: a page of thumbnails, not copies of the photographs
_NAMES = RunFolder(Path()).check_dataset  # relative to the output folder, as the result has them

logger = logging.getLogger(__name__)


def run(config: Config) -> CheckResult:
    """Convert, repair and split the data set if asked, and check it.

    Pictures appear in `<output>/check_dataset` when the check has passed. Raises one
    PaddlexMLError for all faults of the data set; the table `faults.csv` there names every one.
    """
    root, output = config.Global.dataset_dir, config.Global.output
    if root is None:
        raise PaddlexMLError(
            "no data set is given",
            where="Global.dataset_dir",
            fix="-o Global.dataset_dir=./dataset/my_set (the folder with label.txt, train.txt and "
            "val.txt)",
        )
    is_ours = options_by_size.is_by_reference(config)
    keep = by_reference.kept_link(RunFolder(output).dataset) if is_ours else nullcontext()
    try:
        with keep:
            report, rewritten = _check(config, root)
    except PaddlexMLError as error:
        if not error.rows:
            raise
        raise _write_faults(error, output) from error
    dataset, warnings = report.dataset, [finding.text for finding in report.warnings]
    root = dataset.root  # another one than the source, where it was made of that by reference
    classes = len(dataset.label_names)
    warnings += _compare_classes(config.Train.num_classes, classes)
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
        relations=UNSET if report.violations is None else _count(report.violations),
    )


def _compare_classes(asked: int | None, classes: int) -> list[str]:
    """A warning where the configuration has another number of classes than the data set."""
    if asked in (None, classes):
        return []
    return [
        f"Train.num_classes is {asked}, but label.txt names {count(classes, 'class', 'classes')}; "
        f"for training add -o Train.num_classes={classes} (or null: as many as label.txt names)"
    ]


def _count(violations: Sequence[Violations]) -> list[RuleViolations]:
    return [
        RuleViolations(each.rule, len(each.images["train"]), len(each.images["val"]))
        for each in violations
    ]


def _check(config: Config, root: Path) -> tuple[check.Report, RewrittenLists | UnsetType]:
    """Convert, repair and split as configured, and check: nothing is written before all is sound.

    Raises PaddlexMLError with every fault.
    """
    asked, understood = config.CheckDataset, _understand(config, root)
    root = root if understood is None else understood.root
    repairs = asked.repair.enable or asked.repair.relations
    is_asked = bool(asked.convert.enable or repairs or asked.split.enable or asked.drop)
    is_asked |= understood is not None and understood.is_written
    with journal.writing(root) if is_asked and root.is_dir() else nullcontext():
        if understood is not None:
            draft, division = understood.draft, understood.division
        else:
            with nullcontext() if asked.convert.enable else named("reading the lists"):
                draft, division = _draft(config, root), _choose_division(config)
        if "val" not in draft.lists and division is None:
            raise rewrite.ask_for_split(root)
        with terminal.progress("decoded images") as progress:
            images = check.inspect(draft.parsed, progress)
        draft = draft.leave_out(images, asked.drop)
        relations, wrong = check.read_relations(draft.parsed, required=asked.repair.relations)
        faults = check.find_faults(draft.parsed, images, is_written=draft.is_native) + wrong
        if faults:
            raise combine(_propose_conversion(faults, root), root)
        if asked.repair.relations and relations is not None:
            draft = draft.complete(relations)
        draft = draft.divide(division)
        if understood is not None and (understood.is_moved or draft.differs()):
            _refuse_other_images(config)
        for name in draft.lists:
            values = getattr(draft.parsed.dataset, name).values
            if unknown := targets.count_unknown(values):
                logger.info(
                    "%s.txt: %s unknown (%.1f %%): %s leaves out such labels",
                    *(name, count(unknown, "label is", "labels are")),
                    100 * unknown / np.prod(values.shape),
                    "a training" if name == "train" else "an evaluation",
                )
        train = draft.parsed.dataset.train
        for sentence in soft_targets.tell(train.soft, train.weights):
            logger.info("%s", sentence)
        report = check.make_report(draft.parsed, images, [], relations)
        return report, _report_rewritten(draft.write(), config, root) if is_asked else UNSET


def _understand(config: Config, root: Path) -> by_reference.Understood | None:
    """What a source is of which a data set is made beside it; None: it is a data set itself."""
    if not options_by_size.is_by_reference(config):
        return None
    asked, target = config.CheckDataset, RunFolder(config.Global.output).dataset
    with terminal.progress("read annotations") as progress:
        understood = by_reference.understand(
            root,
            target,
            _choose_options(config, progress),
            _choose_division(config),
            images=asked.convert.image_root,
            kind=asked.convert.src_dataset_type or registry.AUTO,
            of_lists=by_reference.ListOptions(
                asked.repair.enable, asked.drop, config.Train.soft_labels, asked.repair.relations
            ),
        )
    for line in understood.lines():
        logger.info("%s", line)
    return understood


def _refuse_other_images(config: Config) -> None:
    """Raise PaddlexMLError where a training in the output folder belongs to the data set there:
    its evaluation would measure with other images, without a word."""
    output, train = config.Global.output, config.Train
    dataset = RunFolder(output).dataset
    is_meant = config.Global.overwrite or train.rescore_best
    if is_meant or not (dataset / annotation.TRAIN_FILE).is_file():
        return
    if not earlier_run.holds_results(output):
        return
    fix = f"write elsewhere: {path_override('Global.output', earlier_run.free_folder(output))}"
    if train.resume_path is not None:
        fix += f"; or go on with these lists: {validation.override('Train.rescore_best', True)}"
    raise PaddlexMLError(
        "the data set of the training in the output folder would get other images or labels",
        where=str(dataset),
        fix=fix,
    )


def _choose_options(config: Config, progress: ReportProgress) -> Options:
    """What the user has chosen for a conversion."""
    convert = config.CheckDataset.convert
    ours = {item.name for item in fields(Options)} - {"progress", "only"}
    chosen = {name: getattr(convert, name) for name in ours}
    chosen["skip_missing"] |= "missing" in config.CheckDataset.drop
    return Options(**chosen, progress=progress)


def _draft(config: Config, root: Path) -> rewrite.Draft:
    """The lists as they will be, before lines are left out and the images are divided."""
    asked = config.CheckDataset
    convert, repair, drop = asked.convert, asked.repair.enable, asked.drop
    if not convert.enable:
        if not asked.split.enable and (error := _ask_for_conversion(root)):
            raise error
        lists = rewrite.find_lists(root) if asked.split.enable else annotation.LISTS
        soft = config.Train.soft_labels
        return rewrite.draft_lists(root, lists, repair=repair, drop=drop, soft_labels=soft)
    assert convert.src_dataset_type is not None
    with terminal.progress("read annotations") as progress:
        options = _choose_options(config, progress)
        return rewrite.draft_conversion(root, convert.src_dataset_type, options)


def _choose_division(config: Config) -> Division | None:
    split = config.CheckDataset.split
    if not split.enable:
        return None
    assert split.val_percent is not None
    return Division(
        val_percent=split.val_percent,
        strategy=split.strategy,
        seed=split.seed,
        group_regex=split.group_regex,
    )


def _report_rewritten(rewritten: rewrite.Rewritten, config: Config, root: Path) -> RewrittenLists:
    """Log what was done to the lists, and write the table of all that has no part in them."""
    for line in rewritten.format_lines(root):
        logger.info("%s", line)
    if rewritten.account or rewritten.changes:
        table = RunFolder(config.Global.output).check_dataset.conversion_csv
        files.write_bytes(table, csv_text.encode(rewritten.format_csv()))
        logger.info("what has no part in the lists or another name, and why: %s", table)
    return msgspec.convert(rewritten.describe(), RewrittenLists)


def _write_faults(error: PaddlexMLError, output: Path) -> PaddlexMLError:
    """Write the table of all faults; the same error, which names it."""
    table = RunFolder(output).check_dataset.faults_csv
    try:
        files.write_bytes(table, csv_text.encode(format_csv(error.rows)))
    except OSError as trouble:
        logger.warning("the table of faults cannot be written: %s", trouble)
        return error
    is_list = "\n" in error.what  # several faults, a line each
    if not is_list:
        return error.replace(what=Lines(f"{error.what} ({table})"))
    first, _, others = error.what.partition("\n")
    named = f"{first}\n  all of them: {one_line(str(table))}\n{others}"
    return error.replace(what=Lines(named))


def _propose_conversion(faults: list[DatasetFault], root: Path) -> list[DatasetFault]:
    """The faults; where lists have no label, the repair names annotations that are there."""
    if not any(fault.kind == "no labels" for fault in faults):
        return faults
    found = [candidate for candidate in registry.recognise(root) if candidate.format.rank]
    if len(found) != 1:
        return faults
    name, why = found[0].format.name, found[0].why
    fix = f"{_convert_command(name)} (found {why})"
    return [replace(fault, fix=fix) if fault.kind == "no labels" else fault for fault in faults]


def _convert_command(name: str) -> str:
    return f"-o CheckDataset.convert.enable=true -o CheckDataset.convert.src_dataset_type={name}"


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
    fix = _convert_command(name)
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
    entry_image, entry_class = targets.cells(targets.take(images.values, order))
    free = np.ones(len(order), bool)
    missing = np.ones(images.values.shape[1], bool)  # classes that no chosen image shows
    chosen: list[int] = []
    while len(chosen) < min(count, len(order)):
        gain = np.bincount(entry_image[missing[entry_class]], minlength=len(order))
        if not gain[free].any() and not missing.all():
            missing[:] = True  # the images left add no class: begin a second round
            continue
        pick = int(np.where(free, gain, -1).argmax())
        free[pick] = False
        chosen.append(int(order[pick]))
        missing[targets.labels(images.values, chosen[-1])] = False
    return chosen


@named("drawing samples, the histogram and the page")
def _draw_pictures(
    report: check.Report, output: Path, seed: int, rewritten: RewrittenLists | UnsetType = UNSET
) -> dict[str, list[str]]:
    """Draw the pictures of one run, all or nothing; other files in that folder stay."""
    dataset, ours = (
        report.dataset,
        {p.name for p in (_NAMES.demo_img, _NAMES.histogram, _NAMES.report, _NAMES.faults_csv)},
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
    pages = [
        dataset_page.PageList(each.paths, targets.cells(each.values), *targets.count(each.values))
        for each in lists
    ]
    account = rewritten.account if isinstance(rewritten, RewrittenLists) else UNSET
    return dataset_page.DatasetPage(
        root=dataset.root,
        read=read_image,
        label_names=dataset.label_names,
        train=pages[0],
        val=pages[1],
        warnings=[
            dataset_page.PageWarning(found.text, found.images, found.alike, found.names)
            for found in report.warnings
        ],
        pairs=dataset_page.PagePairs(frequent, check.count_pairs(lists, frequent)),
        sizes=check.measure_images(report),
        formats=check.count_formats(report),
        seed=seed,
        soft=soft_targets.tell(dataset.train.soft, dataset.train.weights),
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
            labels = [dataset.label_names[i] for i in targets.labels(images.values, index)]
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
    return Path(systems.relative(path, start) or path.absolute()).as_posix()
