# SPDX-License-Identifier: Apache-2.0
"""Train a run again, and say whether the numbers are the same.

run folder -> conditions compared -> training -> numbers and weights compared -> reproduction.json
"""

from __future__ import annotations

import logging

from msgspec.structs import replace

from paddlex_ml import devices, paddle_runtime
from paddlex_ml.artifacts import conditions, reproduction, run_record
from paddlex_ml.artifacts.reproduction import BestScore, Reproduction
from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.artifacts.train_result import TrainResult
from paddlex_ml.config.schema import Config
from paddlex_ml.config.validation import override
from paddlex_ml.data import annotation
from paddlex_ml.engines.reproduce import differences, numbers, verdict
from paddlex_ml.engines.reproduce.differences import INPUT, FoundDifferences
from paddlex_ml.engines.reproduce.original import ANYWAY, Original
from paddlex_ml.engines.train import run as training
from paddlex_ml.engines.train import start
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.wording import first_names

logger = logging.getLogger(__name__)


def run(config: Config, original: Original) -> TrainResult:
    """Train with the configuration of a run, in another folder, and compare.

    Writes reproduction.json. Raises PaddlexMLError where inputs have changed, unless that is
    allowed, and what a training raises.
    """
    found = _compare_conditions(config, original)
    _tell(found)
    trained, output = original.trained, RunFolder(config.Global.output)
    begun = Reproduction(
        outcome="begun",
        run=str(original.run.output.absolute()),
        run_id="" if original.record is None else original.record.id,
        changed=found.changed,
        unknown=found.unknown,
        before=BestScore(
            map=trained.best_map,
            epoch=trained.epoch,
            weights=trained.weights,
            interval=trained.interval,
        ),
        epochs_before=len(trained.history),
    )
    reproduction.write(output.reproduction, begun)
    result = training.run(config)
    assert result is not None  # runs of several machines are refused
    best, metrics = result.models.best, result.metrics
    record = run_record.read(output.run_json)
    compared = replace(
        begun,
        changed=[*begun.changed, *differences.find_other_options(original.record, record)],
        now=BestScore(
            map=metrics.best_map,
            epoch=best.epoch,
            weights=best.weights,
            interval=metrics.MultiLabelMAP_ci95,
        ),
        epochs_now=len(metrics.history),
        epochs=numbers.compare_epochs(trained.history, metrics.history),
        weights=numbers.compare_weights(original.run, output),
    )
    reproduction.write(output.reproduction, verdict.conclude(compared))
    return result


def _compare_conditions(config: Config, original: Original) -> FoundDifferences:
    """Raises PaddlexMLError where lists, weights or processes are other ones, unless allowed."""
    root, device = config.Global.dataset_dir, devices.find(config.Global.device)
    assert root is not None  # the configuration refuses None
    if len(device.numbers) > 1:  # each process then has its part of the cores
        paddle_runtime.share_cores(len(device.numbers))
    dataset = annotation.read(root, soft_labels=config.Train.soft_labels)
    now = conditions.describe(
        device=devices.describe(device.first),
        processes=len(device.numbers),
        weights=start.digest_weights(config),
        lists=start.lists_of(start.digest(config, dataset)),
    )
    found = differences.find(original.record, now, run_record.find_versions())
    names = [each.name for each in found.changed if each.meaning == INPUT]
    if names and not original.anyway:
        before = next((each.before for each in found.changed if each.name == "processes"), "")
        several = ",".join(map(str, range(int(before)))) if before else ""
        repairs = [
            *([override("Global.device", f"{device.kind}:{several}")] if several else []),
            "put back what was changed, or name where the old one is: -o Global.dataset_dir=FOLDER",
            f"{ANYWAY} trains with what is there: the numbers will be other ones",
        ]
        raise PaddlexMLError(
            f"{first_names(names)} changed since this run was trained",
            where=str(root),
            fix="; ".join(repairs),
        )
    return found


def _tell(found: FoundDifferences) -> None:
    """Say before the start what differs, and what that means."""
    for each in found.changed:
        tell = logger.warning if each.decides else logger.info
        tell("%s: %s then, %s now: %s", each.name, each.before, each.now, each.meaning)
    if found.unknown:
        names = ", ".join(found.unknown)
        logger.warning("not recorded by the first run, so not compared: %s", names)
    if found.are_none:
        logger.info(
            "all that is recorded is as it was: the numbers must be the same, bit for bit "
            "(the content of the images is not recorded)"
        )
