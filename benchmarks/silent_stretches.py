# SPDX-License-Identifier: Apache-2.0
"""How long commands are silent on a terminal: `python benchmarks/silent_stretches.py FOLDER`.

Draws a data set into FOLDER (20,000 images of 1,000 classes as shipped, every hundredth also in a
second size), runs every mode and tool on it in a pseudo-terminal, and prints each stretch above 2
seconds without a new line or a movement of a bar, with the line before it. The table of runs gets
1,000 copies of a small one. On a machine that others use, stretches are longer: the processor time
that the command used meanwhile stands beside each of them, and the load beside each command.
"""

from __future__ import annotations

import argparse
import fcntl
import functools
import http.server
import os
import pty
import re
import select
import shlex
import shutil
import struct
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

LONGEST = 2.0
"""Seconds that a command may be silent."""
ANNOUNCED = 31.0
"""The same behind a line that says what takes so long."""
_MARKS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def draw(folder: Path, images: int, classes: int) -> None:
    """A data set of noise images of 48 x 48 pixels, with three labels each, one tenth for val."""
    if (folder / "val.txt").exists():
        return
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    lines = []
    for number in range(images):
        name = f"images/{number:06d}.jpg"
        coarse = rng.integers(0, 256, (6, 6, 3)).astype(np.uint8)
        Image.fromarray(coarse).resize((48, 48)).save(folder / name)
        if number % 100 == 1:  # a near duplicate of the image before
            before = Image.open(folder / f"images/{number - 1:06d}.jpg")
            before.resize((64, 64)).save(folder / name)
        present = {number % classes, *rng.integers(0, classes, 2).tolist()}
        values = ["1" if label in present else "0" for label in range(classes)]
        lines.append(f"{name}\t{','.join(values)}\n")
    labels = "".join(f"{label} class {label}\n" for label in range(classes))
    (folder / "label.txt").write_text(labels)
    (folder / "val.txt").write_text("".join(lines[::10]))
    others = [line for number, line in enumerate(lines) if number % 10]
    (folder / "train.txt").write_text("".join(others))


@dataclass(frozen=True)
class Stretch:
    """Seconds without a new line and without a movement of a bar."""

    begin: float
    length: float
    processor: float
    """Processor seconds that the command and its processes used meanwhile."""
    line: str
    """The line before."""

    def __str__(self) -> str:
        is_announced = self.line.endswith(("...", "so far")) and self.length <= ANNOUNCED
        what = "announced" if is_announced else "SILENT"
        used = f"{self.processor:.1f} s of the processor"
        return f"{self.length:5.1f} s ({used}) {what} after {self.begin:6.1f} s: {self.line}"


def watch(command: list[str]) -> tuple[int, float, list[Stretch]]:
    """Run a command in a pseudo-terminal: exit code, seconds, and its silent stretches."""
    child, terminal = pty.fork()
    if child == 0:
        os.execvp(command[0], list(command))
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    begin = last = time.monotonic()
    text, silences, used = "", list[Stretch](), 0.0
    while True:
        ready, _, _ = select.select([terminal], [], [], 0.1)
        now = time.monotonic()
        if not ready:
            continue
        try:
            piece = os.read(terminal, 65536).decode("utf-8", "replace")
        except OSError:  # Linux says so where the other end is closed
            piece = ""
        if now - last > LONGEST:
            taken = max(0.0, _processor_seconds(child) - used)
            silences.append(Stretch(last - begin, now - last, taken, _last_line(text)))
        if not piece:
            break
        last, text, used = now, (text + piece)[-4000:], _processor_seconds(child)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        sys.stderr.write(text)
    return code, time.monotonic() - begin, silences


def _processor_seconds(child: int) -> float:
    """Of a process and all below it, also those that have ended."""
    total = 0.0
    with suppress(psutil.NoSuchProcess):
        own = psutil.Process(child)
        for each in (own, *own.children(recursive=True)):
            with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                total += sum(each.cpu_times()[:4])
    return total


def _last_line(text: str) -> str:
    lines = [line.strip() for line in re.split(r"[\r\n]", _MARKS.sub("", text)) if line.strip()]
    return lines[-1][:110] if lines else "(nothing yet)"


MODES = (
    "check_dataset",
    "check_dataset CheckDataset.split.enable=true CheckDataset.split.train_percent=80 "
    "CheckDataset.split.val_percent=20",
    "plan",
    "train",
    "evaluate Evaluate.label_errors=all",
    "evaluate Evaluate.compare_with={output}/latest/latest.pdparams Evaluate.save_threshold=true",
    "export",
    "export Export.format=safetensors",
    "export Export.format=pdmodel",
    "export Export.format=onnx",
    "export Export.format=onnx Export.precision=fp16 Export.max_changed_decisions=1",
    "export Export.format=onnx Export.precision=int8 Export.max_changed_decisions=1",
    "export Export.format=openvino",
    "export Export.format=openvino Export.precision=int8 Export.max_changed_decisions=1",
    "benchmark Benchmark.minutes=1",
    "predict Predict.input={data}/images Predict.batch_size=64 Predict.save_img=false",
    "predict Predict.input={addresses} Predict.save_img=false",
    "predict Predict.input={data}/images/0000??.jpg Predict.explain=true",
)
"""Modes with overrides, after the others whose files they read."""


def commands(folder: Path, data: Path, addresses: Path) -> Iterator[tuple[list[str], Path | None]]:
    """Every mode, the tools that read or write data sets, a sweep, and the table of runs.

    With each the folder that it makes, which must not be there.
    """
    output = folder / "output"
    python = [sys.executable, "-m"]
    start = [*python, "paddlex_ml", "-c", "PP-LCNet_x1_0_ML"]
    keys = {
        "Global.dataset_dir": data, "Global.output": output, "Global.device": "cpu",
        "Train.image_size": 64, "Train.epochs_iters": 1, "Train.warmup_steps": 0,
        "Train.pretrain_weight_path": "null", "Train.learning_rate": 0.001,
    }  # fmt: skip
    options = [word for key, value in keys.items() for word in ("-o", f"{key}={value}")]
    for words in MODES:
        mode, *more = words.format(data=data, output=output, addresses=addresses).split()
        yield [*start, *options, "-o", f"Global.mode={mode}", *more], None
    made = {name: folder / name for name in ("exported", "inspected", "merged", "coco", "sweep")}
    exporting = [*python, "dataset_tools.export_dataset", str(data), "--format", "COCO"]
    yield [*exporting, "--output", str(made["exported"])], made["exported"]
    inspecting = [*python, "dataset_tools.inspect_dataset", str(data)]
    yield [*inspecting, "--output", str(made["inspected"])], made["inspected"]
    merging = [*python, "dataset_tools.merge", str(data), str(folder / "small")]
    yield [*merging, "--conflicts", "first", "-o", str(made["merged"])], made["merged"]
    yield [
        *start, "-o", "Global.mode=check_dataset", f"Global.dataset_dir={made['exported']}",
        "CheckDataset.convert.enable=true", "CheckDataset.convert.src_dataset_type=COCO",
        f"Global.output={made['coco']}",
    ], made["coco"]  # fmt: skip
    small = [*options, "-o", f"Global.dataset_dir={folder / 'small'}", "Global.mode=train"]
    yield [*start, *small, f"Global.output={made['sweep']}", "--seeds", "2"], made["sweep"]
    copy_runs(made["sweep"], folder / "runs", 1000)
    yield [*python, "paddlex_ml.tools.runs", str(folder / "runs")], None


def copy_runs(source: Path, target: Path, number: int) -> None:
    """Copies of the small files of a run, with learning rates and seeds of their own."""
    names = ("run.json", "train_result.json", "metrics.csv", "val_scores.npz", "label_dict.txt")
    found = next((path.parent for path in source.rglob("val_scores.npz")), None)
    if found is None or target.exists():
        return
    config = (found / "config.yaml").read_text(encoding="utf-8")
    for index in range(number):
        copy = target / f"run-{index:04d}"
        copy.mkdir(parents=True)
        for name in names:
            shutil.copy(found / name, copy / name)
        text = re.sub(r"(?m)^(  learning_rate:).*", rf"\1 {(index // 5 + 1) / 1e5}", config)
        text = re.sub(r"(?m)^(  seed:).*", rf"\1 {index % 5}", text)
        (copy / "config.yaml").write_text(text, encoding="utf-8")


@contextmanager
def served(folder: Path, number: int) -> Iterator[Path]:
    """A list of the addresses of images of `folder`, which a server on this machine answers."""
    handler = functools.partial(_Slow, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    lines = [f"http://127.0.0.1:{server.server_port}/images/{i:06d}.jpg\n" for i in range(number)]
    addresses = folder / "addresses.txt"
    addresses.write_text("".join(lines), encoding="utf-8")
    try:
        yield addresses
    finally:
        server.shutdown()


class _Slow(http.server.SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        time.sleep(0.2)
        super().do_GET()

    def log_message(self, *_arguments: object) -> None:
        pass


def main() -> None:
    """Draw, run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--classes", type=int, default=1_000)
    parser.add_argument("--only", default="", help="commands with this text alone")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    data = folder / f"set-{arguments.images}-{arguments.classes}"
    draw(data, arguments.images, arguments.classes)
    draw(folder / "small", 200, 10)
    with served(data, min(300, arguments.images)) as addresses:
        for command, made in commands(folder, data, addresses):
            shown = shlex.join(command[1:])
            if arguments.only not in shown:
                continue
            if made is not None:
                shutil.rmtree(made, ignore_errors=True)
            code, seconds, silences = watch(command)
            load = f"load {os.getloadavg()[0]:.1f}"
            print(f"{seconds:7.1f} s  exit code {code}  {load}  {shown[-100:]}", flush=True)
            print("".join(f"    {each}\n" for each in silences), end="", flush=True)


if __name__ == "__main__":
    main()
