# SPDX-License-Identifier: Apache-2.0
"""Whole training steps on GPUs, of this project and of PyTorch: for one card, and for all of them.

    python benchmarks/gpu_speed.py [--models NAME ...] [--batch 32] [--cards 1 8] [--amp bfloat16]
    python benchmarks/gpu_speed.py --device cpu --torch-python PYTHON      # does the script work?

A step is that of benchmarks/peer_speed.py, and so are the peers and their environment: forward,
asymmetric loss, backward, the check of the loss, AdamW and averaged weights, on images that lie in
the memory of the card. Ours are the steps of mode train: plain, with Train.compile=true, and with
Train.channels_last=true where that is possible; those of PyTorch are eager and torch.compile, in
channels_last, with the same mixed precision. Of several cards each has --batch images, and both
sides exchange gradients within the backward pass.

Nobody who works on this project has a GPU: run it, and send back what it prints on standard output.
--device cpu trains tiny images with one and two processes, so that the script itself can be tested;
its figures mean nothing.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import paddlex_ml  # noqa: E402
from benchmarks.peer_speed import (  # noqa: E402
    COMPILED,
    COMPILERS,
    EAGER,
    OURS,
    PACKAGES,
    PEERS,
    build_environment,
    take_turns,
)
from benchmarks.turns import Taken, Task  # noqa: E402
from paddlex_ml import paddle_runtime  # noqa: E402
from paddlex_ml.cores import usable_cores  # noqa: E402

OURS_COMPILED = f"{OURS}, Train.compile"
OURS_CHANNELS_LAST = f"{OURS}, Train.channels_last"
ALL_OURS = (OURS, OURS_COMPILED, OURS_CHANNELS_LAST)
SIDES = (EAGER, COMPILED, *ALL_OURS)
RATIOS = tuple((ours, theirs) for theirs in (EAGER, COMPILED) for ours in ALL_OURS)
QUERY = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
FLOAT32 = "float32"


def main() -> int:
    """Measure all models and print a Markdown table, the machine, and what to send back."""
    options = _parse()
    paddle_runtime.prepare()
    if fault := _find_fault(options):
        print(f"error: {fault}", file=sys.stderr)
        return 2
    python = options.torch_python or build_environment(options.folder, options.packages)
    columns = [*SIDES, *(f"{one} / {other}" for one, other in RATIOS)]
    print(f"{_describe_machine(options.device)}\n{options.size} px, {options.classes} classes\n")
    print("| model | cards | batch | precision | " + " | ".join(columns) + " |")
    print("|---" * 4 + "|---:" * len(columns) + "|")
    software: set[str] = set()
    for model in options.models:
        for cards in options.cards:
            for amp in options.amp:
                print(_measure(model, cards, amp, options, python, software), flush=True)
    print(
        f"\nImages per second; ratios of the speed; medians of {options.rounds} rounds of "
        f"{options.steps} steps. {'; '.join(sorted(software))}.\n{_differences(options)}"
    )
    print("\nPlease send back all that stands above, from the name of the cards on.")
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=PEERS, default=list(PEERS), metavar="NAME")
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--cards", nargs="+", type=int, help="numbers of cards; default: 1 and all")
    parser.add_argument(
        "--amp", nargs="+", choices=("bfloat16", "float16", FLOAT32), default=["bfloat16"]
    )
    parser.add_argument("--batch", type=int, default=32, help="images of a step, on each card")
    parser.add_argument("--size", type=int, default=448)
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="of a side in each round")
    parser.add_argument(
        "--one-by-one",
        action="store_true",
        help="each side ends before the next one begins: for cards with too little memory for all",
    )
    parser.add_argument("--torch-python", help="interpreter that has torch and timm")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(tempfile.gettempdir()) / "paddlex_ml_peer_gpu",
        help="where the environment of PyTorch is made, and found again",
    )
    parser.add_argument("--packages", nargs="+", default=PACKAGES, help="what pip installs there")
    options = parser.parse_args()
    if options.device == "cpu":  # a test of the script: mixed precision needs a GPU
        options.models = options.models[:1]
        options.batch, options.size, options.classes, options.steps = 2, 64, 5, 1
        options.cards, options.amp = [1, 2], [FLOAT32]
    return options


def _find_fault(options: argparse.Namespace) -> str | None:
    """Why nothing can be measured here; sets the default of `options.cards`."""
    import paddle

    if not any(map(shutil.which, COMPILERS)):
        return f"torch.compile needs a C++ compiler: none of {', '.join(COMPILERS)} is on the path"
    if options.device == "cpu":
        return None
    count = paddle.device.cuda.device_count() if paddle.device.is_compiled_with_cuda() else 0
    if not paddle.device.is_compiled_with_cuda():
        return (
            "this PaddlePaddle is built for the CPU alone: install paddlepaddle-gpu (README, "
            "section Install), or test the script itself with --device cpu"
        )
    if count == 0:
        return "PaddlePaddle finds no GPU here; --device cpu tests the script itself"
    options.cards = options.cards or sorted({1, count})
    if max(options.cards) > count or min(options.cards) < 1:
        return f"--cards {' '.join(map(str, options.cards))}: PaddlePaddle finds {count} here"
    return None


def _measure(
    model: str,
    cards: int,
    amp: str,
    options: argparse.Namespace,
    python: str,
    software: set[str],
) -> str:
    """A row of the table; adds the versions of the software to `software`."""
    peer = PEERS[model]
    ours = Task(
        model=model,
        peer=peer.name,
        dropout=peer.dropout,
        batch=options.batch * cards,
        size=options.size,
        classes=options.classes,
        threads=max(cards, usable_cores()) // cards * cards,
        processes=cards,
        device=options.device,
        amp="" if amp == FLOAT32 else amp,
        steps=options.steps,
    )
    theirs = replace(ours, channels_last=peer.channels_last)
    tasks = {EAGER: theirs, COMPILED: replace(theirs, compiled=True)}
    tasks |= {OURS: ours, OURS_COMPILED: replace(ours, compiled=True)}
    if ours.amp and peer.channels_last:
        tasks[OURS_CHANNELS_LAST] = replace(ours, channels_last=True)
    groups = [{name: task} for name, task in tasks.items()] if options.one_by_one else [tasks]
    taken, facts = take_turns(groups, python, options.rounds, "passive")
    software |= {fact.software for fact in facts.values()}
    cells = [model, str(cards), str(ours.batch), amp, *_cells(ours.batch, taken)]
    return f"| {' | '.join(cells)} |"


def _cells(batch: int, taken: Mapping[str, list[Taken]]) -> list[str]:
    """The speeds and their ratios; a ratio is the median of those within one round."""
    cells = []
    for side in SIDES:
        seconds = [each.seconds for each in taken.get(side, ())]
        cells.append(f"{batch / statistics.median(seconds):.1f}" if seconds else "-")
    for one, other in RATIOS:
        if one not in taken:
            cells.append("-")
            continue
        pairs = zip(taken[one], taken[other], strict=True)
        cells.append(f"{statistics.median(b.seconds / a.seconds for a, b in pairs):.2f}")
    return cells


def _describe_machine(device: str) -> str:
    """Cards, driver and memory; the processor in a test of the script."""
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    ours = f"paddlex_ml {paddlex_ml.__version__} {commit}".strip()
    if device == "cpu":
        return f"A TEST OF THE SCRIPT on {usable_cores()} cores: the figures mean nothing. {ours}"
    if shutil.which(QUERY[0]) is None:
        return f"GPUs that nvidia-smi does not name. {system}; {ours}"
    listed = subprocess.run(QUERY, capture_output=True, text=True, check=True).stdout
    cards = sorted(set(listed.strip().splitlines()))
    return f"{len(listed.strip().splitlines())} x {'; '.join(cards)}. {system}; {ours}"


def _differences(options: argparse.Namespace) -> str:
    """What is not the same on both sides."""
    plain = [model for model in options.models if not PEERS[model].channels_last]
    notes = [
        f"The batch is that of all cards, {options.batch} images on each.",
        "The weights of both sides are random, the numbers of parameters are compared.",
        "PyTorch computes in channels_last" + (f", except {', '.join(plain)}." if plain else "."),
        "PyTorch may use TF32, and tries which convolution is fastest (cudnn.benchmark); Paddle "
        "is as it comes.",
        "Our step also seeds the dropout, adds up the losses of all cards, averages the running "
        "statistics over them, and writes a log line.",
        "Every step ends when the card has done all of it.",
    ]
    return "\n".join(f"- {note}" for note in notes)


if __name__ == "__main__":
    sys.exit(main())
