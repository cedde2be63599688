# SPDX-License-Identifier: Apache-2.0
"""Train.teacher: what may teach, what it is asked, and what is refused."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
import yaml

from paddlex_ml.artifacts import checkpoint
from paddlex_ml.config import load
from paddlex_ml.config.schema import Config
from paddlex_ml.config.shipped import find
from paddlex_ml.data import annotation
from paddlex_ml.data.dataset import SampleIndex
from paddlex_ml.distributed.group import ProcessGroup
from paddlex_ml.engines.train import static_scoring, teachers
from paddlex_ml.errors import PaddlexMLError

Run = Callable[..., tuple[int, str]]
ONE = ProcessGroup()
STILL = ("Train.augment.randaugment=false", "Train.augment.cutout=0")


@pytest.fixture
def config_of(toy: Path, tmp_path: Path) -> Any:
    def read(*overrides: str) -> Config:
        path, _ = find("PP-LCNet_x1_0_ML")
        base = [f"Global.dataset_dir={toy}", f"Global.output={tmp_path / 'out'}"]
        base += ["Global.mode=train", "Train.image_size=32"]
        return load.load(path, [*base, *overrides]).config

    return read


def build(config: Config, data: Path) -> Any:
    return teachers.build(config, annotation.read(data), ONE)


def refused(config: Config, data: Path) -> PaddlexMLError:
    with pytest.raises(PaddlexMLError) as caught:
        build(config, data)
    return caught.value


def images() -> paddle.Tensor:
    return paddle.to_tensor(np.random.default_rng(3).standard_normal((4, 3, 32, 32), np.float32))


DRAWS = [SampleIndex(0, number) for number in range(4)]


def with_classes(toy: Path, folder: Path, *names: str) -> Path:
    """The toy with other names of its classes, or fewer of them."""
    shutil.copytree(toy, folder)
    (folder / "label.txt").write_text("".join(f"{n} {name}\n" for n, name in enumerate(names)))
    for name in ("train.txt", "val.txt"):
        lines = (folder / name).read_text().splitlines()
        short = [",".join(line.split(",")[: len(names)]) for line in lines]
        (folder / name).write_text("".join(f"{line}\n" for line in short))
    return folder


def test_every_form_of_a_model_teaches_the_same(
    run: Run, config_of: Any, toy: Path, copy_of_run: Path
) -> None:
    pytest.importorskip("paddle2onnx")
    assert run("export", None, copy_of_run, "Export.format=onnx")[0] == 0
    best = copy_of_run / "best_model"
    forms = [copy_of_run, best, best / "best_model.pdparams", best / "best_model"]
    forms += [best / "inference", best / "inference_onnx", best / "inference" / "inference.json"]
    forms += [best / "inference_onnx" / "inference.onnx"]
    found = []
    for form in forms:
        teacher = build(config_of(f"Train.teacher={form}"), toy)
        found.append(teacher.targets(images(), DRAWS).numpy())
        assert np.abs(found[-1] - found[0]).max() < 1e-5, form
        assert teacher.digests[0] != ""
    assert np.ptp(found[0], axis=0).min() > 1e-3
    both = build(config_of(f"Train.teacher=[{best}, {best / 'inference'}]"), toy)
    assert len(set(both.digests)) == 2
    assert np.abs(both.targets(images(), DRAWS).numpy() - found[0]).max() < 1e-5


def test_weights_are_computed_by_one_dnn_where_there_are_many_images(
    config_of: Any, toy: Path, toy_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(f"Train.teacher={toy_run}")
    plain = build(config, toy).targets(images(), DRAWS).numpy()
    monkeypatch.setattr(static_scoring, "LEAST_PIXELS", 0)
    used: list[int] = []
    load = static_scoring.StaticScoring._load
    monkeypatch.setattr(
        *(static_scoring.StaticScoring, "_load"),
        lambda self, model: used.append(1) or load(self, model),
    )
    fast = build(config, toy).targets(images(), DRAWS).numpy()
    assert used == [1]
    assert 0 < np.abs(fast - plain).max() < 1e-5 or np.array_equal(fast, plain)


def test_classes_are_matched_by_their_names(
    config_of: Any, toy: Path, toy_run: Path, tmp_path: Path, caplog: Any
) -> None:
    config = config_of(f"Train.teacher={toy_run}")
    whole = build(config, toy).targets(images(), DRAWS).numpy()
    names = annotation.read(toy).label_names
    data = with_classes(toy, tmp_path / "other", names[2], names[0])
    with caplog.at_level(logging.INFO):
        found = build(config, data).targets(images(), DRAWS).numpy()
    np.testing.assert_array_equal(found, whole[:, [2, 0]])
    assert f"teacher {toy_run}: 2 of its 3 classes are those of label.txt, by their names" in (
        caplog.messages
    )


def test_a_class_that_the_teacher_does_not_know_is_refused(
    config_of: Any, toy: Path, toy_run: Path, tmp_path: Path
) -> None:
    names = annotation.read(toy).label_names
    data = with_classes(toy, tmp_path / "other", names[0], "lorry", "van")
    error = refused(config_of(f"Train.teacher={toy_run}"), data)
    assert error.what == ("the teacher does not know 2 of the 3 classes of label.txt: lorry, van")
    assert error.where == str(toy_run)
    assert "-o Train.teacher=null" in error.fix


def test_another_image_size_is_refused_with_a_size_that_works(
    config_of: Any, toy: Path, toy_run: Path
) -> None:
    config = config_of(f"Train.teacher={toy_run}", "Train.image_size=64")
    error = refused(config, toy)
    assert error.what.startswith(
        "the teacher sees images of 32 x 32 pixels, Train.image_size is 64"
    )
    assert error.fix.startswith("-o Train.image_size=32, or a teacher")
    assert build(config_of(f"Train.teacher={toy_run}", "Train.image_size=32"), toy)


def test_a_normalisation_of_its_own_is_refused(
    config_of: Any, toy: Path, copy_of_run: Path
) -> None:
    folder = copy_of_run / "best_model" / "inference"
    text = (folder / "inference.yml").read_text()
    (folder / "inference.yml").unlink()
    content = yaml.safe_load(text)
    (normalise,) = [step for step in content["PreProcess"]["transform_ops"] if "Norm" in str(step)]
    normalise["NormalizeImage"]["mean"] = [0.5, 0.5, 0.5]
    (folder / "inference.yml").write_text(yaml.safe_dump(content))
    error = refused(config_of(f"Train.teacher={folder}"), toy)
    assert error.what == (
        "the teacher normalises or resizes images in another way than a training, by its "
        "inference.yml (mean (0.5, 0.5, 0.5), std (0.229, 0.224, 0.225))"
    )


def test_a_teacher_may_be_a_url_of_weights_and_its_secrets_are_not_told(
    config_of: Any, toy: Path, toy_run: Path, site: Any, caplog: Any
) -> None:
    best = toy_run / "best_model" / "best_model.pdparams"
    site["/best_model.pdparams?token=secret"] = best.read_bytes()
    config = config_of(f"Train.teacher={site.url('/best_model.pdparams?token=secret')}")
    teachers.check(config)
    with caplog.at_level(logging.INFO):
        found = build(config, toy).targets(images(), DRAWS).numpy()
    assert len(site.asked) == 1
    assert "secret" not in caplog.text
    whole = build(config_of(f"Train.teacher={best}"), toy).targets(images(), DRAWS).numpy()
    np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize("name", ["nothing.pdparams", "nothing", "nothing.onnx", "empty"])
def test_a_teacher_that_is_missing_is_one_error(
    config_of: Any, toy: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "empty").mkdir()
    error = refused(config_of(f"Train.teacher={tmp_path / name}"), toy)
    assert name in error.where + error.what


def test_a_data_set_is_no_teacher(config_of: Any, toy: Path) -> None:
    error = refused(config_of(f"Train.teacher={toy}"), toy)
    assert error.what == f"the folder holds no trained model: {toy}"
    assert "name a weight file, or the folder of a run" in error.fix


def test_several_teachers_without_brackets_are_told_as_a_list(config_of: Any, toy: Path) -> None:
    config = config_of(f"Train.teacher={toy},{toy}")
    with pytest.raises(PaddlexMLError) as caught:
        teachers.check(config)
    assert (
        f"write several teachers as a list: -o 'Train.teacher=[{toy}, {toy}]'" in caught.value.fix
    )


def test_a_teacher_in_the_output_folder_is_refused_before_anything_is_written(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    before = sorted(copy_of_run.rglob("*"))
    for teacher in (copy_of_run, copy_of_run / "best_model" / "inference"):
        code, err = run(
            *("train", toy, copy_of_run, "Global.overwrite=true", f"Train.teacher={teacher}")
        )
        assert code == 2
        assert "the teacher lies in the output folder of this training" in err
        assert re.search(r"fix: .*-o Global.output=\S+", err)
    assert sorted(copy_of_run.rglob("*")) == before


def test_scores_are_kept_where_an_image_has_one_or_two_forms(
    config_of: Any, toy: Path, toy_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def variants(*overrides: str) -> set[int] | None:
        teacher = build(config_of(f"Train.teacher={toy_run}", *overrides), toy)
        of = teacher._variant
        return of and {of(SampleIndex(epoch, 3)) for epoch in range(20)}

    assert variants(*STILL, "Train.augment.flip=false") == {0}
    assert variants(*STILL, "Train.augment.flip=true") == {0, 1}
    assert variants("Train.augment.randaugment=true") is None
    assert variants(*STILL, "Train.augment.mixup=0.2") is None
    assert variants("Train.augment.randaugment=false", "Train.augment.cutout=0.1") is None
    monkeypatch.setattr(teachers, "KEPT_MOST", 24 * 3 * 4 * 2 - 1)
    assert variants(*STILL, "Train.augment.flip=true") is None
    assert variants(*STILL, "Train.augment.flip=false") == {0}


def test_unknown_labels_are_taught_and_told(
    config_of: Any, toy: Path, toy_run: Path, caplog: Any
) -> None:
    with caplog.at_level(logging.INFO):
        build(config_of(f"Train.teacher={toy_run}"), toy)
        assert not any("unknown" in message for message in caplog.messages)
        build(config_of(f"Train.teacher={toy_run}", "Train.single_positive=true"), toy)
    assert "train.txt: the teacher's scores teach unknown labels" in caplog.messages
    (line, _) = [message for message in caplog.messages if "temperature" in message]
    assert line.startswith(f"teacher {toy_run} (PP-LCNet_x1_0_ML): weight ")


def test_another_teacher_of_a_resumed_run_is_told_and_the_same_one_elsewhere_is_not(
    run: Run, toy: Path, copy_of_run: Path, tmp_path: Path
) -> None:
    best, moved = copy_of_run / "best_model" / "best_model.pdparams", tmp_path / "moved.pdparams"
    shutil.copy(best, moved)
    out = tmp_path / "out"
    assert run("train", toy, out, f"Train.teacher={best}", "Train.epochs_iters=1")[0] == 0
    saved = checkpoint.load(out / "latest").fingerprint
    assert len(saved["Train.teacher"]) == 1
    again = [f"Train.resume_path={out / 'latest'}", "Train.epochs_iters=1"]
    code, err = run("train", toy, out, f"Train.teacher={moved}", *again)
    assert code == 0
    assert "Train.teacher was" not in err
    other = copy_of_run / "latest" / "latest.pdparams"
    for text, now in ((f"[{moved}, {other}]", r"\['\w{16}', '\w{16}'\]"), ("null", "None")):
        code, err = run("train", toy, out, f"Train.teacher={text}", *again)
        assert code == 0
        assert re.search(rf"Train\.teacher was \['\w{{16}}'\] before the stop and is {now}", err)
