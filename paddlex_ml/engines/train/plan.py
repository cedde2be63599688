# SPDX-License-Identifier: Apache-2.0
"""Options of section `Train` -> what the training loop needs, composed before the first step."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import paddle

from paddlex_ml.config.schema import Config
from paddlex_ml.data import annotation, preprocess, sampling, soft_targets, targets
from paddlex_ml.data.annotation import ImageList, MLClsDataset
from paddlex_ml.data.dataset import Augmentation, MultiLabelDataset
from paddlex_ml.data.image_cache import open_caches
from paddlex_ml.data.loader import Loader, count_workers
from paddlex_ml.data.targets import Targets
from paddlex_ml.distributed.group import ProcessGroup
from paddlex_ml.engines.train import label_estimates, start, static_scoring
from paddlex_ml.models import zoo
from paddlex_ml.training import diagnostics
from paddlex_ml.training.distillation import Teacher
from paddlex_ml.training.freeze import backbone_entries, set_frozen
from paddlex_ml.training.losses import (
    LossFn,
    asymmetric_loss,
    bce_loss,
    entropy_maximised,
    positive_weight,
    smoothed,
    two_way_loss,
)
from paddlex_ml.training.plan import Plan, Saving, steps_per_epoch
from paddlex_ml.training.precision import Precision
from paddlex_ml.training.schedule import build_schedule
from paddlex_ml.wording import count

logger = logging.getLogger(__name__)


def prepare_lists(config: Config, dataset: MLClsDataset, group: ProcessGroup) -> MLClsDataset:
    """The lists as they are trained on: without images of weight 0, and with
    Train.loss.unknown=negative unknown is absent.

    The log says what becomes of them and of unknown labels, and what the lists cannot teach.
    """
    treatment, weights = config.Train.unknown_labels, dataset.train.weights
    if group.is_main:
        for sentence in soft_targets.tell(dataset.train.soft, weights):
            logger.info("%s", sentence)
    if weights is not None and not weights.all():
        if group.is_main:
            left_out = count(int(np.count_nonzero(weights == 0)), "image")
            logger.info("%s: left out: %s with the weight 0", annotation.TRAIN_FILE, left_out)
        dataset = replace(dataset, train=dataset.train.take(weights > 0))
    values = dataset.train.values
    if group.is_main:
        _tell_unknown(config, dataset.train)
    if treatment == "negative":
        values = targets.assume(values, 0)
        dataset = replace(dataset, train=replace(dataset.train, values=values))
    for message in diagnostics.check_lists(
        dataset.label_names, values, dataset.val.values, unknown=treatment
    ):
        logger.warning(message)
    return dataset


def _tell_unknown(config: Config, images: ImageList) -> None:
    """Log how many labels of train.txt are unknown, and what becomes of them."""
    options, values = config.Train, images.values
    weight = _weigh_unknown(config, values)
    if weight is None:
        if options.loss.unknown is not None:
            logger.info(
                "%s has no unknown label: Train.loss.unknown changes nothing", annotation.TRAIN_FILE
            )
        return
    counts, labels = targets.count(values), len(values) * values.shape[1]
    known = int((counts.present if options.single_positive else counts.known).sum())
    if options.single_positive and images.soft is not None:  # soft values stay known
        known += int(np.count_nonzero(images.soft.values < soft_targets.HALF))
    unknown, treatment = labels - known, options.unknown_labels
    effect = {
        "ignore": "leaves them out of the loss",
        "negative": "counts them as absent",
        "weak_negative": f"counts them as absent with the weight {weight:.3g}",
        "role": "estimates them while the model trains",
        "em": f"leaves their scores undecided (Train.loss.em_alpha={options.loss.em_alpha:g})",
    }[treatment]
    logger.info(
        f"{annotation.TRAIN_FILE}: {unknown:,} of {labels:,} labels ({unknown / labels:.1%}) are "
        f"unknown: Train.loss.unknown={treatment} {effect}"
    )


def compose_plan(
    config: Config,
    dataset: MLClsDataset,
    model: paddle.nn.Layer,
    precision: Precision,
    group: ProcessGroup,
    teacher: Teacher | None = None,
) -> Plan:
    """All that the options decide about the training of `model`, of which nothing is frozen yet."""
    options, (images, order) = config.Train, _choose_order(config, dataset)
    size, accum = options.batch_size, options.grad_accum_steps
    assert size != "auto"  # the size is chosen before
    schedule = build_schedule(
        options.lr_schedule,
        options.learning_rate,
        epochs=options.epochs_iters,
        steps_per_epoch=steps_per_epoch(images, size * group.size, accum, group.size),
        warmup_epochs=options.warmup_steps,
    )
    plan = Plan(
        epochs=options.epochs_iters,
        batch_size=size,
        grad_accum_steps=accum,
        images=images,
        order=order,
        schedule=schedule,
        seed=config.Global.seed,
        loss_fn=_choose_loss(config, dataset),
        log_interval=options.log_interval,
        teacher=teacher,
        eval_interval=options.eval_interval,
        start_eval_epoch=options.start_eval_epoch,
        early_stop_patience=options.early_stop_patience,
        saving=Saving(
            *(options.save_interval, options.keep_last),
            *(options.save_latest_steps, options.save_latest_minutes),
        ),
        after_checkpoint=partial(start.remove_overwritten, config.Global.output),
        loader_repairs=diagnostics.loader_repairs(
            options.cache,
            *(count_workers(asked, group.local_size) for asked in (options.num_workers, None)),
            reduced_decode=options.reduced_decode,
        ),
        precision=precision.autocast,
        begin_epoch=_choose_freezing(config, model),
        scoring=static_scoring.choose(config, len(dataset.val) // group.size, group.rank),
        group=group,
    )
    _tell_remainder(plan)
    return plan


def build_loaders(
    config: Config, dataset: MLClsDataset, group: ProcessGroup
) -> tuple[Loader, Loader]:
    """The loaders of the training images, with their augmentation, and of the validation images."""
    options, augment = config.Train, config.Train.augment
    only_present = options.single_positive and options.unknown_labels != "negative"
    augmentation = Augmentation(
        config.Global.seed, augment.cutout, augment.randaugment, augment.flip, augment.mixup
    )
    lists = [
        (dataset.train, options.reduced_decode),
        (dataset.val, config.Evaluate.reduced_decode),
    ]
    weights = dataset.train.weights
    normalised = None if weights is None else soft_targets.normalise(weights)
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
                only_present=one_sided,
                weights=normalised if changes else None,
                with_soft=changes is not None,
            ),
            workers,
        )
        for (images, reduced), changes, one_sided, cache in zip(
            lists, (augmentation, None), (only_present, False), caches, strict=True
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
    if not plan.group.is_main:
        return
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


def _weigh_unknown(config: Config, values: Targets) -> float | None:
    """What an unknown label counts as an absent one; None: there is no unknown label."""
    if not label_estimates.has_unknown(config, values):
        return None
    match config.Train.unknown_labels:
        case "negative":
            return 1.0
        case "weak_negative":
            return 1 / max(1, int(values.shape[1]) - 1)
        case "ignore" | "em" | "role":
            return 0.0


def _choose_loss(config: Config, dataset: MLClsDataset) -> LossFn:
    loss, unknown = config.Train.loss, _weigh_unknown(config, dataset.train.values)
    loss_fn: LossFn
    match loss.name:
        case "asymmetric":
            loss_fn = partial(
                asymmetric_loss,
                gamma_neg=loss.gamma_neg,
                gamma_pos=loss.gamma_pos,
                clip=loss.clip,
                unknown_weight=unknown,
            )
        case "bce":
            weight = positive_weight(loss.pos_weight, dataset.train.values)
            tensor = None if weight is None else paddle.to_tensor(weight)
            loss_fn = partial(bce_loss, pos_weight=tensor, unknown_weight=unknown)
        case "two_way":
            loss_fn = partial(two_way_loss, temperature=loss.temperature, unknown_weight=unknown)
    if config.Train.unknown_labels == "em" and unknown is not None:
        loss_fn = partial(entropy_maximised, loss_fn=loss_fn, alpha=loss.em_alpha)
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
