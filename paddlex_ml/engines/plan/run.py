# SPDX-License-Identifier: Apache-2.0
"""Mode plan: what a training will cost, from its first steps. No output folder is touched.

options -> trials in processes of their own -> times, memory, disk -> the plan
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from operator import attrgetter
from pathlib import Path

from paddlex_ml import devices
from paddlex_ml.artifacts.plan_result import PlanResult, TriedSize
from paddlex_ml.config import load, shipped, validation, yaml_text
from paddlex_ml.config.schema import Config
from paddlex_ml.devices import Devices
from paddlex_ml.engines.answering_process import OutOfMemory
from paddlex_ml.engines.plan import batch_size
from paddlex_ml.engines.plan.batch_size import Largest, Trials
from paddlex_ml.engines.plan.estimate import estimate
from paddlex_ml.inference import verified_engines
from paddlex_ml.safe_text import without_secrets
from paddlex_ml.storage import temporary
from paddlex_ml.training import precision

_OTHERS = ("Global.mode", "Global.output", "Global.dataset_dir")
"""Keys that say nothing about a training."""

logger = logging.getLogger(__name__)


def run(config: Config) -> PlanResult:
    """Measure the first steps of the training, and of others with other batch sizes.

    Raises PaddlexMLError as the training would, and where it does not fit in memory.
    """
    options, device = config.Train, devices.find(config.Global.device)
    precision.choose(options.amp, options.amp_dtype, device.first)
    batch_size.refuse_launched()
    images = batch_size.count_images(config)
    with tempfile.TemporaryDirectory(prefix="plan-", dir=temporary.own_folder()) as aside:
        trials = Trials(config, device, Path(aside))
        if options.batch_size == "auto":
            processes = len(device.numbers)
            size = batch_size.choose(trials, config.Global.model, images, processes)
            notes = batch_size.describe_choice(config, size, processes)
        else:
            size, notes = options.batch_size, []
            trials.measure(max(1, size // 2))  # compiles kernels, for this and other commands
        try:
            trials.run(size, is_complete=True)
        except OutOfMemory as error:
            largest = trials.find_largest(max(1, size // 2), images)
            fits = validation.override(batch_size.KEY, largest.size)
            raise error.replace(fix=f"{fits} is the largest that fits") from error
        largest = trials.find_largest(size, images)
    trials.notes += notes
    return _compose(config, device, trials, largest, size)


def _compose(
    config: Config, device: Devices, trials: Trials, largest: Largest, size: int
) -> PlanResult:
    report = trials.reports[size]
    assert report is not None
    assert report.completion is not None
    facts, costs, completion = report.facts, estimate(report), report.completion
    weights = trials.config.Train.pretrain_weight_path
    free = shutil.disk_usage(_find_existing(config.Global.output)).free
    if free < costs.disk_bytes + completion.checkpoint_bytes:  # one more while it is replaced
        fewer = validation.override("Train.keep_last", 1)
        trials.notes.append(f"the disk of {config.Global.output} is too small: {fewer} takes less")
    if config.Train.resume_path is not None:
        trials.notes.append("the plan is that of the whole run, not of what is left to resume")
    tried = {each: found and found.step_mib for each, found in sorted(trials.reports.items())}
    return PlanResult(
        model_name=config.Global.model,
        started_from="random weights" if weights is None else without_secrets(str(weights)),
        device=device.first,
        processor=verified_engines.name_processor().rpartition(":")[2].strip(),
        changed=_list_changes(config),
        train_images=facts.train_images,
        val_images=facts.val_images,
        classes=facts.classes,
        batch_size=size,
        processes=len(device.numbers),
        epochs=config.Train.epochs_iters,
        steps=facts.steps,
        validations=facts.validations,
        timed_steps=sum(kind.timed for kind in report.kinds),
        step=costs.step,
        epoch=costs.epoch,
        validation=costs.validation,
        checkpoint=costs.checkpoint,
        export=costs.export,
        start=costs.start,
        run=costs.run,
        memory_mib=report.memory_mib,
        resident_mib=report.resident_mib,
        gpu_mib=report.gpu_mib,
        free_mib=trials.free_mib if report.room_mib is None else report.room_mib,
        checkpoint_bytes=completion.checkpoint_bytes,
        disk_bytes=costs.disk_bytes,
        free_bytes=free,
        largest_batch_size=largest.size,
        largest_is_limited_by=largest.limited_by,
        tried=[TriedSize(batch_size=each, memory_mib=mib) for each, mib in tried.items()],
        notes=[*report.warnings, *trials.notes],
    )


def _list_changes(config: Config) -> dict[str, str]:
    """The options that differ from the file shipped for the model, as they are typed."""
    usual = load.load(shipped.folder() / f"{config.Global.model}.yaml", to_run=False).config
    return {
        key: without_secrets(yaml_text.write_inline(value))
        for key, value in ((key, attrgetter(key)(config)) for key in validation.leaf_keys())
        if value != attrgetter(key)(usual) and key not in _OTHERS
    }


def _find_existing(folder: Path) -> Path:
    """The folder, or the first one above it that is there."""
    path = Path(os.path.abspath(folder))
    return next(each for each in (path, *path.parents) if os.path.isdir(each))
