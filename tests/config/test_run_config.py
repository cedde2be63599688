# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from paddlex_ml import systems
from paddlex_ml.config import load, run_config, shipped
from paddlex_ml.config.schema import Config
from paddlex_ml.errors import PaddlexMLError
from tests.config.test_load import MINIMAL, PADDLEX

OTHER = "output/best_model/best_model.pdparams"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: a project with a data set."""
    folder = tmp_path / "project"
    (folder / "dataset").mkdir(parents=True)
    (folder / "paddlex.yaml").write_text(PADDLEX)
    (folder / "my.yaml").write_text(MINIMAL)
    monkeypatch.chdir(folder)
    return folder


def save(output: str, *overrides: str, text: str = "") -> Config:
    """Imitate what a training leaves that is started in the working folder."""
    keys = ["Global.mode=train", "Train.learning_rate=1e-3", "Global.dataset_dir=dataset"]
    config = load.load(Path("paddlex.yaml"), [*keys, f"Global.output={output}", *overrides]).config
    (Path(output) / "best_model").mkdir(parents=True)
    (Path(output) / "config.yaml").write_text(text or run_config.write(config))
    return config


def read(path: str, mode: str, *overrides: str) -> load.Loaded:
    return load.load(Path(path), [f"Global.mode={mode}", *overrides])


def error(path: str, mode: str, *overrides: str) -> PaddlexMLError:
    with pytest.raises(PaddlexMLError) as caught:
        read(path, mode, *overrides)
    return caught.value


def test_a_saved_configuration_is_the_one_of_the_training_with_absolute_paths(
    project: Path,
) -> None:
    trained = save("out", "Predict.save_path=out/shown", "Predict.input=[a.jpg, {img: b.jpg}]")
    loaded = read("out/config.yaml", "train")
    folder = Path("out")
    assert loaded.notes == ()
    assert loaded.config == replace(
        trained,
        Global=replace(trained.Global, output=folder, dataset_dir=project / "dataset"),
        Evaluate=replace(trained.Evaluate, weight_path=None),
        Export=replace(trained.Export, weight_path=None),
        Predict=replace(
            trained.Predict,
            model_dir=None,
            save_path=project / "out" / "shown",
            input=[str(project / "a.jpg"), {"img": str(project / "b.jpg")}],
        ),
    )


def test_a_path_is_the_same_from_every_working_folder(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "below").mkdir()
    monkeypatch.chdir(project / "below")
    words = ["Global.dataset_dir=../dataset"]
    found = run_config.write(load.load(Path("../paddlex.yaml"), words, to_run=False).config)
    assert f"dataset_dir: {project / 'dataset'}\n" in found


def test_a_path_keeps_the_meaning_that_a_link_gives_it(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "far" / "below").mkdir(parents=True)
    (tmp_path / "far" / "dataset").mkdir()
    (project / "link").symlink_to(tmp_path / "far" / "below")
    words = ["Global.dataset_dir=link/../dataset"]
    found = run_config.write(load.load(Path("paddlex.yaml"), words, to_run=False).config)
    assert f"dataset_dir: {project / 'link' / '..' / 'dataset'}\n" in found


def test_what_is_allowed_for_one_start_is_not_saved(project: Path) -> None:
    save("out", "Global.overwrite=true", "Train.rescore_best=true")
    config = read("out/config.yaml", "train").config
    assert not config.Global.overwrite
    assert not config.Train.rescore_best


@pytest.mark.parametrize("words", [["Train.resume_path=auto"], ["Evaluate.compare_with=raw"]])
def test_words_in_the_place_of_paths_stay(words: list[str]) -> None:
    save("out", *words)
    config = read("out/config.yaml", "train").config
    assert config.Train.resume_path in (None, "auto")
    assert config.Evaluate.compare_with in (None, "raw")
    assert "/auto" not in Path("out/config.yaml").read_text()


def test_teachers_are_saved_with_absolute_paths(project: Path) -> None:
    url = "https://example.org/teacher.pdparams"
    save("out", f"Train.teacher=[one/best_model, {url}]")
    config = read("out/config.yaml", "train").config
    assert config.Train.teacher == (str(project / "one" / "best_model"), url)


@pytest.mark.parametrize("started", ["project", "elsewhere"])
def test_a_renamed_run_means_its_new_folder(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: str
) -> None:
    save("output", "Train.resume_path=output/latest")
    shutil.move("output", "run_A")
    save("output")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / started)
    path = os.path.relpath(project / "run_A" / "config.yaml")
    loaded = read(path, "evaluate")
    run = Path(path).parent
    assert loaded.config.Global.output == run
    assert loaded.config.Global.dataset_dir == project / "dataset"
    assert loaded.config.Train.resume_path == str(run / "latest")
    assert loaded.notes == (
        f"{path} means the folder that it lies in; it was written for {project / 'output'}",
    )
    assert load.destination(Path(path), ["Global.mode=evaluate"]) == ("evaluate", run)
    other = read(path, "train", "Global.output=new")
    assert other.config.Global.output == Path("new")


@pytest.mark.parametrize("mode", ["evaluate", "export", "predict", "train"])
@pytest.mark.parametrize("name", ["cfg.yaml", "config_old.yml", "config.yaml.bak"])
def test_a_copy_of_a_saved_configuration_means_the_run_beside_it(mode: str, name: str) -> None:
    save("output")
    shutil.move("output", "run_A")
    save("output")
    shutil.copy("run_A/config.yaml", f"run_A/{name}")
    loaded = read(f"run_A/{name}", mode)
    assert loaded.config.Global.output == Path("run_A")
    assert loaded.notes[0].startswith(f"run_A/{name} means the folder that it lies in; it was ")


@pytest.mark.parametrize("mode", run_config.MODEL_KEYS)
def test_the_configuration_of_one_run_with_the_folder_of_another_is_asked_for(mode: str) -> None:
    save("run_A")
    save("run_B")
    key, own = (
        run_config.MODEL_KEYS[mode],
        "inference" if mode == "predict" else "best_model.pdparams",
    )
    told = error("run_A/config.yaml", mode, "Global.output=run_B")
    assert told.what == (
        "run_A/config.yaml is of the training in run_A, but run_B holds another one: whose weights "
        "are meant?"
    )
    other = f"-o {key}=run_A/best_model/{own}"
    assert told.fix == f"-o {key}=null takes those of run_B, {other} those of run_A"
    for value in ("null", f"run_A/best_model/{own}"):
        config = read("run_A/config.yaml", mode, "Global.output=run_B", f"{key}={value}").config
        assert config.Global.output == Path("run_B")


def test_a_file_of_ones_own_beside_a_training_says_whose_weights_are_taken() -> None:
    save("run_A")
    save("output")
    shutil.copy("my.yaml", "run_A/my.yaml")
    (note,) = read("run_A/my.yaml", "evaluate", "Global.dataset_dir=dataset").notes
    assert note == (
        "run_A/my.yaml lies beside a training, but Global.output is output: taking its weights"
    )
    assert read("my.yaml", "evaluate", "Global.dataset_dir=dataset").notes == ()


def test_data_that_moved_with_the_run_is_found_there(project: Path, tmp_path: Path) -> None:
    save("output")
    workspace = tmp_path / "workspace"
    shutil.move(project, workspace)
    loaded = read(str(workspace / "output" / "config.yaml"), "evaluate")
    assert loaded.config.Global.dataset_dir == workspace / "dataset"
    assert len(loaded.notes) == 2
    assert str(workspace / "dataset") in loaded.notes[1]
    (project / "dataset").mkdir(parents=True)  # the first one, if it is there, is meant
    again = read(str(workspace / "output" / "config.yaml"), "evaluate")
    assert again.config.Global.dataset_dir == project / "dataset"


def test_data_on_another_drive_stay_where_they_are(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save("output")
    shutil.move("output", "moved")
    monkeypatch.setattr(systems, "relative", lambda *_: None)
    loaded = read("moved/config.yaml", "evaluate")
    assert loaded.config.Global.dataset_dir == project / "dataset"
    assert loaded.config.Global.output == Path("moved")


def test_relative_paths_of_an_older_release_are_found_from_any_folder(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = PADDLEX.replace("dataset/mlcls_nus_examples", "dataset").replace('"output"', "runs/one")
    old = old.replace("output/best_model", "runs/one/best_model").replace("0.1", "0.001")
    save("runs/one", text=old)
    shutil.move("runs/one", "runs/two")
    monkeypatch.chdir(tmp_path)
    loaded = read("project/runs/two/config.yaml", "evaluate")
    assert loaded.config.Global.output == Path("project/runs/two")
    assert loaded.config.Global.dataset_dir == Path("project/dataset")
    best = "project/runs/two/best_model/best_model.pdparams"
    assert loaded.config.Evaluate.weight_path == best


def test_a_link_to_a_saved_configuration_means_the_run(project: Path) -> None:
    save("out")
    Path("latest.yaml").symlink_to("out/config.yaml")
    assert read("latest.yaml", "evaluate").config.Global.output == project / "out"


def test_a_configuration_of_ones_own_may_have_that_name() -> None:
    shutil.copy("my.yaml", "config.yaml")
    assert read("config.yaml", "check_dataset").config.Global.output == Path("output")


@pytest.mark.parametrize(
    ("mode", "key", "text"),
    [
        ("evaluate", "Evaluate.weight_path", OTHER),
        ("predict", "Predict.model_dir", "output/best_model/inference"),
        ("export", "Export.weight_path", "other.pdparams"),
    ],
)
def test_another_model_in_a_file_is_asked_for_where_a_training_has_its_own(
    mode: str, key: str, text: str
) -> None:
    save("out2")
    place = (PADDLEX.index(mode.capitalize() + ":"), PADDLEX[PADDLEX.index(mode.capitalize()) :])
    if mode == "export":
        url = place[1].partition("weight_path: ")[2].partition("\n")[0]
        Path("paddlex.yaml").write_text(PADDLEX[: place[0]] + place[1].replace(url, text, 1))
    keys = ["Global.output=out2", "Global.dataset_dir=dataset"]
    told = error("paddlex.yaml", mode, *keys)
    assert (
        told.what
        == f"{key} is {text}, but out2 holds a training of its own: whose weights are meant?"
    )
    assert told.where.startswith("paddlex.yaml:")
    assert told.fix == f"-o {key}=null takes those of out2, -o {key}={text} the others"
    for value, held in (("null", None), (text, text)):
        config = read("paddlex.yaml", mode, *keys, f"{key}={value}").config
        section, _, name = key.partition(".")
        assert getattr(getattr(config, section), name) == held


def test_the_published_weights_in_a_file_give_way_to_those_of_a_training() -> None:
    save("out2")
    loaded = read("paddlex.yaml", "export", "Global.output=out2")
    assert loaded.config.Export.weight_path is None
    (note,) = loaded.notes
    url = "https://example.com/PP-LCNet_x1_0_ML_pretrained.pdparams"
    assert note.endswith(f"to take the others: -o Export.weight_path={url}")
    typed = read("paddlex.yaml", "export", "Global.output=out2", f"Export.weight_path={url}")
    assert (typed.config.Export.weight_path, typed.notes) == (url, ())
    alone = read("paddlex.yaml", "export", "Global.output=empty")
    assert alone.config.Export.weight_path == url


@pytest.mark.parametrize("output", ["output", "./output", "../project/output"])
def test_the_models_of_the_run_itself_are_no_other(output: str) -> None:
    save("output")
    keys = [f"Global.output={output}", "Global.dataset_dir=dataset"]
    evaluate = read("paddlex.yaml", "evaluate", *keys)
    assert (evaluate.config.Evaluate.weight_path, evaluate.notes) == (OTHER, ())
    assert read("paddlex.yaml", "predict", *keys).notes == ()
    epoch = "Evaluate.weight_path: output/epoch_1/epoch_1.pdparams"
    Path("mine.yaml").write_text(f"{MINIMAL}Evaluate: {{{epoch[9:]}}}\n")
    assert read("mine.yaml", "evaluate", *keys).notes == ()


def test_a_model_in_a_file_is_told_where_the_output_folder_holds_no_training() -> None:
    loaded = read("paddlex.yaml", "evaluate", "Global.output=new", "Global.dataset_dir=dataset")
    assert loaded.config.Evaluate.weight_path == OTHER
    assert loaded.notes == (f"Evaluate.weight_path is {OTHER}: new holds no training of its own",)


@pytest.mark.parametrize(
    ("mode", "model"),
    [
        ("evaluate", "best_model.pdparams"),
        ("export", "best_model.pdparams"),
        ("predict", "inference"),
    ],
)
def test_results_of_a_saved_run_may_go_into_another_folder(mode: str, model: str) -> None:
    save("run_A")
    loaded = read("run_A/config.yaml", mode, "Global.output=elsewhere")
    section, _, name = run_config.MODEL_KEYS[mode].partition(".")
    assert getattr(getattr(loaded.config, section), name) == f"run_A/best_model/{model}"
    assert loaded.config.Global.output == Path("elsewhere")
    assert loaded.notes[-1].startswith("elsewhere holds no training: taking run_A/best_model/")


def test_a_training_says_which_models_its_configuration_does_not_keep() -> None:
    keys = ["Global.output=out2", "Global.dataset_dir=dataset", "Train.learning_rate=1e-3"]
    (note,) = read("paddlex.yaml", "train", *keys).notes
    assert note == (
        "Evaluate.weight_path, Export.weight_path, Predict.model_dir: not kept in "
        "out2/config.yaml, whose modes take the weights of this run"
    )


def test_the_texts_of_a_saved_configuration_are_those_of_its_values(tmp_path: Path) -> None:
    words = [
        "Train.loss.pos_weight=[1, 2.5]",
        "Train.loss.name=bce",
        "Predict.threshold={default: 0.5, a: 0.25}",
    ]
    words += ["Global.dataset_dir=set"]
    config = load.load(shipped.find("PP-LCNet_x1_0_ML")[0], words).config
    path = tmp_path / "config.yaml"
    path.write_text(run_config.write(config), encoding="utf-8")
    found = run_config.read_texts(path)
    assert found["Train.loss.pos_weight"] == "- 1.0 - 2.5"
    assert found["Train.loss.name"] == "bce"
    assert found["Train.learning_rate"] == str(config.Train.learning_rate)
    assert found["Global.output"] == str(Path("output").absolute())
    assert found["Predict.threshold.a"] == "0.25"
    assert "Train.loss" not in found
    assert next(iter(found)) == "Global.model"


def test_the_texts_of_any_file_are_no_error(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("- a\n  - b\nA:\n\tb: [1,\n  2]\n: c\nno key\n", encoding="utf-8")
    assert run_config.read_texts(path)["A.b"].startswith("[1,")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="utf-8"):
        run_config.read_texts(path)
