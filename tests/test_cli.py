# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import json
import logging
import os
import re
import signal
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import UNSET

import paddlex_ml
from paddlex_ml import __main__, cli, stop_signals
from paddlex_ml.config.schema import MODES, Config
from paddlex_ml.data import worker_server
from paddlex_ml.engines import named_paths
from paddlex_ml.errors import PaddlexMLError, Stopped
from paddlex_ml.models import published
from tests import repairs
from tests.results import CHECKED, EXPORTED, RESULTS, benchmark_row

GONE = {"folder": None, "is_recommended": True}

ROOT = Path(__file__).resolve().parent.parent
Engine = Callable[[Config], cli.Result]
Install = Callable[[str, Engine], None]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a function in the place of an engine: the CLI alone is tested, without Paddle."""

    def install(mode: str, run: Engine) -> None:
        module = types.ModuleType(cli.ENGINES[mode])
        vars(module)["run"] = run
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr("paddlex_ml.paddle_runtime.prepare", lambda _: "environment: as it is")
        monkeypatch.setattr(named_paths, "check", lambda config: None)  # nothing is there

    return install


def run(mode: str, *overrides: str, config: str = "PP-LCNet_x1_0_ML") -> int:
    needed = ["Global.dataset_dir=data", "Predict.input=a.jpg"]
    return cli.main(["-c", config, "-o", f"Global.mode={mode}", *needed, *overrides])


def result(mode: str, folder: str = "output") -> Any:
    return json.loads(Path(folder, f"{mode}_result.json").read_text(encoding="utf-8"))


def raising(error: BaseException) -> Engine:
    def engine(config: Config) -> cli.Result:
        raise error

    return engine


@pytest.mark.parametrize(
    ("mode", "override", "is_started"),
    [
        ("train", "Global.device=cpu", True),
        ("train", "Train.num_workers=0", False),
        ("train", "Global.device=gpu:0,1", False),
        ("train", "Train.dist_ips=127.0.0.1,127.0.0.2", False),
        ("evaluate", "Global.device=cpu", False),
    ],
)
def test_the_server_of_workers_starts_while_paddle_is_imported(
    monkeypatch: pytest.MonkeyPatch, engine: Install, mode: str, override: str, is_started: bool
) -> None:
    told = []
    engine(mode, succeed)
    monkeypatch.setattr(worker_server, "start", lambda: told.append("server"))
    monkeypatch.setattr("paddlex_ml.paddle_runtime.prepare", lambda meanwhile: meanwhile())
    assert run(mode, override) == 0
    assert told == ["server"] * is_started


def succeed(config: Config) -> cli.Result:
    return RESULTS[config.Global.mode]


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "plan"])
def test_success_writes_the_result_and_exits_0(
    mode: str, engine: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    engine(mode, succeed)
    assert run(mode, "Predict.explain=true") == 0
    assert result(mode) == msgspec.to_builtins(RESULTS[mode])
    assert result(mode)["done_flag"] is True
    assert sorted(os.listdir("output")) == [f".{mode}.lock", f"{mode}_result.json"]
    shown = capsys.readouterr().out
    assert str(Path("output", f"{mode}_result.json")) in shown
    assert ("\nheatmaps: output/predict/explain" in shown) == (mode == "predict")


def test_a_passed_check_says_so_and_names_the_next_command(
    engine: Install, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["main.py"])
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable))
    engine("check_dataset", succeed)
    assert run("check_dataset", "Global.output=my out") == 0
    assert capsys.readouterr().out.splitlines() == [
        "Check dataset passed !",
        "  result:    my out/check_dataset_result.json",
        "  samples:   my out/check_dataset/demo_img",
        "  histogram: my out/check_dataset/histogram.png",
        "  report:    my out/check_dataset/report.html",
        "next: python main.py -c PP-LCNet_x1_0_ML -o Global.mode=train -o Global.dataset_dir=data"
        " -o Predict.input=a.jpg -o 'Global.output=my out'",
    ]


@pytest.mark.parametrize(
    ("mode", "key", "made", "expected"),
    [
        (
            "export", "Export.weight_path=a.pdparams", {"inference_dir": "out/inference"},
            "Global.mode=predict -o Predict.input=a.jpg -o Predict.model_dir=out/inference",
        ),
        (
            "export", "Export.format=onnx", {"inference_dir": "out/inference_onnx"},
            "Global.mode=predict -o Predict.input=a.jpg -o Predict.model_dir=out/inference_onnx",
        ),
        (
            "benchmark", "Benchmark.minutes=1", {},
            "Global.mode=predict -o Global.dataset_dir=data -o Predict.input=a.jpg -o "
            "Predict.kernel_option.run_mode=onnxruntime -o "
            "Predict.model_dir=output/best_model/inference_onnx",
        ),
        (
            "benchmark", "Export.format=onnx",
            {"rows": [benchmark_row("onnx int8", "onnxruntime", 9, 1, **GONE)]},
            "Global.mode=export -o Global.dataset_dir=data -o Export.format=onnx -o "
            "Export.precision=int8",
        ),
        (
            "evaluate", "Evaluate.weight_path=a.pdparams", {"weight_path": "a.pdparams"},
            "Global.mode=export -o Global.dataset_dir=data -o Export.weight_path=a.pdparams",
        ),
    ],
)  # fmt: skip
def test_the_next_command_is_about_what_was_named_or_made(
    engine: Install,
    capsys: pytest.CaptureFixture[str],
    mode: str,
    key: str,
    made: dict[str, str],
    expected: str,
) -> None:
    result = msgspec.structs.replace(RESULTS[mode], **made)
    engine(mode, lambda config: result)
    assert run(mode, key) == 0
    shown = capsys.readouterr().out.splitlines()[-1]
    assert shown.startswith("next: ")
    assert shown.endswith(f" -o {expected}")  # what the mode does not read is left out


def test_after_an_export_of_weights_alone_their_file_is_named(
    engine: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = msgspec.structs.replace(EXPORTED, inference_dir=UNSET, files=["out/w.safetensors"])
    engine("export", lambda config: weights)
    assert run("export", "Export.format=safetensors") == 0
    shown = capsys.readouterr().out
    assert shown == "Export done: output/export_result.json\nweights: out/w.safetensors\n"


def test_after_training_the_next_command_needs_the_merged_config_alone(
    engine: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    engine("train", succeed)
    assert run("train", "Train.batch_size=2") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Training done\n  best:      epoch 1 of 1, mAP raw 0.5000; kept: raw ")
    assert shown.endswith(" -c output/config.yaml -o Global.mode=predict\n")


def test_a_repairable_fault_exits_2_without_traceback(
    engine: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    fault = PaddlexMLError("value 2", where="train.txt:7", fix="write 0 or 1")
    engine("check_dataset", raising(fault))
    assert run("check_dataset") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "error: value 2\n  where: train.txt:7\n  fix:   write 0 or 1\n" in captured.err
    assert "Traceback" not in captured.err
    assert result("check_dataset") == {
        "done_flag": False,
        "err_type": "PaddlexMLError",
        "err_msg": str(fault),
        "check_pass": False,
    }


def test_a_bug_exits_1_with_its_traceback(
    engine: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    engine("evaluate", raising(KeyError("surprise")))
    assert run("evaluate") == 1
    captured = capsys.readouterr().err
    assert "Traceback" in captured
    assert "KeyError: 'surprise'\nthis is a bug in paddlex_ml" in captured
    failure = {"done_flag": False, "err_type": "KeyError", "err_msg": "'surprise'"}
    assert result("evaluate") == failure


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "stopped by SIGINT"),
        (Stopped(signal.SIGINT), 130, "stopped by SIGINT"),
        (Stopped(signal.SIGTERM), 143, "stopped by SIGTERM"),
    ],
)
def test_a_stopped_run_exits_with_its_signal(
    error: BaseException,
    code: int,
    message: str,
    engine: Install,
    capsys: pytest.CaptureFixture[str],
) -> None:
    engine("predict", raising(error))
    assert run("predict") == code
    assert capsys.readouterr().err.splitlines()[-1] == message
    failure = {"done_flag": False, "err_type": "Stopped", "err_msg": message}
    assert result("predict") == failure


def test_a_stopped_training_says_how_to_go_on(
    engine: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop_after_saving(config: Config) -> cli.Result:
        (config.Global.output / "latest").mkdir()
        (config.Global.output / "latest" / "latest.pdparams").touch()
        raise Stopped(signal.SIGTERM)

    engine("train", stop_after_saving)
    assert run("train") == 143
    hint = "repeat the command with -o Train.resume_path=auto"
    assert hint in capsys.readouterr().err


def test_sigterm_ends_any_mode_with_143_and_a_result(engine: Install) -> None:
    def terminate_me(config: Config) -> cli.Result:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the signal must not be ignored")

    before = signal.getsignal(signal.SIGTERM)
    engine("evaluate", terminate_me)
    assert run("evaluate") == 143
    assert result("evaluate")["err_msg"] == "stopped by SIGTERM"
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_full_disk_exits_2_and_keeps_the_first_message(
    engine: Install, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "output/best_model")
    engine("train", raising(full))

    def no_space(path: Path, value: Any) -> None:
        raise full

    monkeypatch.setattr("paddlex_ml.storage.files.write_json", no_space)
    assert run("train") == 2
    assert "No space left on device\n  where: output/best_model" in capsys.readouterr().err


def test_an_old_result_is_gone_while_a_run_works(engine: Install) -> None:
    seen: list[bool] = []

    def look(config: Config) -> cli.Result:
        seen.append((config.Global.output / "train_result.json").exists())
        return succeed(config)

    engine("train", look)
    assert [run("train"), run("train", "Global.overwrite=true")] == [0, 0]
    assert seen == [False, False]
    assert result("train")["done_flag"] is True


def test_nothing_is_written_when_the_mode_is_unknown() -> None:
    assert run("trian") == 2
    assert os.listdir() == []


def test_an_output_that_is_a_file_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("taken").write_text("mine")
    assert run("train", "Global.output=taken") == 2
    assert "error: Global.output is 'taken', but taken is a file" in capsys.readouterr().err
    assert Path("taken").read_text() == "mine"


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that cannot be written")
def test_a_folder_that_cannot_be_written_is_found_before_the_engine_runs(
    engine: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    engine("train", raising(AssertionError("the engine must not start")))
    assert run("train", "Global.output=/proc/self/paddlex_ml") == 2
    told = capsys.readouterr().err
    assert "the output folder cannot be written" in told
    assert repairs.find(told) == [["Global.output=output"]]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EIO])
def test_results_of_a_read_only_run_go_elsewhere_with_its_model(
    engine: Install,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
) -> None:
    Path("output/best_model").mkdir(parents=True)
    monkeypatch.setenv("HOME", os.getcwd())  # the repair prefers another disk
    make = tempfile.TemporaryFile

    def refuse(*arguments: Any, dir: Any = None, **more: Any) -> Any:
        if str(dir) == "output":
            raise OSError(number, os.strerror(number), str(dir))
        return make(*arguments, dir=dir, **more)

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    engine("evaluate", lambda config: RESULTS["evaluate"])
    assert run("evaluate", "Evaluate.weight_path=null") == 2
    [repair] = repairs.find(capsys.readouterr().err)
    weights = "Evaluate.weight_path=output/best_model/best_model.pdparams"
    assert weights in repair
    assert run("evaluate", *repair) == 0
    assert Path("output_2/evaluate_result.json").is_file()


def test_notes_and_logs_go_to_stderr_with_the_time(
    engine: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    def log_a_line(config: Config) -> cli.Result:
        logging.getLogger("paddlex_ml.engines.train.run").info("hello %d", 1)
        return succeed(config)

    engine("train", log_a_line)
    run("train", "Train.dy2st=True", "Train.pretrain_weight_path=a.pdparams")
    lines = re.sub(r"\[\d\d:\d\d:\d\d\]", "[time]", capsys.readouterr().err).splitlines()
    assert lines[1:] == [
        "[time] warning: Train.dy2st has no meaning here and is ignored",
        "[time] environment: as it is",
        "[time] hello 1",
    ]
    assert logging.getLogger("paddlex_ml").handlers == []


def test_several_overrides_may_follow_one_o(engine: Install) -> None:
    seen: list[Config] = []

    def remember(config: Config) -> cli.Result:
        seen.append(config)
        return CHECKED

    engine("check_dataset", remember)
    arguments = ["-o", "Global.dataset_dir=d", "Global.seed=1", "-c", "ResNet50_ML"]
    assert cli.main([*arguments, "-o", "Global.seed=2"]) == 0
    assert (str(seen[0].Global.dataset_dir), seen[0].Global.seed) == ("d", 2)


def test_print_config_shows_the_merged_yaml_which_runs_again(
    engine: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["-c", "PP-LCNet_x1_0_ML", "-o", "Train.learning_rate=1e-4", "--print-config"]
    assert cli.main(command) == 0
    text = capsys.readouterr().out
    assert "  learning_rate: 0.0001\n" in text
    assert os.listdir() == []
    Path("again.yaml").write_text(text)
    assert cli.main(["-c", "again.yaml", "--print-config"]) == 0
    assert capsys.readouterr().out == text


def test_help_shows_modes_six_examples_and_how_to_list_the_options(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    assert all(f"\n  {mode} " in text for mode in MODES)
    examples = text.partition("\nexamples:\n")[2].partition("\n\n")[0]
    assert len(examples.splitlines()) == 6
    assert "--print-config\n  lists every key" in text


def test_the_models_are_listed_with_size_cost_and_score(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["--list-models"])
    assert stop.value.code == 0
    head, *rows = capsys.readouterr().out.split("\n\n")[0].splitlines()
    assert head.split() == [
        "model",
        "parameters",
        "MiB",
        "GFLOPs",
        "at",
        "448",
        "mAP",
        "on",
        "COCO",
        "for",
    ]
    assert [row.split()[0] for row in rows] == list(published.MODELS)
    assert rows[0].split()[1:6] == ["8.3", "M", "32", "1.5", "77.96"]


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"{paddlex_ml.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: -c/--config, --data, --demo or --reproduce"),
        (
            ["-c", "x", "--mode", "train"],
            "unrecognized arguments: --mode train .here: Global.mode.",
        ),
        (["-c", "x", "--no-such"], "unrecognized arguments: --no-such; unknown: no_such"),
        (["-c", "none.yaml"], "the configuration none.yaml does not exist"),
        (["-c", "x", "-o", "a", "=", "b"], "the configuration x does not exist"),
    ],
)
def test_bad_arguments_exit_2_with_a_repair(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    assert re.search(rf"error: {message}\n  where: .*\n  fix:   ", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["-c", "M", "-o", "a=b", "train"], "-c M -o Global.mode=train"),
        (["--data", "set", "-o", "train"], "--data set -o Global.mode=train"),
        (["-o", "epochs=5", "train", "--data", "set"],
         "--data set -o Global.mode=train Train.epochs_iters=5"),
        (["--data", "set", "-o", "Train.epochs_iters=5", "train"],
         "--data set -o Train.epochs_iters=5 -o Global.mode=train"),
        (["-c", "PP-LCNet_x1_0_ML", "-o", "Global.mode=train", "set"],
         "-c PP-LCNet_x1_0_ML -o Global.mode=train -o Global.dataset_dir=set"),
        (["--data", "set", "-o", "resume"], "--data set -o Train.resume_path=auto"),
    ],
)  # fmt: skip
def test_a_word_alone_among_overrides_is_answered_with_the_command_that_means_it(
    arguments: list[str], command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    fix = capsys.readouterr().err.partition("  fix:   ")[2].splitlines()[0]
    assert fix.endswith(f" {command}")


def test_an_error_of_data_names_the_option_that_was_typed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("my photos").mkdir()
    assert cli.main(["--data", "my photo", "-o", "Global.mode=train"]) == 2
    err = capsys.readouterr().err
    assert "Global.dataset_dir" not in err
    assert "where: --data\n  fix:   --data 'my photos' is there" in err


@pytest.mark.parametrize(("error", "code"), [(Stopped(15), 143), (KeyboardInterrupt(), 130)])
def test_a_stop_while_another_one_is_answered_has_its_code_too(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    codes: list[int] = []

    def stop() -> int:
        raise error

    monkeypatch.setattr(cli, "main", stop)
    monkeypatch.setattr(stop_signals, "leave", codes.append)
    __main__.run()
    assert codes == [code]
