# SPDX-License-Identifier: Apache-2.0
"""Train.track: a training, and later evaluations of its model, at the trackers of a team.

The options become a `TrackedRun` here; `paddlex_ml/tracking/` sends it.
"""

from __future__ import annotations

import logging
import operator
import re
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from functools import reduce
from pathlib import Path

import msgspec

from paddlex_ml.artifacts import run_lock, run_record
from paddlex_ml.artifacts.evaluate_result import EvaluationResult
from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.artifacts.run_record import RunIdentity
from paddlex_ml.artifacts.saved_states import Progress
from paddlex_ml.artifacts.train_result import TrainResult
from paddlex_ml.config import run_config, validation, yaml_text
from paddlex_ml.config.schema import Config
from paddlex_ml.errors import Stopped
from paddlex_ml.report import model_card
from paddlex_ml.safe_text import without_secrets
from paddlex_ml.storage import regular_file
from paddlex_ml.tracking.sending import Observer, observing
from paddlex_ml.tracking.tracker import Outcome, Point, TrackedRun
from paddlex_ml.training.interrupt import Interrupt
from paddlex_ml.training.loop import global_step
from paddlex_ml.training.plan import Plan
from paddlex_ml.training.state import Training

logger = logging.getLogger(__name__)

_STOPPED = (Stopped.__name__, KeyboardInterrupt.__name__)


def observe(
    config: Config, training: Training, plan: Plan, interrupt: Interrupt
) -> AbstractContextManager[Observer]:
    """What gives the numbers of this training to its trackers: none of them makes a step wait.

    Only the main process has trackers.
    """
    names = config.Train.trackers if plan.group.is_main else ()
    run, progress = training.info.run, training.progress
    if not names:
        return nullcontext(Observer(()))
    assert run is not None  # `start.open_folder` has named it
    start = time.time() - progress.seconds
    return observing(
        names,
        _describe(config, run, global_step(progress, plan)),
        history=[Point(row.step, row.scalars, start + row.seconds) for row in progress.history],
        hurry=lambda: interrupt.signal is not None,
    )


def upload_training(
    tracked: Observer, progress: Progress, output: Path, result: TrainResult | None
) -> None:
    """Give the files of a training that has ended to its trackers, and its best score.

    result: of one that is complete, whose card goes with its model; None: it was stopped.
    """
    files, best = RunFolder(output), progress.best
    if best is not None:
        step = progress.history[best.epoch - 1].step
        tracked.log(step, {"best/mAP": best.score, "best/epoch": float(best.epoch)})
    whole = (files.metrics_csv, files.curves, files.config_yaml, files.label_dict, files.run_json)
    tracked.upload("training", {path.name: path for path in whole})
    model = files.best_model
    kept = [model.weights, *sorted(model.inference.folder.glob("*"))]
    if result is not None:
        with suppress(OSError):  # the command line writes it again, and says why it cannot
            kept += filter(None, [model_card.write(output, result)])
    paths = {path.relative_to(model.folder).as_posix(): path for path in kept}
    tracked.upload(model.folder.name, paths)


def of_evaluation(config: Config) -> list[str]:
    """The trackers that get an evaluation: not event files, the page lies beside them."""
    return [name for name in config.Train.trackers if name != "tensorboard"]


def upload_evaluation(config: Config, result: EvaluationResult) -> None:
    """Give measures and page of an evaluation to the trackers of the training of its model."""
    names = of_evaluation(config)
    if names and result.run is None:
        logger.warning("not tracked: the weights do not say which training made them")
    if not names or result.run is None:
        return
    output = config.Global.output
    with run_lock.alone(output) as is_alone:  # tried, not kept
        pass
    if not is_alone and _is_of(output, result.run):
        # Two processes would write into one run, and the first to end would end it.
        logger.warning(
            "not tracked: the training is still running; when it has ended, evaluate again"
        )
        return
    measures = msgspec.to_builtins(result.metrics)
    numbers = {
        f"evaluate/{name}": float(value)
        for name, value in measures.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    written = [path for path in (result.per_class_csv, result.report) if path is not None]
    with suppress(OSError):  # as above
        if card := model_card.write(output, evaluated=result):
            written.append(str(card.relative_to(output)))
    run = replace(_describe(config, result.run, 0), ended=_find_outcome(output, result.run))
    with observing(names, run) as tracked:
        tracked.log(0, numbers)
        tracked.upload("evaluate", {Path(path).name: output / path for path in written})


def _find_outcome(output: Path, run: RunIdentity) -> Outcome:
    """How the training of an output folder has ended, as its result file says.

    One without a result was killed: what ends writes one. Of another folder nothing is known.
    """
    if not _is_of(output, run):
        return "finished"
    content: object = None
    with suppress(OSError, ValueError, RecursionError):
        content = regular_file.read_json(RunFolder(output).result("train"))
    if not isinstance(content, dict):
        return "failed"
    if content.get("done_flag") is not False:
        return "finished"
    return "stopped" if content.get("err_type") in _STOPPED else "failed"


def _is_of(output: Path, run: RunIdentity) -> bool:
    """Whether a training was made in this folder."""
    record = run_record.read(RunFolder(output).run_json)
    return record is not None and record.id == run.id


def _describe(config: Config, run: RunIdentity, step: int) -> TrackedRun:
    """The training as trackers show it: runs of one folder are compared with each other.

    The folder of a sweep holds a folder for each of its runs, so it is one experiment.
    """
    output = config.Global.output.absolute()
    # As config.yaml has them: without the secrets of URLs.
    values = yaml_text.parse(run_config.write(config), form_of=validation.form_of).value
    keys = [key for key in validation.leaf_keys() if key.startswith(("Global.", "Train."))]
    parameters = {key: str(reduce(operator.getitem, key.split("."), values)) for key in keys}
    tags = {f"sha256.{name}": digest for name, digest in run.digests.items()}
    record = run_record.read(RunFolder(output).run_json)
    if record is not None and record.id == run.id:
        tags |= {f"version.{name}": version for name, version in record.versions.items()}
    return TrackedRun(
        id=re.sub("[^0-9A-Za-z]", "", run.id)[:64],
        experiment=output.parent.name or "paddlex_ml",
        name=output.name,
        output=output,
        step=step,
        parameters={key: without_secrets(value) for key, value in parameters.items()},
        tags=tags,
    )
