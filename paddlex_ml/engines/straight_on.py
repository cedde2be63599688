# SPDX-License-Identifier: Apache-2.0
"""From a bare folder to a report: the check that comes before a training, and the evaluation after.

source -> check_dataset -> <output>/dataset -> options for its size -> train -> evaluate
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

import msgspec

from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.config import options_by_size, validation
from paddlex_ml.config.schema import Config
from paddlex_ml.distributed import addresses
from paddlex_ml.engines import check_dataset
from paddlex_ml.engines.evaluate import run as evaluation
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import files
from paddlex_ml.wording import count

logger = logging.getLogger(__name__)


def check(config: Config, typed: Collection[str]) -> Config:
    """Check the source; the configuration of the training of the data set that was made of it.

    Writes check_dataset_result.json. Raises PaddlexMLError with every fault.
    """
    if addresses.is_launched():
        key = "CheckDataset.convert.src_dataset_type"
        raise PaddlexMLError(
            "several processes were started, which train on a data set that is there",
            where=key,
            fix=f"{validation.override('Global.mode', 'check_dataset')} in one process first",
        )
    result = check_dataset.run(validation.with_value(config, "Global.mode", "check_dataset"))
    path = RunFolder(config.Global.output).result("check_dataset")
    files.write_json(path, msgspec.to_builtins(result))
    values = options_by_size.find(config, typed, result)
    if values:
        shown = " ".join(validation.override(*item) for item in values.items())
        train = result.attributes.train_samples
        logger.info(
            "options for %s: %s (your own -o comes before them; "
            "-o Train.auto=false takes those of the file)",
            *(count(train, "training image"), shown),
        )
    config = options_by_size.apply(config, values)
    config = validation.with_value(config, "CheckDataset.convert.src_dataset_type", None)
    config = validation.with_value(config, "CheckDataset.convert.by_reference", False)
    return validation.with_value(config, "Global.dataset_dir", Path(result.dataset_path))


def evaluate(config: Config, trained: object) -> None:
    """Evaluate the model that was trained, and name the report; `trained`: its result.

    That is on the disk before: the training is over, whatever becomes of the evaluation.
    """
    run = RunFolder(config.Global.output)
    files.write_json(run.result("train"), msgspec.to_builtins(trained))
    config = validation.with_value(config, "Global.mode", "evaluate")
    files.write_json(run.result("evaluate"), msgspec.to_builtins(evaluation.run(config)))
    logger.info("report: %s", run.evaluate.report)
