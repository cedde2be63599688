# SPDX-License-Identifier: Apache-2.0
"""Which keys of the configuration each mode reads: those that belong into a command of it."""

from __future__ import annotations

from collections.abc import Mapping

from paddlex_ml.config import validation, yaml_text

_EVERY = ("Global.mode", "Global.model", "Global.output")
_MODEL = ("Train.num_classes", "Train.num_queries", "Train.image_size", "Train.decoder_tokens")
_DATA = ("Global.dataset_dir", "Global.device", "Global.seed", "Train.soft_labels")

# It saves the sections of the modes that come after it in its config.yaml.
_TRAINING = ("Global", "Train", "Evaluate", "Export", "Benchmark", "Predict")

READ: Mapping[str, tuple[str, ...]] = {
    "check_dataset": (
        *(*_EVERY, "CheckDataset", "Global.dataset_dir", "Global.seed"),
        *("Train.num_classes", "Train.soft_labels"),
    ),
    "plan": _TRAINING,
    "train": _TRAINING,
    "evaluate": (
        *(*_EVERY, *_DATA, *_MODEL, "Evaluate"),
        *("Train.batch_size", "Train.num_workers", "Train.track", "Train.tensorboard"),
    ),
    "export": (
        *(*_EVERY, *_DATA, *_MODEL, "Export", "Evaluate.bootstrap"),
        *("Evaluate.tune_threshold", "Evaluate.tune_target", "Evaluate.tune_min_positives"),
    ),
    "benchmark": (
        *(*_EVERY, "Global.dataset_dir", "Global.device", "Global.seed", *_MODEL, "Benchmark"),
        *("Export.weight_path", "Export.max_changed_decisions", "Export.max_map_loss"),
        "Predict.kernel_option.cpu_threads",
    ),
    "predict": (*_EVERY, "Global.dataset_dir", "Global.device", "Train.decoder_tokens", "Predict"),
}
"""Mode -> its keys and whole sections."""


def is_read(mode: str, key: str) -> bool:
    """Whether a mode reads a dotted key of a value."""
    return any(f"{key}.".startswith(f"{known}.") for known in READ[mode])


def keep_read(mode: str, text: str) -> str | None:
    """An override, `key=value`, as far as the mode reads it; None: it reads nothing of it."""
    key, _, typed = text.partition("=")
    key = key.strip()
    if key in validation.leaf_keys():
        return text if is_read(mode, key) else None
    value = yaml_text.parse_scalar_or_flow(typed, key, validation.form_of).value
    kept = _keep_below(mode, key, value)
    if kept == value:
        return text
    return validation.assignment(key, kept) if kept else None


def _keep_below(mode: str, key: str, value: object) -> object:
    """A value of a key or section without what the mode does not read."""
    if key in validation.leaf_keys() or not isinstance(value, dict):
        return value
    kept = {name: _keep_below(mode, f"{key}.{name}", each) for name, each in value.items()}
    return {
        name: each
        for name, each in kept.items()
        if (is_read(mode, f"{key}.{name}") if f"{key}.{name}" in validation.leaf_keys() else each)
    }
