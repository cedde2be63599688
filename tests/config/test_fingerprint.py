# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

from paddlex_ml.config import load, shipped
from paddlex_ml.config.fingerprint import WITHOUT_EFFECT, fingerprint
from paddlex_ml.config.schema import Config
from paddlex_ml.config.validation import leaf_keys


def config_of(*overrides: str) -> Config:
    path, _ = shipped.find("PP-LCNet_x1_0_ML")
    return load.load(path, overrides, to_run=False).config


def without_effect(key: str) -> list[str]:
    """The entries of WITHOUT_EFFECT that name `key` or a section that holds it."""
    return [entry for entry in WITHOUT_EFFECT if f"{key}.".startswith(f"{entry}.")]


def test_every_key_is_compared_or_has_one_reason_why_not() -> None:
    compared = fingerprint(config_of(), 2)
    assert compared.pop("processes") == 2
    for key in leaf_keys():
        assert len(without_effect(key)) == (key not in compared), key
    assert compared.keys() <= set(leaf_keys())


def test_every_entry_without_effect_is_a_key_and_has_a_reason() -> None:
    named = {entry for key in leaf_keys() for entry in without_effect(key)}
    assert named == WITHOUT_EFFECT.keys()
    assert all(reason.strip() for reason in WITHOUT_EFFECT.values())


def test_what_decides_about_the_numbers_is_compared() -> None:
    keys = (
        "batch_size epochs_iters learning_rate warmup_steps lr_schedule early_stop_patience",
        "head_lr_mult backbone_lr_mult freeze_backbone_epochs weight_decay ema_decay",
        "grad_accum_steps grad_clip_norm sync_bn amp amp_dtype num_queries",
        "sampler repeat_threshold reduced_decode eval_interval start_eval_epoch",
        "loss.name loss.gamma_neg loss.gamma_pos loss.clip loss.pos_weight loss.temperature",
        "loss.unknown loss.em_alpha loss.role_labels single_positive loss.label_smoothing",
        "augment.cutout augment.randaugment augment.flip augment.mixup",
        "distillation.weight distillation.temperature",
    )
    compared = {f"Train.{key}" for line in keys for key in line.split()}
    compared |= {"processes", "Global.seed", "Evaluate.reduced_decode"}
    assert fingerprint(config_of(), 1).keys() == compared


def test_values_are_plain_and_those_of_the_configuration() -> None:
    overrides = ("Train.loss.name=bce", "Train.loss.pos_weight=[1, 2]", "Global.seed=7")
    values = fingerprint(config_of(*overrides), 1)
    assert (values["Train.loss.name"], values["Train.loss.pos_weight"]) == ("bce", [1.0, 2.0])
    assert values["Global.seed"] == 7
    assert not any(isinstance(value, Path) for value in values.values())
