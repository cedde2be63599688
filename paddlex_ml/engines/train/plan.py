# SPDX-License-Identifier: Apache-2.0
"""Options of section `Train` -> what the training loop needs, composed before the first step."""

from __future__ import annotations

import logging
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
from paddlex_ml.engines.train import start
from paddlex_ml.models import zoo
from paddlex_ml.training.diagnostics import loader_repairs
from paddlex_ml.training.freeze import backbone_entries, set_frozen
from paddlex_ml.training.losses import (
    LossFn,
    asymmetric_loss,
    bce_loss,
    positive_weight,
    smoothed,
    two_way_loss,
)
from paddlex_ml.training.plan import Plan, Saving, steps_per_epoch
from paddlex_ml.training.precision import Precision
from paddlex_ml.training.schedule import build_schedule

logger = logging.getLogger(__name__)


def compose_plan(
    config: Config,
    dataset: MLClsDataset,
    model: paddle.nn.Layer,
    precision: Precision,
    group: ProcessGroup,
) -> Plan:
    """All that the options decide about the training of `model`, of which nothing is frozen yet."""
    options, (images, order) = config.Train, _choose_order(config, dataset)
    batch_size, accum = options.batch_size * group.size, options.grad_accum_steps
    schedule = build_schedule(
        options.lr_schedule,
        options.learning_rate,
        epochs=options.epochs_iters,
        steps_per_epoch=steps_per_epoch(images, batch_size, accum, group.size),
        warmup_epochs=options.warmup_steps,
    )
    plan = Plan(
        epochs=options.epochs_iters,
        batch_size=options.batch_size,
        grad_accum_steps=accum,
        images=images,
        order=order,
        schedule=schedule,
        seed=config.Global.seed,
        loss_fn=_choose_loss(config, dataset),
        log_interval=options.log_interval,
        eval_interval=options.eval_interval,
        start_eval_epoch=options.start_eval_epoch,
        early_stop_patience=options.early_stop_patience,
        saving=Saving(
            options.save_interval,
            options.keep_last,
            options.save_latest_steps,
            options.save_latest_minutes,
        ),
        after_checkpoint=partial(start.remove_overwritten, config.Global.output),
        loader_repairs=loader_repairs(
            options.cache,
            count_workers(options.num_workers, group.local_size),
            count_workers(None, group.local_size),
            reduced_decode=options.reduced_decode,
        ),
        precision=precision.autocast,
        begin_epoch=_choose_freezing(config, model),
        group=group,
    )
    if group.is_main:
        _tell_remainder(plan)
    return plan


def build_loaders(
    config: Config, dataset: MLClsDataset, group: ProcessGroup
) -> tuple[Loader, Loader]:
    """The loaders of the training images, with their augmentation, and of the validation images."""
    options, augment = config.Train, config.Train.augment
    augmentation = Augmentation(
        config.Global.seed, augment.cutout, augment.randaugment, augment.flip, augment.mixup
    )
    lists = [
        (dataset.train, options.reduced_decode),
        (dataset.val, config.Evaluate.reduced_decode),
    ]
    caches = open_caches(
        options.cache,
        lists,
        options.image_size,
        folder=options.cache_dir,
        processes=group.local_size,
    )
    workers = count_workers(options.num_workers, group.local_size)
    train_loader, val_loader = (
        Loader(
            MultiLabelDataset(
                images,
                preprocess.standard(options.image_size),
                changes,
                reduced_decode=reduced,
                cache=cache,
            ),
            workers,
        )
        for (images, reduced), changes, cache in zip(
            lists, (augmentation, None), caches, strict=True
        )
    )
    return train_loader, val_loader


def _choose_order(config: Config, dataset: MLClsDataset) -> tuple[int, Callable[[int], np.ndarray]]:
    """How many images an epoch draws, and epoch -> which ones, in which order."""
    size, seed = len(dataset.train), config.Global.seed
    draw = partial(sampling.shuffled_order, size)
    if config.Train.sampler == "repeat_factor":
        factors = sampling.repeat_factors(dataset.train.values, config.Train.repeat_threshold)
        size, draw = sampling.repeated_size(factors), partial(sampling.repeated_order, factors)
    return size, lambda epoch: draw(np.random.default_rng([seed, epoch]))


def _tell_remainder(plan: Plan) -> None:
    """Log what becomes of images that fill no step of their own."""
    whole, last = plan.step_images(0), plan.step_images(plan.steps - 1)
    if last != whole:
        logger.info(
            "%d images an epoch: the last of its %d steps has %d instead of %d",
            *(plan.used, plan.steps, last, whole),
        )
    if left_out := plan.images - plan.used:
        logger.warning(
            "each epoch leaves out %d of %d images, other ones each time: a last batch of less than"
            " two images per process is not used, because batch norm needs two. Another "
            "-o Train.batch_size=... can use them",
            *(left_out, plan.images),
        )


def _choose_loss(config: Config, dataset: MLClsDataset) -> LossFn:
    loss = config.Train.loss
    loss_fn: LossFn
    match loss.name:
        case "asymmetric":
            loss_fn = partial(
                asymmetric_loss, gamma_neg=loss.gamma_neg, gamma_pos=loss.gamma_pos, clip=loss.clip
            )
        case "bce":
            weight = positive_weight(loss.pos_weight, dataset.train.values)
            tensor = None if weight is None else paddle.to_tensor(weight)
            loss_fn = partial(bce_loss, pos_weight=tensor)
        case "two_way":
            loss_fn = partial(two_way_loss, temperature=loss.temperature)
    if loss.label_smoothing:
        return partial(smoothed, loss_fn=loss_fn, smoothing=loss.label_smoothing)
    return loss_fn


def _choose_freezing(config: Config, model: paddle.nn.Layer) -> Callable[[int], None]:
    """What to do when an epoch begins: freeze the backbone, thaw it, or nothing."""
    epochs = config.Train.freeze_backbone_epochs
    if not epochs:
        return lambda epoch: None
    names = backbone_entries(model, zoo.find(config.Global.model).head)
    return lambda epoch: set_frozen(model, names, epoch < epochs)
