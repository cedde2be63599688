# SPDX-License-Identifier: Apache-2.0
"""Section `Train` of the configuration -> what the loop needs, composed before the first step."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from paddlex_ml.config.schema import Config
from paddlex_ml.data.annotation import MLClsDataset
from paddlex_ml.data.dataset import Augmentation, MultiLabelDataset
from paddlex_ml.environment import usable_cores
from paddlex_ml.losses import asymmetric_loss
from paddlex_ml.team import Team
from paddlex_ml.training.doubts import loader_repairs
from paddlex_ml.training.plan import LossFn, Plan, Saving, steps_per_epoch
from paddlex_ml.training.schedule import warmup_cosine


def compose(config: Config, dataset: MLClsDataset, team: Team) -> Plan:
    """Everything that options decide about the training."""
    train, images = config.Train, len(dataset.train)
    schedule = warmup_cosine(
        train.learning_rate,
        epochs=train.epochs_iters,
        steps_per_epoch=steps_per_epoch(
            images, train.batch_size * team.size, train.grad_accum_steps
        ),
        warmup_epochs=train.warmup_steps,
    )
    return Plan(
        epochs=train.epochs_iters,
        batch_size=train.batch_size,
        grad_accum_steps=train.grad_accum_steps,
        images=images,
        order=partial(_shuffled, images, config.Global.seed),
        schedule=schedule,
        seed=config.Global.seed,
        loss_fn=_loss(config),
        num_workers=_workers(config, team),
        log_interval=train.log_interval,
        eval_interval=train.eval_interval,
        start_eval_epoch=train.start_eval_epoch,
        early_stop_patience=train.early_stop_patience,
        saving=Saving(
            train.save_interval,
            train.keep_last,
            train.save_latest_steps,
            train.save_latest_minutes,
        ),
        loader_repairs=loader_repairs(
            train.cache,
            _workers(config, team),
            _own_cores(team),
            reduced_decode=train.reduced_decode,
        ),
        team=team,
    )


def datasets(config: Config, dataset: MLClsDataset) -> tuple[MultiLabelDataset, MultiLabelDataset]:
    """The images to learn from, with their augmentation, and those to evaluate on."""
    augment = config.Train.augment
    changes = Augmentation(config.Global.seed, augment.cutout, augment.randaugment, augment.flip)
    size = config.Train.image_size
    return MultiLabelDataset(dataset.train, size, changes), MultiLabelDataset(dataset.val, size)


def settings(config: Config, team: Team) -> dict[str, Any]:
    """What a resumed run must share with the first for equal numbers: key -> plain value."""
    train = config.Train
    return {
        "Global.seed": config.Global.seed,
        "processes": team.size,
        "Train.epochs_iters": train.epochs_iters,
        "Train.batch_size": train.batch_size,
        "Train.learning_rate": train.learning_rate,
        "Train.head_lr_mult": train.head_lr_mult,
        "Train.warmup_steps": train.warmup_steps,
        "Train.ema_decay": train.ema_decay,
        "Train.amp": train.amp,
        "Train.grad_accum_steps": train.grad_accum_steps,
        "Train.weight_decay": train.weight_decay,
        "Train.loss.gamma_neg": train.loss.gamma_neg,
        "Train.loss.gamma_pos": train.loss.gamma_pos,
        "Train.loss.clip": train.loss.clip,
        "Train.augment.cutout": train.augment.cutout,
        "Train.augment.randaugment": train.augment.randaugment,
        "Train.augment.flip": train.augment.flip,
        "Train.eval_interval": train.eval_interval,
    }


def _shuffled(size: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(size)


def _workers(config: Config, team: Team) -> int:
    """Processes that read images for this one; the machine's cores are shared by its team."""
    if config.Train.num_workers is not None:
        return config.Train.num_workers
    return _own_cores(team)


def _own_cores(team: Team) -> int:
    return max(1, usable_cores() // team.local_size)


def _loss(config: Config) -> LossFn:
    loss = config.Train.loss
    return partial(
        asymmetric_loss, gamma_neg=loss.gamma_neg, gamma_pos=loss.gamma_pos, clip=loss.clip
    )
