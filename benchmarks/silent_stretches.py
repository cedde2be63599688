# SPDX-License-Identifier: Apache-2.0
"""How long commands are silent on a terminal: `python benchmarks/silent_stretches.py FOLDER`.

Draws a data set into FOLDER (20,000 images of 1,000 classes as shipped), runs every mode and tool
on it in a pseudo-terminal, and prints each stretch above 2 seconds without a new line or a
movement of a bar, with the line before it.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import re
import select
import shlex
import struct
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
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
        present = {number % classes, *rng.integers(0, classes, 2).tolist()}
        values = ["1" if label in present else "0" for label in range(classes)]
        lines.append(f"{name}\t{','.join(values)}\n")
    labels = "".join(f"{label} class {label}\n" for label in range(classes))
    (folder / "label.txt").write_text(labels)
    (folder / "val.txt").write_text("".join(lines[::10]))
    others = [line for number, line in enumerate(lines) if number % 10]
    (folder / "train.txt").write_text("".join(others))


def watch(command: list[str]) -> tuple[int, float, list[tuple[float, float, str]]]:
    """Run a command in a pseudo-terminal: exit code, seconds, and (begin, length, line before)."""
    child, terminal = pty.fork()
    if child == 0:
        os.execvp(command[0], list(command))
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    begin = last = time.monotonic()
    text, silences = "", []
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
            silences.append((last - begin, now - last, _last_line(text)))
        if not piece:
            break
        last, text = now, (text + piece)[-4000:]
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        sys.stderr.write(text)
    return code, time.monotonic() - begin, silences


def _last_line(text: str) -> str:
    lines = [line.strip() for line in re.split(r"[\r\n]", _MARKS.sub("", text)) if line.strip()]
    return lines[-1][:110] if lines else "(nothing yet)"


def commands(data: Path, output: Path) -> Iterator[list[str]]:
    """Every mode, and the tools that read or write data sets."""
    start = [sys.executable, "-m", "paddlex_ml", "-c", "PP-LCNet_x1_0_ML"]
    keys = {
        "Global.dataset_dir": data, "Global.output": output, "Global.device": "cpu",
        "Train.image_size": 32, "Train.epochs_iters": 1, "Train.warmup_steps": 0,
        "Train.pretrain_weight_path": "null", "Train.learning_rate": 0.001,
    }  # fmt: skip
    options = [word for key, value in keys.items() for word in ("-o", f"{key}={value}")]
    for words in (
        "check_dataset",
        "check_dataset CheckDataset.split.enable=true CheckDataset.split.train_percent=80 "
        "CheckDataset.split.val_percent=20",
        "train",
        "evaluate Evaluate.label_errors=all",
        "export",
        "export Export.format=onnx",
        "export Export.format=onnx Export.precision=int8 Export.max_changed_decisions=1",
        f"predict Predict.input={data}/images Predict.batch_size=64 Predict.save_img=false",
    ):
        mode, *more = words.split()
        own = [word for text in (f"Global.mode={mode}", *more) for word in ("-o", text)]
        yield [*start, *options, *own]
    tools = [sys.executable, "-m"]
    folder = output.parent / "exported"
    yield [
        *tools,
        "dataset_tools.export_dataset",
        str(data),
        "--format",
        "COCO",
        "--output",
        str(folder),
    ]


def main() -> None:
    """Draw, run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--classes", type=int, default=1_000)
    parser.add_argument("--only", default="", help="commands with this text alone")
    arguments = parser.parse_args()
    data = arguments.folder / f"set-{arguments.images}-{arguments.classes}"
    draw(data, arguments.images, arguments.classes)
    for command in commands(data.resolve(), (arguments.folder / "output").resolve()):
        shown = shlex.join(command[1:])
        if arguments.only not in shown:
            continue
        code, seconds, silences = watch(command)
        print(f"{seconds:7.1f} s  exit code {code}  {shown[-100:]}", flush=True)
        for begin, length, line in silences:
            announced = line.endswith(("...", "so far")) and length <= ANNOUNCED
            what = "announced" if announced else "SILENT"
            print(f"    {length:5.1f} s {what} after {begin:6.1f} s: {line}", flush=True)


if __name__ == "__main__":
    main()
