# SPDX-License-Identifier: Apache-2.0
"""Every repair of a bad configuration works when it is pasted in the place of what was wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from paddlex_ml.config import load
from paddlex_ml.config.validation import leaf_keys
from paddlex_ml.errors import PaddlexMLError
from tests import repairs
from tests.config.test_load import MINIMAL

FILE = Path("minimal.yaml")  # reading a shipped file, with all keys, takes ten times as long
NEEDED = ["Global.dataset_dir=data", "Predict.input=a.jpg", "Train.epochs_iters=20"]
SINGLE = ["Train.loss.name=bce", "Train.single_positive=true", "Train.loss.unknown=negative"]
WRONG = [
    *("", "many", "-1", "0", "1.5", "1e5", "1e400", ".nan", "99999999999", "007", "true", "off"),
    *('"true"', "None", "null", "a: b", "[]", "[1", "[a, 1]", "{a: b}", "{a: 3}", "{", "$NO/x"),
    *("'", "*", "gpu:0,0", "450", "'450'", "(a", "a,a", "\ta"),
]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NO", raising=False)
    FILE.write_text(MINIMAL)


def refuse(overrides: Sequence[str]) -> str | None:
    """The message about faulty overrides, or None."""
    try:
        load.load(FILE, overrides)
    except PaddlexMLError as error:
        return str(error)
    return None


def assert_repairs_work(others: list[str], bad: list[str], least: int = 1) -> None:
    message = refuse([*others, *bad])
    assert message is not None
    found = repairs.find(message)
    assert len(found) >= least, message
    for repair in found:
        keys = {option.partition("=")[0] for option in repair}
        kept = [option for option in bad[:-1] if option.partition("=")[0] not in keys]
        again = refuse([*others, *kept, *repair])
        assert again is None, f"{bad}\n{message}\n{repair}\n{again}"


@pytest.mark.parametrize("key", leaf_keys())
def test_the_repair_of_a_bad_value_of_any_key_works(key: str) -> None:
    others, refused = ["Global.mode=train", *NEEDED], 0
    for value in WRONG:
        bad = f"{key}={value}"
        message = refuse([*others, bad])
        if message is None:
            continue
        refused += 1
        found = repairs.find(message)
        assert found, message
        for repair in found:
            again = refuse([*others, *repair])
            assert again is None, f"{bad}\n{message}\n{repair}\n{again}"
    assert refused


@pytest.mark.parametrize(
    "bad",
    [
        ["Train.batch_size"],
        ["Train.batchsize=4"],
        ["batch_size=4"],
        ["Train.nu_workers=many"],
        ["output=0101"],
        ["Global.outptu=007"],
        ["Global.weight_path=a.pdparams"],
        ["Train.batch_size.x=cat"],
        ["Train.loss=3"],
        ["Train=many"],
        ["Train.loss={clip: 0"],
        ["Predict.input=[ab]*.jpg"],
        ["Train.head_lr_mult=200"],
        ["Train.learning_rate=0.5"],
        ["Train.lr=0.001"],
        ["lr=0.001"],
        ["Train.epochs=30"],
        ["epochs=30"],
        ["Train.batchsize=8"],
        ["Train.bs=8"],
        ["Train.img_size=224"],
        ["Train.workers=2"],
        ["workers=2"],
        ["Train.weight_decay=0,05"],
        ["Train.warmup_steps=50"],
        ["Train.freeze_backbone_epochs=20"],
        ["Train.start_eval_epoch=21"],
        ["Train.decoder_tokens=all_patches"],
        ["Train.loss.name=two_way", "Train.loss.label_smoothing=0.1"],
        ["Train.loss.pos_weight=auto"],
        ["Train.single_positive=true", "Train.loss.unknown=ignore"],
        ["Train.single_positive=true", "Train.loss.name=two_way", "Train.loss.unknown=em"],
        ["Train.single_positive=true", "Train.augment.mixup=0.2"],
        ["Train.loss.em_alpha=0.3"],
        ["Train.distillation.temperature=3"],
        ["Train.distillation.weight=0.9", "Train.distillation.temperature=3"],
        ["Train.loss.name=bce", "Train.loss.role_labels=3"],
        ["Train.loss.role_labels=3"],
        [*SINGLE, "Train.loss.pos_weight=auto", "Train.loss.role_labels=3"],
        [*SINGLE, "Train.augment.mixup=0.2", "Train.loss.em_alpha=0.3"],
        ["Train.loss.name=two_way", *SINGLE[1:], "Train.loss.em_alpha=0.3"],
        ["Train.num_queries=0"],
        ["Train.num_queries=null"],
    ],
)
def test_the_repair_of_a_bad_override_of_a_training_works(bad: list[str]) -> None:
    assert_repairs_work(["Global.mode=train", *NEEDED], bad)


@pytest.mark.parametrize(
    ("others", "key", "unknown"),
    [
        ([], "em_alpha", "em"),
        (SINGLE, "em_alpha", "em"),
        (SINGLE, "role_labels", "role"),
        (["Train.loss.name=bce"], "role_labels", "role"),
        ([], "role_labels", None),
        (["Train.loss.name=bce", "Train.loss.role_labels=2"], "em_alpha", None),
        ([*SINGLE, "Train.augment.mixup=0.2"], "em_alpha", None),
    ],
)
def test_a_number_of_another_treatment_may_be_kept(
    others: list[str], key: str, unknown: str | None
) -> None:
    message = refuse(["Global.mode=train", *NEEDED, *others, f"Train.loss.{key}=0.3"])
    assert message is not None
    found = repairs.find(message)
    assert ([f"Train.loss.unknown={unknown}"] in found) == (unknown is not None)
    assert any(repair[0].startswith(f"Train.loss.{key}=") for repair in found)


@pytest.mark.parametrize(
    ("mode", "bad"),
    [
        ("check_dataset", ["CheckDataset.split={enable: true, train_percent: 90}"]),
        (
            "check_dataset",
            ["CheckDataset.split={enable: true, train_percent: 100, val_percent: 0}"],
        ),
        ("check_dataset", ["CheckDataset.convert.enable=true"]),
        ("check_dataset", ["CheckDataset.convert.rename={car: vehicle}"]),
        ("check_dataset", ["CheckDataset.convert.rename=car"]),
        ("check_dataset", ["CheckDataset.convert.uncertain=positives"]),
        ("check_dataset", ["CheckDataset.convert.src_dataset_type=labelmee"]),
        ("evaluate", ["Evaluate.tune_target=0.95"]),
        ("evaluate", ["Evaluate.tune_threshold=null", "Evaluate.save_threshold=true"]),
        ("evaluate", ["Evaluate.bootstrap=1"]),
        ("export", ["Export.opset=13"]),
        ("predict", ["Predict.input=null"]),
        ("train", ["Global.dataset_dir=null"]),
        ("trian", []),
    ],
)
def test_the_repair_of_a_broken_rule_works(mode: str, bad: list[str]) -> None:
    message = refuse([*NEEDED, f"Global.mode={mode}", *bad])
    assert message is not None
    found = repairs.find(message)
    assert found
    for repair in found:
        assert refuse([*NEEDED, f"Global.mode={mode}", *bad, *repair]) is None, message


def test_the_repair_of_an_output_that_is_a_file_names_a_free_folder() -> None:
    for name in ("taken", "output_2"):
        Path(name).touch()
    message = refuse([*NEEDED, "Global.output=taken/deeper"])
    assert message is not None
    assert repairs.find(message) == [["Global.output=output_3"]]


def test_the_repair_of_a_text_keeps_its_digits() -> None:
    for typed in ("007", "1e5", "0101", "true"):
        for wrong in ("output", "Global.outptu", "Train.output"):
            message = refuse([*NEEDED, f"{wrong}={typed}"])
            assert message is not None
            assert [f"Global.output={typed}"] in repairs.find(message)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("Predict.threshold=0,5", "Predict.threshold=0.5"),
        ("Evaluate.threshold=0,25", "Evaluate.threshold=0.25"),
        ("Train.learning_rate=0,002", "Train.learning_rate=0.002"),
        ("Predict.threshold=1,5", "Predict.threshold=null"),
        ("Train.lr=0.002", "Train.learning_rate=0.002"),
        ("LR=0.002", "Train.learning_rate=0.002"),
        ("Train.epochs=30", "Train.epochs_iters=30"),
        ("Train.batchsize=8", "Train.batch_size=8"),
        ("Train.img_size=224", "Train.image_size=224"),
        ("Global.workers=2", "Train.num_workers=2"),
        ("Predict.conf=0.4", "Predict.threshold=0.4"),
        ("Global.save_dir=runs/1", "Global.output=runs/1"),
    ],
)
def test_the_repair_is_what_was_meant(typed: str, meant: str) -> None:
    message = refuse([*NEEDED, typed])
    assert message is not None
    assert repairs.find(message) == [[meant]]


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("Train.epochs_iters=abc", "-o Train.epochs_iters=20, where 20 is only an example"),
        ("Train.epochs=abc", "(-o Train.epochs_iters=20, where 20 is only an example)"),
        ("Train.batch_size=-4", "-o Train.batch_size=32, where 32 is only an example"),
        ("Train.epochs_iters=[5", "-o Train.epochs_iters=20, as an example"),
        ("Global.device=the_first", "-o Global.device=auto, where auto is only an example"),
        ("Train.grad_clip_norm=abc", "-o Train.grad_clip_norm=null, where null is the default"),
        ("Train.learning_rate=0.5", "-o Train.learning_rate=0.001, as it is shipped"),
        # what the user has written
        ("Train.epochs_iters=5.0", "-o Train.epochs_iters=5\n"),
        ("Global.device=gpu:0-1", "-o Global.device=gpu:0,1\n"),
        ("Train.learning_rate=0,002", "-o Train.learning_rate=0.002\n"),
    ],
)
def test_a_value_that_replaces_that_of_the_user_is_told(typed: str, told: str) -> None:
    message = refuse(["Global.mode=train", *NEEDED, typed])
    assert message is not None
    assert f"{told}" in f"{message}\n"
