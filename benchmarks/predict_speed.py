# SPDX-License-Identifier: Apache-2.0
"""How long predictions take, beside plain scripts with the same engines, in one run.

    python benchmarks/predict_speed.py [--photos DIR] [--count 200] [--rounds 5] [--work DIR]

PP-LCNet with three classes and random weights, 448 pixels. Photographs of DIR, or waves of 640 x
480 drawn here. Whole processes are timed from their start to their end, Python and imports
included, and to their first answer; all ways take turns in every round, and medians are printed.
Then the engine alone, on batches that are in memory: ours (`StaticModel.run`) beside the bare one.

The plain scripts open, convert and resize with Pillow, normalise with numpy, and run one image
after another, as an example in a manual does.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from paddlex_ml import cores, paddle_runtime  # noqa: E402

MODEL, SIZE, CLASSES = "PP-LCNet_x1_0_ML", 448, ["desert", "sea", "trees"]

_PLAIN = """
import os, pathlib, sys
os.environ.setdefault("OMP_NUM_THREADS", "{threads}")
import numpy as np
from PIL import Image
{open}
mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
for path in sorted(pathlib.Path("{photos}").iterdir()):
    image = Image.open(path).convert("RGB").resize(({size}, {size}), Image.Resampling.BILINEAR)
    pixels = (np.asarray(image, np.float32) / 255 - mean) / std
    batch = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])
    {run}
    print(path, np.flatnonzero(scores[0] >= 0.5), flush=True)
"""
_PADDLE = """
from paddle import inference
config = inference.Config("{folder}/inference.json", "{folder}/inference.pdiparams")
config.disable_gpu()
config.disable_glog_info()
config.set_cpu_math_library_num_threads({threads})
config.enable_mkldnn()
predictor = inference.create_predictor(config)
images = predictor.get_input_handle(predictor.get_input_names()[0])
answer = predictor.get_output_handle(predictor.get_output_names()[0])
"""
_PADDLE_RUN = "images.copy_from_cpu(batch); predictor.run(); scores = answer.copy_to_cpu()"
_ONNX = """
import onnxruntime
session = onnxruntime.InferenceSession("{folder}/inference.onnx")
"""
_ONNX_RUN = 'scores = session.run(None, {"x": batch})[0]'
_OURS = """
from paddlex_ml import create_model
model = create_model("{model}", "{folder}", device="cpu")
for result in model.predict("{photos}", batch_size={batch}):
    print(result.input_path, result.class_ids, flush=True)
"""


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        photos = _gather(arguments.photos, arguments.count, work / "photos")
        folders = _export(work)
        ways = _ways(photos, folders, work)
        print(f"{len(list(photos.iterdir()))} images, {cores.usable_cores()} cores", flush=True)
        _compare(ways, arguments.rounds, work)
        for name in ("paddle", "onnx"):
            _compare_engines(name, folders[name])
        _compare_modes(folders)


def _gather(source: Path | None, count: int, folder: Path) -> Path:
    """A folder with `count` images and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    if source is not None:
        found = sorted(path for path in source.rglob("*") if path.suffix.lower() == ".jpg")
        for path in found[:count]:
            (folder / path.name).write_bytes(path.read_bytes())
        return folder
    rng = np.random.default_rng(0)
    for number in range(count):
        waves = cv2.resize(rng.random((16, 20, 3)), (640, 480), interpolation=cv2.INTER_CUBIC)
        pixels = (waves.clip(0, 1) * 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:04d}.jpg", quality=92)
    return folder


def _export(work: Path) -> dict[str, Path]:
    """The same random weights for both engines."""
    paddle_runtime.prepare()
    import paddle

    from paddlex_ml.artifacts.checkpoint import ModelInfo
    from paddlex_ml.export.onnx import save_onnx
    from paddlex_ml.export.static import save_static
    from paddlex_ml.models import zoo

    paddle.seed(0)
    model = zoo.build(MODEL, len(CLASSES))
    folders = {"paddle": work / "inference", "onnx": work / "inference_onnx"}
    info = ModelInfo(MODEL, CLASSES, SIZE, None)
    save_static(model, info, folders["paddle"])
    save_onnx(model, info, folders["onnx"], 17)
    return folders


def _ways(photos: Path, folders: dict[str, Path], work: Path) -> dict[str, list[str]]:
    """Name -> the words behind `python`."""
    threads = cores.usable_cores()

    def plain(kind: str, opening: str, run: str) -> list[str]:
        opening = opening.format(folder=folders[kind], threads=threads)
        text = _PLAIN.format(open=opening, run=run, photos=photos, size=SIZE, threads=threads)
        return ["-c", text]

    def ours(kind: str, batch: int) -> list[str]:
        text = _OURS.format(model=MODEL, folder=folders[kind], photos=photos, batch=batch)
        return ["-c", text]

    def command(kind: str, *more: str) -> list[str]:
        keys = [f"Predict.model_dir={folders[kind]}", f"Predict.input={photos}", *more]
        words = ["Global.mode=predict", "Global.device=cpu", f"Global.output={work}/out", *keys]
        return ["main.py", "-c", MODEL, "-o", *words]

    return {
        "plain script, paddle.inference with oneDNN": plain("paddle", _PADDLE, _PADDLE_RUN),
        "ours, Paddle, batch 1": ours("paddle", 1),
        "ours, Paddle, batch 8": ours("paddle", 8),
        "command, Paddle, without pictures": command("paddle", "Predict.save_img=false"),
        "command, Paddle, with pictures": command("paddle"),
        "plain script, onnxruntime": plain("onnx", _ONNX, _ONNX_RUN),
        "ours, onnxruntime, batch 1": ours("onnx", 1),
        "ours, onnxruntime, batch 8": ours("onnx", 8),
        "command, onnxruntime, without pictures": command("onnx", "Predict.save_img=false"),
        "command, onnxruntime, with pictures": command("onnx"),
    }


def _compare(ways: dict[str, list[str]], rounds: int, work: Path) -> None:
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, words in ways.items():
            times[name].append(_time([sys.executable, *words]))
    print(f"\n{'whole process, seconds, median of ' + str(rounds):45} first answer    last   ratio")
    plain = 0.0
    for name, found in times.items():
        first, last = (statistics.median(column) for column in zip(*found, strict=True))
        if name.startswith("plain"):
            plain = last
        print(f"{name:45} {first:12.2f} {last:7.2f} {last / plain:7.2f}", flush=True)


def _time(words: list[str]) -> tuple[float, float]:
    """Seconds from the start to the first line of output, and to the end."""
    begin = time.perf_counter()
    with subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        first = time.perf_counter() - begin
        process.stdout.read()
    if process.returncode:
        raise SystemExit(f"exit code {process.returncode}: {words}")
    return first, time.perf_counter() - begin


def _compare_engines(kind: str, folder: Path) -> None:
    """Images a second of the engine alone and through our model, taking turns."""
    from paddlex_ml.inference.static_model import StaticModel

    bare, ours = _bare(kind, folder), StaticModel(folder, "cpu").run
    print(f"\n{kind}, engine alone                              bare    ours   ratio of times")
    for batch_size in (1, 8, 32):
        images = np.random.default_rng(0).standard_normal((batch_size, 3, SIZE, SIZE), np.float32)
        times: dict[Callable[[np.ndarray], object], list[float]] = {bare: [], ours: []}
        for _ in range(max(5, 60 // batch_size)):
            for run, found in times.items():
                begin = time.perf_counter()
                run(images)
                found.append(time.perf_counter() - begin)
        slow, fast = (statistics.median(found) for found in times.values())
        rates = f"{batch_size / slow:7.1f} {batch_size / fast:7.1f}"
        print(f"batch {batch_size:2} {'images/s':>30} {rates} {fast / slow:10.3f}", flush=True)


def _compare_modes(folders: dict[str, Path]) -> None:
    """What each run mode of a CPU gives, and how far its scores are from plain Paddle's."""
    from paddlex_ml.inference.static_model import StaticModel

    models = {
        mode: StaticModel(folders["onnx" if mode == "onnxruntime" else "paddle"], "cpu", mode)
        for mode in ("paddle", "mkldnn", "mkldnn_bf16", "onnxruntime")
    }
    images = np.random.default_rng(0).standard_normal((8, 3, SIZE, SIZE), np.float32)
    expected = models["paddle"].run(images)
    times: dict[tuple[str, int], list[float]] = {}
    for _ in range(7):
        for mode, model in models.items():
            for batch_size in (1, 8):
                begin = time.perf_counter()
                model.run(images[:batch_size])
                times.setdefault((mode, batch_size), []).append(time.perf_counter() - begin)
    print(f"\n{'run mode':20} images/s at batch 1, at 8   difference")
    for mode, model in models.items():
        one, eight = (size / statistics.median(times[mode, size]) for size in (1, 8))
        difference = np.abs(model.run(images) - expected).max()
        used = mode if model.run_mode == mode else f"{mode}: {model.run_mode}"
        print(f"{used:20} {one:19.1f} {eight:7.1f}   {difference:.1e}", flush=True)


def _bare(kind: str, folder: Path) -> Callable[[np.ndarray], object]:
    """The engine as a plain script has it."""
    if kind == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(folder / "inference.onnx"))
        return lambda batch: session.run(None, {"x": batch})
    from paddle import inference

    files = (str(folder / name) for name in ("inference.json", "inference.pdiparams"))
    config = inference.Config(*files)
    config.disable_gpu()
    config.disable_glog_info()
    config.set_cpu_math_library_num_threads(cores.usable_cores())
    config.enable_mkldnn()
    predictor = inference.create_predictor(config)
    images = predictor.get_input_handle(predictor.get_input_names()[0])
    answer = predictor.get_output_handle(predictor.get_output_names()[0])

    def run(batch: np.ndarray) -> object:
        images.copy_from_cpu(batch)
        predictor.run()
        return answer.copy_to_cpu()

    return run


if __name__ == "__main__":
    main()
