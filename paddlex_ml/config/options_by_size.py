# SPDX-License-Identifier: Apache-2.0
"""Options that suit the number of training images, where nobody has chosen others.

    CheckDataset.convert.src_dataset_type: auto, Train.auto: true
        ->  -o Train.epochs_iters=60 -o Train.save_interval=15 -o Train.image_size=160

docs/training.md has the figures behind the table. A key that the command line sets, or whose value
in the YAML file is not the shipped one, stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple, TypeAlias

from paddlex_ml import gpus
from paddlex_ml.artifacts.check_result import CheckResult
from paddlex_ml.config import load, shipped, validation
from paddlex_ml.config.schema import Config

Values: TypeAlias = Mapping[str, Any]
"""Dotted key -> value."""


class SizeOptions(NamedTuple):
    """The options for up to so many training images."""

    most: float
    values: Values


TABLE = (
    SizeOptions(50, {"Train.epochs_iters": 100, "Train.save_interval": 25, "Train.batch_size": 16}),
    SizeOptions(250, {"Train.epochs_iters": 60, "Train.save_interval": 15, "Train.batch_size": 16}),
    SizeOptions(1_000, {"Train.epochs_iters": 30, "Train.save_interval": 10}),
    SizeOptions(10_000, {}),
    SizeOptions(math.inf, {"Train.epochs_iters": 10}),
)
"""Few images are seen more often: an epoch of them has few steps."""
CPU_SIDE = 160
"""Pixels on a CPU, where 448 take eight times as long."""
LEAST_SIDE = 96
"""Pixels of small images: below, the last map of a backbone has less than 3 x 3 cells."""


def is_by_reference(config: Config) -> bool:
    """Whether a source is recognised, and the data set made beside it."""
    return config.CheckDataset.convert.is_by_reference


def left_to_training(config: Config) -> frozenset[str]:
    """Keys of a configuration whose values a training chooses and saves in place of these."""
    keys = {"Train.batch_size"} if config.Train.batch_size == "auto" else set[str]()
    if is_by_reference(config):
        keys.add("Global.dataset_dir")
        if config.Train.auto:
            usual = _read_shipped(config)
            chosen = {"Train.image_size", *(key for row in TABLE for key in row.values)}
            keys |= {key for key in chosen if attrgetter(key)(config) == attrgetter(key)(usual)}
    return frozenset(keys)


def _read_shipped(config: Config) -> Config:
    path, _ = shipped.find(config.Global.model)
    return load.load(path, to_run=False).config


def choose(config: Config, typed: Collection[str], images: int, side: int) -> Values:
    """The options that a training gets: dotted key -> value; none with `Train.auto: false`.

    typed: the keys that the command line sets. images: of train.txt. side: median of the longer
    sides of the images, in pixels: larger inputs than the images show nothing more.
    """
    if not config.Train.auto:
        return {}
    wanted = dict(next(row.values for row in TABLE if images <= row.most))
    kind = config.Global.device.partition(":")[0]
    largest = CPU_SIDE if kind == "cpu" or (kind == "auto" and gpus.are_missing()) else 448
    wanted["Train.image_size"] = min(largest, max(LEAST_SIDE, 32 * math.ceil(side / 32)))
    usual = _read_shipped(config)
    return {
        key: value
        for key, value in wanted.items()
        if key not in typed
        and attrgetter(key)(config) == attrgetter(key)(usual)
        and value != attrgetter(key)(config)
    }


def find(config: Config, typed: Collection[str], result: CheckResult) -> Values:
    """The options for the size of a data set that was checked."""
    sizes = result.report.image_sizes.values()
    side = max((lengths.median for lengths in sizes), default=448)
    return choose(config, typed, result.attributes.train_samples, side)


def go_on(config: Config, overrides: Sequence[str], result: CheckResult) -> list[str]:
    """The overrides of a command that trains the data set which a check has made of a source."""
    keys = {text: text.partition("=")[0].strip() for text in overrides}
    data = {"Global.dataset_dir": result.dataset_path}
    values = {**find(config, keys.values(), result), **data}
    kept = [text for text in overrides if keys[text] not in values]
    return [*kept, *(validation.assignment(*item) for item in values.items())]


def apply(config: Config, values: Values) -> Config:
    """The configuration with other values."""
    for key, value in values.items():
        config = validation.with_value(config, key, value)
    return config
