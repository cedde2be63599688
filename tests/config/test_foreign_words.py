# SPDX-License-Identifier: Apache-2.0
"""What users of other tools type is answered with our keys."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from paddlex_ml.config import foreign_words, load, shipped, validation
from paddlex_ml.errors import PaddlexMLError
from tests import repairs

NEEDED = ["Global.mode=train", "Global.dataset_dir=data"]
FILE = shipped.folder() / "PP-LCNet_x1_0_ML.yaml"


def refuse(*typed: str, file: Path = FILE) -> PaddlexMLError:
    with pytest.raises(PaddlexMLError) as caught:
        load.load(file, [*NEEDED, *typed])
    return caught.value


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        # PaddleX and PaddleClas
        ("Train.epochs=9", "Train.epochs_iters=9"),
        ("Global.epochs=9", "Train.epochs_iters=9"),
        ("Global.class_num=9", "Train.num_classes=9"),
        ("Arch.class_num=9", "Train.num_classes=9"),
        ("Arch.name=ResNet50_ML", "Global.model=ResNet50_ML"),
        ("Optimizer.lr.learning_rate=0.001", "Train.learning_rate=0.001"),
        ("Optimizer.regularizer.coeff=1", None),
        ("Global.print_batch_step=9", "Train.log_interval=9"),
        ("Global.pretrained_model=a.pdparams", "Train.pretrain_weight_path=a.pdparams"),
        ("Global.checkpoints=output/latest", "Train.resume_path=output/latest"),
        ("Global.save_dir=runs", "Global.output=runs"),
        ("Global.image_shape=224", "Train.image_size=224"),
        ("AMP.use_amp=True", "Train.amp=O1"),
        ("Infer.infer_imgs=a.jpg", "Predict.input=a.jpg"),
        # Ultralytics
        ("Train.epoch=9", "Train.epochs_iters=9"),
        ("Train.batch=9", "Train.batch_size=9"),
        ("Train.imgsz=224", "Train.image_size=224"),
        ("Train.imgsz=225", "Train.image_size=224"),
        ("Global.data=my/set", "Global.dataset_dir=my/set"),
        ("Train.lr0=0.001", "Train.learning_rate=0.001"),
        ("Train.workers=2", "Train.num_workers=2"),
        ("Train.patience=4", "Train.early_stop_patience=4"),
        ("Train.fliplr=0.0", "Train.augment.flip=false"),
        ("Train.fliplr=0.5", "Train.augment.flip=true"),
        ("Train.erasing=0", "Train.augment.cutout=0.0"),
        ("Train.half=True", "Train.amp=O1"),
        ("Train.cos_lr=True", "Train.lr_schedule=cosine"),
        ("Train.save_period=5", "Train.save_interval=5"),
        ("Global.project=runs", "Global.output=runs"),
        ("Predict.source=a.jpg", "Predict.input=a.jpg"),
        ("Predict.conf=0.4", "Predict.threshold=0.4"),
        ("Export.half=True", "Export.precision=fp16"),
        ("Export.int8=True", "Export.precision=int8"),
        # timm and torchvision
        ("Train.lr=0.001", "Train.learning_rate=0.001"),
        ("Train.sched=cosine", "Train.lr_schedule=cosine"),
        ("Train.clip_grad=5", "Train.grad_clip_norm=5"),
        ("Train.model_ema_decay=0.99", "Train.ema_decay=0.99"),
        ("Train.smoothing=0.1", "Train.loss.label_smoothing=0.1"),
        ("Train.hflip=0.5", "Train.augment.flip=true"),
        ("Train.aa=rand-m9-mstd0.5", "Train.augment.randaugment=true"),
        ("Train.aa=none", "Train.augment.randaugment=false"),
        ("Train.reprob=0.25", "Train.augment.cutout=0.25"),
        ("Train.print_freq=10", "Train.log_interval=10"),
        ("Train.bce_loss=True", "Train.loss.name=bce"),
        ("Train.model_ema=0.999", "Train.ema_decay=0.999"),
        ("Train.wd=0.05", "Train.weight_decay=0.05"),
        # Keras
        ("Train.classes=9", "Train.num_classes=9"),
        ("Train.target_size=224", "Train.image_size=224"),
        ("Train.directory=my/set", "Global.dataset_dir=my/set"),
        ("Train.horizontal_flip=True", "Train.augment.flip=true"),
        ("Train.validation_freq=2", "Train.eval_interval=2"),
        ("Train.class_weight=auto", "Train.loss.pos_weight=auto"),
        ("Train.loss=bce", "Train.loss.name=bce"),
        ("Train.loss_fn=binary_crossentropy", "Train.loss.name=bce"),
        # Lightning and Hugging Face
        ("trainer.max_epochs=9", "Train.epochs_iters=9"),
        ("Train.num_train_epochs=9", "Train.epochs_iters=9"),
        ("Train.per_device_train_batch_size=9", "Train.batch_size=9"),
        ("Train.gradient_accumulation_steps=2", "Train.grad_accum_steps=2"),
        ("Train.accumulate_grad_batches=2", "Train.grad_accum_steps=2"),
        ("Train.precision=16-mixed", "Train.amp=O1"),
        ("Train.precision=32", "Train.amp=OFF"),
        ("Train.check_val_every_n_epoch=2", "Train.eval_interval=2"),
        ("Train.log_every_n_steps=9", "Train.log_interval=9"),
        ("Train.resume_from_checkpoint=output/latest", "Train.resume_path=output/latest"),
        ("Train.gradient_checkpointing=True", "Train.recompute=true"),
        ("Train.report_to=wandb", "Train.track=wandb"),
        ("TrainingArguments.num_train_epochs=9", "Train.epochs_iters=9"),
        ("TrainingArguments.per_device_eval_batch_size=9", "Evaluate.batch_size=9"),
        # fastai
        ("Train.bs=9", "Train.batch_size=9"),
        ("Train.fit_one_cycle=9", "Train.epochs_iters=9"),
        ("Train.fine_tune=9", "Train.epochs_iters=9"),
        ("dls.bs=9", "Train.batch_size=9"),
        # without a section, as Ultralytics
        ("epochs=9", "Train.epochs_iters=9"),
        ("imgsz=224", "Train.image_size=224"),
        ("data=my/set", "Global.dataset_dir=my/set"),
        ("mode=train", "Global.mode=train"),
        ("mode=val", "Global.mode=evaluate"),
        ("workers=8", "Train.num_workers=8"),
        ("optimizer=SGD", None),
        ("val=False", None),
        ("verbose=True", None),
        ("name=exp1", "Global.output=exp1"),
        ("project=runs", "Global.output=runs"),
        ("freeze=10", "Train.freeze_backbone_epochs=10"),
        # values that mean others here
        ("amp=True", "Train.amp=O1"),
        ("amp=False", "Train.amp=OFF"),
        ("pretrained=False", "Train.pretrain_weight_path=null"),
        ("pretrained=True", None),
        ("pretrained=a.pdparams", "Train.pretrain_weight_path=a.pdparams"),
        ("resume=True", "Train.resume_path=auto"),
        ("resume=output/latest", "Train.resume_path=output/latest"),
        ("Train.early_stopping=True", "Train.early_stop_patience=10"),
        ("Train.model_ema=False", "Train.ema_decay=0.0"),
        ("Global.image_shape=[3,224,224]", "Train.image_size=224"),
        ("use_gpu=False", "Global.device=cpu"),
        ("no_cuda=True", "Global.device=cpu"),
        # a section in other letters
        ("train.epochs_iters=9", "Train.epochs_iters=9"),
        ("TRAIN.BATCH_SIZE=9", "Train.batch_size=9"),
    ],
)  # fmt: skip
def test_a_word_of_another_tool_is_answered_with_our_key(typed: str, meant: str | None) -> None:
    error = refuse(typed)
    assert error.what.startswith("unknown ") or typed.startswith("Train.loss=")
    assert len(error.fix) < 250
    found = repairs.find(str(error))
    assert found[:1] == ([[meant]] if meant else [])
    assert len(found) <= 2
    if meant and typed.partition(".")[0] in validation.sections() and "set its" not in error.fix:
        assert error.fix.startswith(f"write {meant.partition('=')[0]} instead")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("Global.mode=val", "Global.mode=evaluate"),
        ("Global.mode=test", "Global.mode=evaluate"),
        ("Global.mode=fit", "Global.mode=train"),
        ("Global.mode=convert", "Global.mode=check_dataset"),
        ("Train.amp=True", "Train.amp=O1"),
        ("Train.amp=bf16", "Train.amp=O1"),
        ("Train.image_size=224,224", "Train.image_size=224"),
        ("Train.image_size=[224,224]", "Train.image_size=224"),
        ("Train.early_stop_patience=False", "Train.early_stop_patience=null"),
    ],
)
def test_a_value_of_another_tool_is_answered_with_ours(typed: str, meant: str) -> None:
    assert repairs.find(str(refuse(typed))) == [[meant]]


def test_a_mode_of_another_tool_brings_the_key_that_it_needs() -> None:
    found = repairs.find(str(refuse("Global.mode=infer")))
    assert found == [["Global.mode=predict", "Predict.input=photo.jpg"]]


@pytest.mark.parametrize(
    ("theirs", "with_gpu"),
    [
        ("cuda", "gpu"), ("cuda:0", "gpu:0"), ("0", "gpu:0"), ("0,1", "gpu:0,1"),
        ("[0,1]", "gpu:0,1"), ("mps", "auto"), ("-1", "cpu"),
    ],
)  # fmt: skip
def test_a_device_of_another_tool_is_one_that_this_machine_may_have(
    theirs: str, with_gpu: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for is_missing, device in ((False, with_gpu), (True, "cpu" if theirs == "-1" else "auto")):
        monkeypatch.setattr("paddlex_ml.gpus.are_missing", lambda is_missing=is_missing: is_missing)
        for key in ("Global.device", "device", "gpus"):
            fix = refuse(f"{key}={theirs}").fix.removesuffix(")")
            assert fix.endswith(f"-o Global.device={device}")


def test_words_that_mean_several_keys_name_all_of_them() -> None:
    assert repairs.find(str(refuse("Train.bf16=True"))) == [
        ["Train.amp=O1", "Train.amp_dtype=bfloat16"]
    ]
    split = [
        "CheckDataset.split.enable=true",
        "CheckDataset.split.train_percent=75",
        "CheckDataset.split.val_percent=25",
    ]
    assert repairs.find(str(refuse("Train.validation_split=0.25"))) == [split]
    assert repairs.find(str(refuse("Train.train_size=0.75"))) == [split]


def test_every_word_is_answered_shortly_and_with_keys_that_exist() -> None:
    words = [word for names in foreign_words.SYNONYMS.values() for word in names]
    words += [word for word in foreign_words.MEANINGS if "." not in word]
    words += foreign_words.NOTES
    assert len(words) > 250
    keys = {*validation.leaf_keys(), "Train.augment", "Train.loss"}
    for word in words:
        if f"Train.{word}" in keys:
            continue
        error = refuse(f"Train.{word}=1")
        assert error.what == f"unknown key Train.{word}"
        assert not re.search("none of the|choose from", error.fix), word
        assert len(error.fix) < 300
        sections = "|".join(validation.sections())
        named = re.findall(rf"\b(?:{sections})\.[a-z_.]*[a-z]", error.fix)
        assert named or "best model" in error.fix or "object detection" in error.fix, word
        assert not [name for name in named if name not in keys], word


def test_no_word_is_in_two_tables() -> None:
    is_silent = {word for word, meaning in foreign_words.MEANINGS.items() if not meaning(True)}
    notes, meanings = set(foreign_words.NOTES), set(foreign_words.MEANINGS)
    assert is_silent <= notes  # the note answers what the meaning does not
    meanings -= is_silent
    synonyms = {word for names in foreign_words.SYNONYMS.values() for word in names}
    assert len(notes | meanings | synonyms) == len(notes) + len(meanings) + len(synonyms)


def test_a_file_of_paddleclas_is_answered_section_by_section(tmp_path: Path) -> None:
    file = tmp_path / "clas.yaml"
    file.write_text(
        "Global: {epochs: 9, device: gpu, output_dir: ./out, class_num: 5}\n"
        "Arch: {name: MobileNetV1, class_num: 5}\n"
        "Optimizer: {name: Momentum, lr: {name: Cosine, learning_rate: 0.001}}\n"
        "DataLoader: {Train: {sampler: {batch_size: 16}, loader: {num_workers: 3}}}\n"
    )
    message = str(refuse(file=file))
    assert "unknown section Optimizer" in message
    assert "a section of PaddleClas; in our keys: -o Train.learning_rate=0.001" in message
    assert "in our keys: -o Train.batch_size=16, -o Train.num_workers=3" in message
    model = "-o Global.model=PP-LCNet_x1_0_ML, where PP-LCNet_x1_0_ML is only an example"
    assert f"in our keys: {model}, -o Train.num_classes=5" in message
    for lines in message.split("fix:"):
        assert len(lines.splitlines()[0]) < 300
