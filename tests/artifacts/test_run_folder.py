# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import paddlex_ml
from paddlex_ml.artifacts.run_folder import EXAMPLE, RunFolder

PACKAGE = Path(paddlex_ml.__file__).parent
RUN_FOLDER, LISTS = "artifacts/run_folder.py", "data/missing_lists.py"
# Not in the list: `inference`, `predict`, `evaluate`, `check_dataset`, `events` and `explain`. They
# are words of the command line and of results too.
HOMES = {
    **dict.fromkeys(["best_model", "latest", "epoch_", "epoch_*"], RUN_FOLDER),
    **dict.fromkeys([".pdparams", ".pdema", ".pdopt", ".pdstates"], RUN_FOLDER),
    **dict.fromkeys(["config.yaml", "train.log", "label_dict.txt", "metrics.csv"], RUN_FOLDER),
    **dict.fromkeys(["curves.png", "_result.json", "train_result.json"], RUN_FOLDER),
    **dict.fromkeys(
        ["demo_img", "histogram.png", "report.html", "conversion.csv", "faults.csv"], RUN_FOLDER
    ),
    **dict.fromkeys(["per_class.csv", "label_errors.csv"], RUN_FOLDER),
    **dict.fromkeys(["predictions.json", "predictions.csv"], RUN_FOLDER),
    **dict.fromkeys(["inference_onnx", "inference_pdmodel", "inference.yml"], RUN_FOLDER),
    **dict.fromkeys(["inference.json", "inference.pdiparams", "inference.pdmodel"], RUN_FOLDER),
    "inference.onnx": RUN_FOLDER,
    **dict.fromkeys(["label.txt", "train.txt", "val.txt"], LISTS),
}
ALLOWED = {
    # The path of a value in the result of an evaluation, which is no file.
    ("label_errors.csv", "report/evaluation_page.py"),
    # A key that users of other tools type.
    ("best_model", "config/foreign_words.py"),
}


def texts(path: Path) -> Iterator[str]:
    """The string constants of a module, those in f-strings too, without docstrings."""
    tree = ast.parse(path.read_text("utf-8"))
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in documentation:
            yield str(node.value)


def names(text: str) -> set[str]:
    """The parts of a path, also of `-o Key=path`; none of a sentence, which has spaces."""
    return set() if re.search(r"\s", text) else {text, *re.split(r"[/=]", text)}


@pytest.fixture(scope="module")
def modules() -> dict[str, set[str]]:
    """Module -> every name in its constants."""
    return {
        path.relative_to(PACKAGE).as_posix(): set[str]().union(*map(names, texts(path)))
        for path in PACKAGE.rglob("*.py")
    }


@pytest.mark.parametrize("name", HOMES)
def test_a_file_is_named_in_one_module(name: str, modules: dict[str, set[str]]) -> None:
    users = {module for module, found in modules.items() if name in found}
    users -= {module for allowed, module in ALLOWED if allowed == name}
    assert users <= {HOMES[name]}


def test_a_name_in_another_module_would_be_seen(tmp_path: Path) -> None:
    module = tmp_path / "other.py"
    module.write_text(
        '"""best_model"""\na = "x/latest"\nb = f"-o{a}=out/val.txt"\nc = "see label.txt here"\n'
    )
    assert set[str]().union(*map(names, texts(module))) >= {"latest", "val.txt"}
    assert not set[str]().union(*map(names, texts(module))) & {"best_model", "label.txt"}


def test_a_checkpoint_is_named_after_its_folder():
    run = RunFolder(Path("/runs/a"))
    assert run.best_model.weights == Path("/runs/a/best_model/best_model.pdparams")
    assert run.latest.states == Path("/runs/a/latest/latest.pdstates")
    assert run.epoch(12).optimizer == Path("/runs/a/epoch_12/epoch_12.pdopt")
    assert run.epoch(12).ema == Path("/runs/a/epoch_12/epoch_12.pdema")


def test_exports_lie_in_the_folder_of_their_weights():
    best = RunFolder(Path("/runs/a")).best_model
    assert best.inference.graph == Path("/runs/a/best_model/inference/inference.json")
    assert best.inference_onnx.onnx == Path("/runs/a/best_model/inference_onnx/inference.onnx")
    old = best.inference_pdmodel
    assert old.program == Path("/runs/a/best_model/inference_pdmodel/inference.pdmodel")
    assert old.parameters == Path("/runs/a/best_model/inference_pdmodel/inference.pdiparams")
    assert old.inference_yml == Path("/runs/a/best_model/inference_pdmodel/inference.yml")


def test_paths_of_an_empty_output_are_relative_as_results_name_them():
    run = RunFolder(Path())
    assert run.config_yaml.as_posix() == "config.yaml"
    assert run.check_dataset.demo_img.as_posix() == "check_dataset/demo_img"
    assert run.evaluate.per_class_csv.as_posix() == "evaluate/per_class.csv"
    assert run.best_model.inference.graph.as_posix() == "best_model/inference/inference.json"
    assert EXAMPLE.result("train").as_posix() == "output/train_result.json"


def test_kept_epochs_are_those_that_are_there(tmp_path):
    for name in ("epoch_3", "epoch_10", "latest", "epoch_notes", "epoch_3_copy"):
        (tmp_path / name).mkdir()
    kept = RunFolder(tmp_path).kept_epochs()
    assert sorted(files.weights.name for files in kept) == [
        "epoch_10.pdparams", "epoch_3.pdparams"
    ]  # fmt: skip
