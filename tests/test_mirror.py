# SPDX-License-Identifier: Apache-2.0
"""Each module has the test file of its path, and each test file its module, or a reason is here.

paddlex_ml/data/split.py <-> tests/data/test_split.py
"""

from __future__ import annotations

from pathlib import Path

from tests import conftest
from tests.fuzz.run import GROUPS

TESTS = Path(__file__).resolve().parent
PACKAGE = TESTS.parent / "paddlex_ml"

# Module -> the file that tests it, and why there.
TESTED_ELSEWHERE = {
    "__main__": ("test_cli.py", "`python -m paddlex_ml` is a start of the command"),
    "artifacts/benchmark_result": ("engines/benchmark/test_files.py", "its files show it"),
    "artifacts/check_result": ("engines/test_check_dataset.py", "the check fills it"),
    "artifacts/export_result": ("engines/export/test_run.py", "the export fills it"),
    "artifacts/leaderboard": ("engines/leaderboard/test_rank.py", "the ranking fills it"),
    "artifacts/plan_result": ("engines/plan/test_run.py", "the plan fills it"),
    "artifacts/sweep_folder": ("engines/sweep/test_run.py", "a sweep writes it"),
    "artifacts/predict_result": ("engines/predict/test_run.py", "the prediction fills it"),
    "config/augment_schema": ("config/test_schema.py", "a section of the schema"),
    "config/benchmark_schema": ("config/test_schema.py", "a section of the schema"),
    "config/distillation_schema": ("config/test_schema.py", "a section of the schema"),
    "config/export_schema": ("config/test_schema.py", "a section of the schema"),
    "config/predict_schema": ("config/test_schema.py", "a section of the schema"),
    "config/value_types": ("config/test_schema.py", "each type belongs to a field of the schema"),
    "config/shipped": ("config/test_yaml_files.py", "all about the six files"),
    "config/validation": ("config/test_schema.py", "it judges by the schema"),
    "config/values": ("config/test_schema.py", "each check belongs to a field of the schema"),
    "config/write_yaml": ("config/test_yaml_files.py", "it writes these files"),
    "data/dataset": ("data/test_loader.py", "samples are seen as batches"),
    "data/faults": ("data/test_annotation.py", "faults are raised by what reads lists"),
    "data/class_names": ("data/test_check.py", "the check warns of spellings"),
    "data/deep_samples": ("data/test_transforms.py", "samples are seen in images that are read"),
    "data/inspect_images": ("data/test_check.py", "the check is what inspects images"),
    "data/lost_images": ("data/test_annotation.py", "lines of lists name the images"),
    "data/preload": ("data/test_loader.py", "worker processes import it"),
    "data/worker": ("data/test_loader.py", "the loader starts the workers"),
    "distributed/addresses": ("distributed/test_launch.py", "a launch reads the addresses"),
    "distributed/parent": ("data/test_loader.py", "it needs a parent that is killed"),
    "engines/evaluate/models": ("engines/evaluate/test_run.py", "a step of an evaluation"),
    "engines/export/costs": ("engines/export/test_reduced.py", "the costs of an export"),
    "engines/load_model": ("engines/export/test_run.py", "weights come in through a command"),
    "engines/predict/files": ("engines/predict/test_run.py", "the files of a prediction"),
    "engines/plan/estimate": ("engines/plan/test_trial.py", "reports are what it sums up"),
    "engines/train/build": ("engines/train/test_plan.py", "a training is built with its plan"),
    "engines/train/result": ("engines/train/test_run.py", "the result of a training"),
    "engines/train/start": ("engines/train/test_run.py", "the start of a training"),
    "formats/column_names": ("formats/test_table_columns.py", "words by which columns are known"),
    "formats/flag_cells": ("formats/test_table_columns.py", "cells by which columns are known"),
    "formats/csv_sources": ("formats/test_csv_table.py", "the tables belong to the reader"),
    "formats/nus_wide_lists": ("formats/test_nus_wide.py", "its lists are read from an archive"),
    "formats/source_path": ("formats/test_by_reference.py", "a source is located by it"),
    "formats/yolo_yaml": ("formats/test_yolo.py", "the YAML file belongs to the labels"),
    "inference/onnx_nodes": ("inference/test_graph_memory.py", "graphs are read to be judged"),
    "inference/operator_shapes": ("inference/test_graph_memory.py", "its rules judge graphs"),
    "inference/paddle_nodes": ("inference/test_graph_memory.py", "graphs are read to be judged"),
    "inference/paddle_engine": ("inference/test_static_model.py", "it runs a static model"),
    "kernels/convolution": ("kernels/test_layers.py", "layers call the kernels"),
    "kernels/taps": ("kernels/test_layers.py", "layers call the kernels"),
    "kernels/pixel_loops": ("kernels/test_pillow.py", "its functions call the loops"),
    "kernels/transformer": ("kernels/test_transformer_layers.py", "layers call the kernels"),
    "kernels/winograd": ("kernels/test_winograd_layers.py", "layers call the kernels"),
    "kernels/update_loops": ("kernels/test_updates.py", "its functions call the loops"),
    "models/blocks": ("models/test_every_model.py", "blocks are tested in every model"),
    "models/resnet": ("models/test_every_model.py", "nothing in it is its own"),
    "report/content": ("report/test_evaluation_page.py", "the content is seen on the page"),
    "report/glossary": ("report/test_evaluation_page.py", "its texts are seen on the page"),
    "run_modes": ("inference/test_static_model.py", "the modes of a static model"),
    "scenes/land": ("scenes/test_compose.py", "its objects are seen in scenes"),
    "scenes/plants": ("scenes/test_compose.py", "its objects are seen in scenes"),
    "scenes/sky": ("scenes/test_compose.py", "its objects are seen in scenes"),
    "scenes/things": ("scenes/test_compose.py", "its objects are seen in scenes"),
    "training/sync_batch_norm": ("training/test_two_processes.py", "it needs two processes"),
}

# Test file without a module of its path -> why.
WITHOUT_A_MODULE = {
    "config/test_repairs.py": "the repairs of all faults of a configuration",
    "config/test_yaml_files.py": "the shipped YAML files",
    "data/test_unknown_labels.py": "unknown labels and sparse lists, from the files to the result",
    "data/test_forged_records.py": "records of strangers, in a data set",
    "data/test_bombs.py": "images that would fill the memory, through every reader",
    "distributed/test_story.py": "trainings in several processes through main.py",
    "engines/test_every_model.py": "every model through every command",
    "artifacts/test_all_names.py": "class names through every file",
    "engines/test_terminal_codes.py": "names with codes through every command",
    "engines/test_secrets.py": "URLs with passwords through every command",
    "engines/test_hostile_files.py": "weights and models of strangers through every command",
    "engines/test_hostile_run_folders.py": "the small files of a run folder through every command",
    "engines/test_foreign_weights.py": "weights of PaddleX and PaddleClas",
    "formats/test_bad_input.py": "damage in every format",
    "formats/test_cases.py": "data sets of real tools",
    "formats/test_fuzz.py": "random sets in every layout",
    "fuzz/test_corpus.py": "damaged bytes that were once answered wrongly, through every reader",
    "fuzz/test_readers.py": "new damaged bytes through every reader",
    "formats/test_coco_bad_input.py": "damage in COCO, with all its rules",
    "test_deploy_files.py": "the files of deploy/",
    "inference/test_deploy.py": "the scripts of docs/deploy",
    "inference/test_deploy_browser.py": "the page of docs/deploy/web in a browser",
    "inference/test_deploy_runtimes.py": "docs/deploy in OpenVINO, OpenCV and C++",
    "inference/test_exchange.py": "models of PaddleX here, and ours there",
    "inference/test_tuned_thresholds.py": "thresholds from the export to the predictor",
    "models/test_every_model.py": "what all models must do",
    "pictures/test_dataset_page_browser.py": "the page in a browser",
    "report/test_evaluation_page_browser.py": "the page in a browser",
    "report/test_leaderboard_page_browser.py": "the page in a browser",
    "test_architecture.py": "imports of all modules",
    "test_bad_input.py": "bad input of every command",
    "test_disk.py": "full and closed disks",
    "test_command_start.py": "what the start of a command imports",
    "test_docs.py": "the pages",
    "test_every_option.py": "all options of a training together",
    "test_extending.py": "docs/extending.md",
    "test_installed.py": "the package as pip installs it",
    "test_makefile.py": "the targets of the Makefile",
    "test_mirror.py": "this file",
    "test_nothing_is_left.py": "temporary folder and shared memory after every end",
    "test_platforms.py": "all commands as on Windows and macOS",
    "test_public_api.py": "paddlex_ml/__init__.py",
    "test_release.py": "release/release.py",
    "test_running.py": "tests/running.py: commands that hang",
    "test_story.py": "all commands through main.py",
    "test_surroundings.py": "odd machines, disks and containers",
    "test_twins.py": "the Chinese pages",
    "test_vocabulary.py": "the words of the glossary in all modules",
    "test_website.py": "website/: the pages as a site",
    "training/test_flat_memory.py": "memory over 50 epochs",
    "training/test_last_batch.py": "epochs whose last batch is smaller",
    "training/test_two_processes.py": "two processes learn what one learns",
    "training/test_soft_and_weighted.py": "soft targets and weights in batches and losses",
    "training/test_unknown_labels.py": "what the losses make of unknown labels",
}
NOT_TESTS = {
    *(
        "conftest.py",
        "main_with_a_silent_disk.py",
        "main_with_a_stopped_worker.py",
        "other_system.py",
        "ranks.py",
        "results.py",
        "running.py",
    ),
    *("fuzz/harness.py", "fuzz/mutations.py", "fuzz/run.py", "fuzz/read_example.py"),
    *(f"fuzz/read_{group}.py" for group in GROUPS),
    *(
        "damaged_exif.py",
        "finished_runs.py",
        "layouts.py",
        "payloads.py",
        "repairs.py",
        "shallow.py",
        "small_main.py",
    ),
}

MODULES = {
    path.relative_to(PACKAGE).with_suffix("").as_posix()
    for path in PACKAGE.rglob("*.py")
    if path.name != "__init__.py"
}
FILES = {
    name
    for path in TESTS.rglob("*.py")
    if not {path.name, name := path.relative_to(TESTS).as_posix()} & NOT_TESTS
}


def mirror_of(module: str) -> str:
    folder, slash, name = module.rpartition("/")
    return f"{folder}{slash}test_{name}.py"


def test_each_module_has_its_test_file_or_a_reason() -> None:
    unmirrored = {module for module in MODULES if mirror_of(module) not in FILES}
    assert unmirrored == TESTED_ELSEWHERE.keys()


def test_the_files_that_test_other_modules_exist() -> None:
    assert {file for file, _ in TESTED_ELSEWHERE.values()} <= FILES


def test_each_test_file_has_its_module_or_a_reason() -> None:
    assert FILES - {mirror_of(module) for module in MODULES} == WITHOUT_A_MODULE.keys()


def test_the_lists_of_long_and_quick_files_name_what_exists() -> None:
    named = {*conftest.LONGEST, *conftest.QUICK, *conftest.NOT_QUICK}
    assert [name for name in named if not (TESTS / name).exists()] == []
