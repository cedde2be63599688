# SPDX-License-Identifier: Apache-2.0
"""What comes before the first step: weights to start from, and the record of the run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import msgspec
import paddle

from paddlex_ml import devices
from paddlex_ml.artifacts import conditions, run_record
from paddlex_ml.artifacts.checkpoint import Checkpoint, ModelInfo
from paddlex_ml.artifacts.conditions import Conditions
from paddlex_ml.artifacts.run_folder import EXAMPLE, RunFolder
from paddlex_ml.artifacts.run_record import RunIdentity, RunRecord
from paddlex_ml.config import run_config
from paddlex_ml.config.load import dump
from paddlex_ml.config.schema import Config, TrainConfig
from paddlex_ml.data import annotation
from paddlex_ml.data.annotation import MLClsDataset
from paddlex_ml.distributed.group import ProcessGroup
from paddlex_ml.engines import load_model
from paddlex_ml.engines.train import earlier_run, overwriting, pretrained, resume
from paddlex_ml.engines.train.pretrained import Pretrained
from paddlex_ml.engines.train.resume import Beginning
from paddlex_ml.models import head_layout, zoo
from paddlex_ml.models.head_layout import HeadLayout
from paddlex_ml.safe_text import without_secrets
from paddlex_ml.storage import fetch
from paddlex_ml.storage.files import back_up, write_text
from paddlex_ml.training.state import Training

logger = logging.getLogger(__name__)


def fetch_weights(config: Config) -> None:
    """Fetch the weights of a new run: at this point a signal still ends the command at once."""
    text = config.Train.pretrain_weight_path
    if text is not None and fetch.is_url(text):
        pretrained.locate(text, config.Global.model)


def digest_weights(config: Config) -> str:
    """SHA-256 of the weights that a new run starts from; "" for random ones."""
    text = config.Train.pretrain_weight_path
    if text is None:
        return ""
    return conditions.digest_file(pretrained.locate(text, config.Global.model))


def overlaps(options: TrainConfig, device: str) -> bool:
    """Whether gradients are exchanged within the backward pass, on the device "cpu" or "gpu:N".

    Not with recompute, whose blocks have a backward pass of their own: there the reducer fails.
    """
    if options.overlap_exchange is None:
        return device != "cpu" and not options.recompute
    return options.overlap_exchange


def digest(config: Config, dataset: MLClsDataset) -> dict[str, str]:
    """The digests of lists and configuration that identify a run."""
    return {
        annotation.LABEL_FILE: run_record.digest("\0".join(dataset.label_names)),
        annotation.TRAIN_FILE: annotation.digest(dataset.train),
        annotation.VAL_FILE: annotation.digest(dataset.val),
        EXAMPLE.config_yaml.name: run_record.digest(without_secrets(dump(config))),
    }


def lists_of(digests: Mapping[str, str]) -> dict[str, str]:
    """Those of the digests that are of lists, and not of the configuration."""
    return {name: text for name, text in digests.items() if name != EXAMPLE.config_yaml.name}


class Opened(NamedTuple):
    """What a run is, and what it goes on from."""

    info: ModelInfo
    """Without the id of the run: that belongs to the output folder."""
    saved: Checkpoint | None
    """None: a new run."""
    folder: Path | None = None
    """Of `saved`."""


def read(config: Config, beginning: Beginning, dataset: MLClsDataset) -> Opened:
    """Read the checkpoint to go on from. Raises PaddlexMLError as `resume.read`."""
    info = ModelInfo(
        config.Global.model,
        dataset.label_names,
        config.Train.image_size,
        zoo.choose_tokens(config.Global.model, config.Train.decoder_tokens),
        RunIdentity("", digest(config, dataset)),
    )
    folder = beginning.resume
    return Opened(info, None if folder is None else resume.read(config, folder, info), folder)


def choose_head(
    config: Config, opened: Opened, weights: Pretrained | None
) -> tuple[HeadLayout, ModelInfo]:
    """The head of this run, and what its model is with it.

    It is that of the checkpoint or of the weights, if there are any. Raises PaddlexMLError where
    the checkpoint has another number of queries than the configuration.
    """
    info, saved, wanted = opened.info, opened.saved, config.Train.num_queries
    if saved is not None:
        where = config.Train.resume_path or ""
        layout = load_model.find_layout(saved.info, saved.weights, Path(where), resume.KEY)
        resume.refuse_other_queries(wanted, layout.queries, where)
    elif weights is not None:
        layout = weights.layout
    else:
        classes = len(info.label_names)
        layout = head_layout.published(classes, head_layout.count_queries(classes, wanted))
    return layout, load_model.describe_head(info, layout)


def open_folder(
    config: Config,
    opened: Opened,
    beginning: Beginning,
    training: Training,
    group: ProcessGroup,
    *,
    command: Sequence[str],
) -> None:
    """Make the output folder that of this run, after all that can be refused is checked.

    The main process sets an overwritten run aside and writes run.json, config.yaml and
    label_dict.txt. Then best_model is the best model that the checkpoint names.
    """
    resumed_from = beginning.resume
    group.all_reduce_max([0.0])  # all processes have read the checkpoint: now it may move
    if group.is_main:
        assert opened.info.run is not None
        # Before an earlier run is set aside, whose weights this one may begin with.
        started = conditions.describe(
            device=devices.describe(paddle.device.get_device()),
            processes=group.size,
            weights="" if opened.saved else digest_weights(config),
            lists=lists_of(opened.info.run.digests),
            options=conditions.digest_options(training.fingerprint),
        )
        aside = _set_aside(config, beginning)
        if aside is not None and resumed_from is not None and not resumed_from.is_dir():
            resumed_from = aside / resumed_from.name
        record = _write_record(config, opened, resumed_from, aside, started, command)
        training.info = replace(training.info, run=record.identity)
    if resumed_from is not None:
        resume.find_best(training, resumed_from, config, group)


def _set_aside(config: Config, beginning: Beginning) -> Path | None:
    """The folder of the run that this one replaces, or None."""
    output = config.Global.output
    overwriting.finish_moving(output)
    if beginning.overwrites:
        return overwriting.set_aside(output)
    # An earlier start has not come to its first checkpoint, or was killed right then.
    aside = overwriting.find(output)
    if aside is not None:
        logger.info("the run in %s goes with the first checkpoint of this one", aside)
    return aside


def _write_record(
    config: Config,
    opened: Opened,
    resumed_from: Path | None,
    aside: Path | None,
    started: Conditions,
    command: Sequence[str],
) -> RunRecord:
    files, own, (info, saved, _) = RunFolder(config.Global.output), None, opened
    if saved is not None and saved.info.run is not None:
        found = run_record.read(files.run_json)
        own = found if found is not None and found.id == saved.info.run.id else None
    assert info.run is not None
    record = run_record.begin(
        info.run.digests,
        continued=own,
        resumed_from=resumed_from,
        replaces=aside,
        conditions=started,
        command=command,
    )
    if files.config_yaml.is_file() and not run_config.is_saved(files.config_yaml):
        kept = back_up(files.config_yaml)
        logger.warning("%s was not saved by a training: it is kept as %s", files.config_yaml, kept)
    run_record.write(files.run_json, record)
    write_text(files.config_yaml, run_config.write(config))
    annotation.write_labels(files.label_dict, info.label_names)
    earlier_run.hidden_result(files.result("train")).unlink(missing_ok=True)
    if own is not None:
        remove_overwritten(files.output)
    return record


def remove_overwritten(output: Path) -> None:
    """Remove the run that this one replaces, since a checkpoint of its own is written."""
    files = RunFolder(output)
    record = run_record.read(files.run_json)
    if record is None or record.replaces is None:
        return
    if aside := overwriting.find(output):
        overwriting.remove(aside)
    run_record.write(files.run_json, msgspec.structs.replace(record, replaces=None))
