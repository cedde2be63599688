# SPDX-License-Identifier: Apache-2.0
"""The part of a configuration that decides about the numbers of a training.

A checkpoint stores it. A resumed training compares it with its own and warns about each difference.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from paddlex_ml.config.schema import Config
from paddlex_ml.config.validation import leaf_keys

_OTHER_MODE = "another mode reads it"
_FILES = "decides about files alone"
_REFUSED = "a resume with another value is refused"

WITHOUT_EFFECT = {
    "Global.model": _REFUSED,
    "Global.mode": "always train",
    "Global.dataset_dir": "a data set may move; other classes are refused",
    "Global.device": "changes rounding alone; the number of processes is compared",
    "Global.output": "a path",
    "Global.overwrite": _FILES,
    "CheckDataset": _OTHER_MODE,
    "Train.num_classes": "must equal the number of lines in label.txt",
    "Train.pretrain_weight_path": "a resume takes the weights of the checkpoint",
    "Train.teacher": "a path; the contents of the teachers are compared",
    "Train.resume_path": "a path",
    "Train.auto": "the options that it has chosen are compared",
    "Train.rescore_best": "a changed list is named by itself",
    "Train.dist_ips": "the number of processes is compared",
    "Train.log_interval": "decides about log lines alone",
    "Train.save_interval": _FILES,
    "Train.keep_last": _FILES,
    "Train.save_latest_steps": _FILES,
    "Train.save_latest_minutes": _FILES,
    "Train.tensorboard": _FILES,
    "Train.track": "decides about copies of the numbers alone",
    "Train.overlap_exchange": "changes rounding alone",
    "Train.compile": "changes rounding alone",
    "Train.channels_last": "changes rounding alone",
    "Train.recompute": "computes the same gradients",
    "Train.num_workers": "augmentation depends on seed, epoch and image, not on the worker",
    "Train.cache": "holds the same pixels",
    "Train.cache_dir": "a path",
    "Train.soft_labels": "the values of the lists are compared; false refuses soft ones",
    "Train.image_size": _REFUSED,
    "Train.decoder_tokens": _REFUSED,
    "Evaluate.weight_path": _OTHER_MODE,
    "Evaluate.log_interval": _OTHER_MODE,
    "Evaluate.batch_size": _OTHER_MODE,
    "Evaluate.threshold": _OTHER_MODE,
    "Evaluate.bootstrap": _OTHER_MODE,
    "Evaluate.tune_threshold": _OTHER_MODE,
    "Evaluate.tune_target": _OTHER_MODE,
    "Evaluate.tune_min_positives": _OTHER_MODE,
    "Evaluate.save_threshold": _OTHER_MODE,
    "Evaluate.label_errors": _OTHER_MODE,
    "Evaluate.compare_with": _OTHER_MODE,
    "Evaluate.report": _OTHER_MODE,
    "Export": _OTHER_MODE,
    "Benchmark": _OTHER_MODE,
    "Predict": _OTHER_MODE,
}
"""Key, or section -> why a change leaves the numbers of a training and its evaluations alone."""


def fingerprint(config: Config, processes: int) -> dict[str, Any]:
    """`processes` and every key that is not in WITHOUT_EFFECT -> plain value."""
    keys = (
        key
        for key in leaf_keys()
        if key not in WITHOUT_EFFECT and key.partition(".")[0] not in WITHOUT_EFFECT
    )
    return {"processes": processes, **{key: attrgetter(key)(config) for key in keys}}
