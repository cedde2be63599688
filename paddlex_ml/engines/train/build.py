# SPDX-License-Identifier: Apache-2.0
"""The model of a training and all that changes while it learns, new or from a checkpoint."""

from __future__ import annotations

from functools import partial

import paddle

from paddlex_ml import paddle_runtime
from paddlex_ml.artifacts.saved_states import Progress
from paddlex_ml.config.fingerprint import fingerprint
from paddlex_ml.config.schema import Config
from paddlex_ml.config.validation import override
from paddlex_ml.data import annotation, targets
from paddlex_ml.data.annotation import ImageList, MLClsDataset
from paddlex_ml.distributed.group import ProcessGroup
from paddlex_ml.engines.train import label_estimates, pretrained, resume, start, teachers
from paddlex_ml.engines.train.plan import compose_plan
from paddlex_ml.engines.train.start import Opened
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.kernels import layers
from paddlex_ml.kernels.families import FAMILIES
from paddlex_ml.models import published, zoo
from paddlex_ml.progress import named
from paddlex_ml.training import precision
from paddlex_ml.training.ema import Ema
from paddlex_ml.training.optimizer import build_optimizer
from paddlex_ml.training.plan import Plan
from paddlex_ml.training.recompute import recompute_blocks
from paddlex_ml.training.state import Training
from paddlex_ml.training.sync_batch_norm import synchronise
from paddlex_ml.wording import count


@named("building the model")
def prepare(
    config: Config, dataset: MLClsDataset, opened: Opened, group: ProcessGroup
) -> tuple[Training, Plan]:
    """Build the model and all that changes while it learns, new or from a checkpoint."""
    options, teacher = config.Train, teachers.build(config, dataset, group)
    weights_read = None if opened.saved else pretrained.read(config, opened.info)
    head, info = start.choose_head(config, opened, weights_read)
    paddle_runtime.use_own_threads()
    paddle.seed(config.Global.seed)
    build = partial(zoo.build, info.model, head.classes, tokens=info.decoder_tokens, layout=head)
    model, progress = build(), Progress()
    if weights_read is not None:
        progress.started_from = pretrained.load(model, weights_read, info)
        del weights_read  # as large as the model
    averaged, device = build(), paddle.device.get_device()
    if options.sync_bn:
        model = synchronise(model, group, on_gpu=device != "cpu")
    optimizer = build_optimizer(
        model,
        weight_decay=options.weight_decay,
        lr_mult=partial(
            zoo.find(info.model).lr_mult,
            head=options.head_lr_mult,
            backbone=options.backbone_lr_mult,
        ),
        clip_norm=options.grad_clip_norm,
    )
    computing = precision.choose(options.amp, options.amp_dtype, device, options.channels_last)
    computing.decorate(model, optimizer)
    if options.recompute:
        recompute_blocks(model)
    training = Training(
        info,
        model,
        averaged,
        Ema(model, options.ema_decay),
        optimizer,
        computing.scaler(),
        fingerprint(config, group.size)
        | {"Train.num_queries": head.queries, teachers.KEY: teacher and teacher.digests},
        progress,
        label_estimates.build(config, dataset, group, is_read=opened.saved is not None),
        compiles=options.compile,
        overlaps=start.overlaps(options, device),
    )
    if opened.saved is not None and opened.folder is not None:
        training.restore(opened.saved)
        resume.log(training, opened.folder, opened.saved.fingerprint, options.epochs_iters)
    return training, compose_plan(config, dataset, model, computing, group, teacher)


def refuse_unfit_lists(config: Config, dataset: MLClsDataset, group: ProcessGroup) -> None:
    """Raise PaddlexMLError where the options do not fit the lists of the data set."""
    asked, classes = config.Train.num_classes, len(dataset.label_names)
    if asked is not None and asked != classes:
        raise PaddlexMLError(
            f"Train.num_classes is {asked}, label.txt names {count(classes, 'class', 'classes')}",
            where=str(dataset.root / annotation.LABEL_FILE),
            fix="-o Train.num_classes=null takes the number from label.txt",
        )
    queries = config.Train.num_queries
    if queries != "auto" and queries > classes:
        raise PaddlexMLError(
            f"Train.num_queries is {queries}, label.txt names "
            f"{count(classes, 'class', 'classes')}: a query without a "
            "class learns nothing",
            where=str(dataset.root / annotation.LABEL_FILE),
            fix=f"{override('Train.num_queries', classes)} gives every class its own, "
            f"{override('Train.num_queries', 'auto')} chooses",
        )
    counted = dataset.train.weights
    images = len(dataset.train) if counted is None else int((counted > 0).sum())
    if images < group.size:
        raise PaddlexMLError(
            f"{count(images, 'image cannot', 'images cannot')} be shared by "
            f"{count(group.size, 'process', 'processes')}",
            where=str(dataset.root / annotation.TRAIN_FILE),
            fix="-o Global.device=auto trains in one process",
        )
    if config.Train.teacher is None:
        only_present = config.Train.single_positive and config.Train.unknown_labels != "negative"
        _refuse_unknown_list(dataset.train, only_present=only_present)


def _refuse_unknown_list(train: ImageList, *, only_present: bool) -> None:
    """Raise PaddlexMLError where nothing is known of any image that a training counts."""
    values = train.values
    if train.weights is not None:
        values = targets.take(values, train.weights > 0)
    counts = targets.count(values)
    if (counts.present if only_present else counts.known).any() or train.soft is not None:
        return
    what = "every label of train.txt is unknown"
    fix = "write 1 where an image shows the class and 0 where it does not, at least for some"
    if only_present and counts.known.any():
        what = "no image of train.txt shows a class, and Train.single_positive reads 0 as unknown"
        fix = "write 1 where an image shows the class"
    raise PaddlexMLError(
        f"{what}: there is nothing to learn from",
        where=str(train.root / annotation.TRAIN_FILE),
        fix=fix,
    )


def load_kernels(config: Config, model: str) -> None:
    """Begin to load what the steps of this model compute with on the CPU, while it is built."""
    options, known = config.Train, published.TABLE.get(model)
    if paddle.device.get_device() == "cpu" and options.amp == "OFF" and not options.compile:
        layers.load_ahead(known.kernels if known else tuple(FAMILIES))
