# SPDX-License-Identifier: Apache-2.0
"""Section `Train` of the configuration -> what the loop needs, composed before the first step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import paddle

from paddlex_ml.config.schema import Config
from paddlex_ml.data import preprocess, sampling
from paddlex_ml.data.annotation import MLClsDataset
from paddlex_ml.data.dataset import Augmentation, MultiLabelDataset
from paddlex_ml.data.image_cache import open_caches
from paddlex_ml.data.loader import Loader, count_workers
from paddlex_ml.distributed.group import ProcessGroup
from paddlex_ml.models import zoo
from paddlex_ml.training.diagnostics import loader_repairs
from paddlex_ml.training.freeze import backbone_entries, set_frozen
from paddlex_ml.training.losses import (
    asymmetric_loss,
    bce_loss,
    positive_weight,
    smoothed,
    two_way_loss,
)
from paddlex_ml.training.plan import LossFn, Plan, Saving, steps_per_epoch
from paddlex_ml.training.precision import Precision
from paddlex_ml.training.schedule import build_schedule


def compose(
    config: Config,
    dataset: MLClsDataset,
    model: paddle.nn.Layer,
    precision: Precision,
    group: ProcessGroup,
) -> Plan:
    """Everything that options decide about the training of a `model` that nothing has frozen."""
    train = config.Train
    images, order = _order(config, dataset)
    schedule = build_schedule(
        train.lr_schedule,
        train.learning_rate,
        epochs=train.epochs_iters,
        steps_per_epoch=steps_per_epoch(
            images, train.batch_size * group.size, train.grad_accum_steps
        ),
        warmup_epochs=train.warmup_steps,
    )
    return Plan(
        epochs=train.epochs_iters,
        batch_size=train.batch_size,
        grad_accum_steps=train.grad_accum_steps,
        images=images,
        order=order,
        schedule=schedule,
        seed=config.Global.seed,
        loss_fn=_loss(config, dataset),
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
            count_workers(train.num_workers, group.local_size),
            count_workers(None, group.local_size),
            reduced_decode=train.reduced_decode,
        ),
        precision=precision.autocast,
        begin_epoch=_freezing(config, model),
        group=group,
    )


def loaders(config: Config, dataset: MLClsDataset, group: ProcessGroup) -> tuple[Loader, Loader]:
    """What reads the images to learn from, with their augmentation, and those to evaluate on."""
    train, augment = config.Train, config.Train.augment
    changes = Augmentation(
        config.Global.seed, augment.cutout, augment.randaugment, augment.flip, augment.mixup
    )
    reduced = (train.reduced_decode, config.Evaluate.reduced_decode)
    lists = list(zip((dataset.train, dataset.val), reduced, strict=True))
    caches = open_caches(
        train.cache,
        lists,
        train.image_size,
        folder=train.cache_dir,
        processes=group.local_size,
    )
    workers = count_workers(train.num_workers, group.local_size)
    train_loader, val_loader = (
        MultiLabelDataset(
            images,
            preprocess.standard(train.image_size),
            augmentation,
            reduced_decode=at_reduced_size,
            cache=cache,
        )
        for (images, at_reduced_size), augmentation, cache in zip(
            lists, (changes, None), caches, strict=True
        )
    )
    return Loader(train_loader, workers), Loader(val_loader, workers)


def _order(config: Config, dataset: MLClsDataset) -> tuple[int, Callable[[int], np.ndarray]]:
    """How many images an epoch draws, and epoch -> which ones, in which order."""
    size = len(dataset.train)
    if config.Train.sampler == "shuffle":
        return size, partial(_shuffled, size, config.Global.seed)
    factors = sampling.repeat_factors(dataset.train.targets, config.Train.repeat_threshold)
    return sampling.repeated_size(factors), partial(_repeated, factors, config.Global.seed)


def _shuffled(size: int, seed: int, epoch: int) -> np.ndarray:
    return sampling.shuffled_order(size, np.random.default_rng([seed, epoch]))


def _repeated(factors: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    return sampling.repeated_order(factors, np.random.default_rng([seed, epoch]))


def _loss(config: Config, dataset: MLClsDataset) -> LossFn:
    loss = config.Train.loss
    chosen: LossFn
    match loss.name:
        case "asymmetric":
            chosen = partial(
                asymmetric_loss, gamma_neg=loss.gamma_neg, gamma_pos=loss.gamma_pos, clip=loss.clip
            )
        case "bce":
            weight = positive_weight(loss.pos_weight, dataset.train.targets)
            tensor = None if weight is None else paddle.to_tensor(weight)
            chosen = partial(bce_loss, pos_weight=tensor)
        case "two_way":
            chosen = partial(two_way_loss, temperature=loss.temperature)
    return smoothed(chosen, loss.label_smoothing)


def _freezing(config: Config, model: paddle.nn.Layer) -> Callable[[int], None]:
    """What begins an epoch: the backbone is frozen, thawed, or was never touched."""
    epochs = config.Train.freeze_backbone_epochs
    names = backbone_entries(model, zoo.find(config.Global.model).head)

    def begin(epoch: int) -> None:
        set_frozen(model, names, epoch < epochs)

    return begin if epochs else lambda epoch: None
