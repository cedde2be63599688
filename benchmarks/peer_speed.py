# SPDX-License-Identifier: Apache-2.0
"""Whole training steps on the CPU, of this project and of PyTorch, in turns.

    python benchmarks/peer_speed.py [--models NAME ...] [--batch 8] [--rounds 5] [--processes 2]

A step is forward, asymmetric loss, backward, the check of the loss, AdamW and averaged weights, in
float32, on images that lie in memory; ours is that of mode train. The peer is the network of the
same design in timm with the head of benchmarks/peer_torch.py. Both sides live in processes of
their own, which take one step after the other. The table has medians, and in brackets what the
processor time says: on a machine that others use it is the fairer figure.

PyTorch is no part of this project. Without --torch-python, a virtual environment with it is made in
--folder (about 1 GB; several with the libraries for GPUs, which pip's default index may bring),
and used again by the next run; delete the folder when you need it no more.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.turns import Facts, Side, Taken, Task, serve  # noqa: E402
from paddlex_ml.cores import usable_cores  # noqa: E402

PACKAGES = ("torch==2.13.0", "torchvision==0.28.0", "timm==1.0.31")
COMPILERS = ("c++", "g++", "clang++")
WARM_UP = 2  # steps of each side that do not count: code is compiled, the heap grows
MOST_DIFFERENT = 0.01  # of the numbers of parameters; more, and it is another network
OURS, PAIR = "ours", "ours, several processes"
EAGER, COMPILED = "PyTorch", "torch.compile"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
OURS_COMMAND = [sys.executable, "-c", "from benchmarks import peer_speed; peer_speed.train_ours()"]
TORCH_SCRIPT = str(ROOT / "benchmarks" / "peer_torch.py")


@dataclass(frozen=True)
class Peer:
    """The same network in timm."""

    name: str
    dropout: float = 0.0
    channels_last: bool = True


PEERS = {
    "PP-LCNet_x1_0_ML": Peer("lcnet_100", dropout=0.2),
    "PP-HGNetV2-B0_ML": Peer("hgnetv2_b0"),
    "PP-HGNetV2-B4_ML": Peer("hgnetv2_b4"),
    "PP-HGNetV2-B6_ML": Peer("hgnetv2_b6"),
    "ResNet50_ML": Peer("resnet50"),
    "CLIP_vit_base_patch16_448_ML": Peer("vit_base_patch16_clip_224", channels_last=False),
}


def main() -> int:
    """Measure all models and print a Markdown table and what differs."""
    options = _parse()
    if options.compile and not any(map(shutil.which, COMPILERS)):
        print("torch.compile is left out: no C++ compiler is on the path\n")
        options.compile = False
    python = options.torch_python or build_environment(options.folder, options.packages)
    print(f"{processor()}, {options.threads} threads, {options.size} px, float32\n")
    columns = [EAGER, COMPILED, OURS, PAIR, f"{OURS} / {EAGER}", f"{OURS} / {COMPILED}"]
    print("| model | batch | parameters, ours | the peer's | " + " | ".join(columns) + " |")
    print("|---" * 2 + "|---:" * (len(columns) + 2) + "|")
    software: set[str] = set()
    for model in options.models:
        print(_measure(model, options, python, software), flush=True)
    print(
        "\nImages per second, and in brackets the processor seconds of a step in all threads; "
        "ratios of the speed, and in brackets of the processor time; medians of "
        f"{options.rounds} rounds. {'; '.join(sorted(software))}."
    )
    print(_differences(options))
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=PEERS, default=list(PEERS), metavar="NAME")
    parser.add_argument("--batch", type=int, default=8, help="images of a step, in all processes")
    parser.add_argument("--size", type=int, default=448)
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=5, help="steps of each side that count")
    parser.add_argument("--threads", type=int, default=usable_cores(), help="of each side")
    parser.add_argument("--processes", type=int, default=1, help="measure ours in so many, too")
    parser.add_argument(
        "--compile", action=argparse.BooleanOptionalAction, default=True, help="torch.compile, too"
    )
    parser.add_argument(
        "--wait-policy",
        choices=("passive", "active"),
        default="passive",
        help="OMP_WAIT_POLICY of both sides: what a thread does that waits for others",
    )
    parser.add_argument("--torch-python", help="interpreter that has torch and timm")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(tempfile.gettempdir()) / "paddlex_ml_peer",
        help="where the environment of PyTorch is made, and found again",
    )
    parser.add_argument("--packages", nargs="+", default=PACKAGES, help="what pip installs there")
    options = parser.parse_args()
    if options.rounds < 5:
        parser.error("--rounds must be 5 or more: the median of fewer says little")
    if options.batch % options.processes or options.threads % options.processes:
        parser.error("--processes must divide --batch and --threads")
    return options


def build_environment(folder: Path, packages: list[str]) -> str:
    """The interpreter of an environment in `folder` that has `packages`; made where there is none.

    What pip prints goes to standard error. Raises CalledProcessError when pip fails.
    """
    python, done = folder / "bin" / "python", folder / "packages.json"
    if done.is_file() and json.loads(done.read_text("utf-8")) == list(packages):
        return str(python)
    print(f"installing {', '.join(packages)} into {folder}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    install = [str(python), "-m", "pip", "install", "--quiet", *packages]
    subprocess.run(install, check=True, stdout=sys.stderr)
    done.write_text(json.dumps(list(packages)), "utf-8")
    return str(python)


def _measure(model: str, options: argparse.Namespace, python: str, software: set[str]) -> str:
    """The row of a model; adds the versions of the software to `software`."""
    peer = PEERS[model]
    ours = Task(
        model=model,
        peer=peer.name,
        dropout=peer.dropout,
        batch=options.batch,
        size=options.size,
        classes=options.classes,
        threads=options.threads,
    )
    theirs = replace(ours, channels_last=peer.channels_last)
    tasks = {EAGER: theirs, OURS: ours}
    if options.compile:
        tasks[COMPILED] = replace(theirs, compiled=True)
    if options.processes > 1:
        tasks[PAIR] = replace(ours, processes=options.processes)
    taken, facts = take_turns([tasks], python, options.rounds, options.wait_policy)
    software |= {fact.software for fact in facts.values()}
    counts = [facts[name].parameters for name in (OURS, EAGER)]
    return _row(model, options.batch, counts, taken)


def take_turns(
    groups: Sequence[Mapping[str, Task]], python: str, rounds: int, wait_policy: str
) -> tuple[dict[str, list[Taken]], dict[str, Facts]]:
    """What a step took in each round, and the facts, by the name of the side.

    The sides of a group live together and take turns; a group ends before the next one begins.
    Names that begin with OURS are of this project, others run with `python`. Raises RuntimeError
    where the sides have different numbers of parameters: those are different networks.
    """
    taken: dict[str, list[Taken]] = {name: [] for tasks in groups for name in tasks}
    facts: dict[str, Facts] = {}
    for tasks in groups:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="turns")))
            sides = {}
            for name, task in tasks.items():
                command = OURS_COMMAND if name.startswith(OURS) else [python, TORCH_SCRIPT]
                started = start_side(command, task, wait_policy, folder)
                sides[name] = side = stack.enter_context(closing(started))
                for _ in range(WARM_UP):
                    side.turn()
                facts[name] = side.facts[0]
                print(f"{task.model}: {name} is ready", file=sys.stderr)
            for number in range(rounds):
                for name in list(sides) if number % 2 else reversed(sides):
                    taken[name].append(sides[name].turn())
                last = ", ".join(f"{name} {taken[name][-1].seconds:.3f} s" for name in sides)
                print(f"{task.model}, round {number + 1} of {rounds}: {last}", file=sys.stderr)
    counts = {name: fact.parameters for name, fact in facts.items()}
    if max(counts.values()) / min(counts.values()) - 1 > MOST_DIFFERENT:
        raise RuntimeError(f"the sides of {task.model} have different parameters: {counts}")
    return taken, facts


def _row(model: str, batch: int, counts: list[int], taken: Mapping[str, list[Taken]]) -> str:
    """A row of the table; a dash where a side was not measured.

    A ratio is the median of those within one round: neighbours in time suffer the same noise.
    """
    cells = []
    for name in (EAGER, COMPILED, OURS, PAIR):
        seconds, processor = map(
            statistics.median, zip(*taken.get(name, [(0.0, 0.0)]), strict=True)
        )
        cells.append(f"{batch / seconds:.2f} ({processor:.1f})" if seconds else "-")
    for other in (EAGER, COMPILED):
        pairs = zip(taken.get(other, []), taken[OURS], strict=False)
        ratios = [(a.seconds / b.seconds, a.processor / b.processor) for a, b in pairs]
        speed, processor = map(statistics.median, zip(*ratios or [(0.0, 0.0)], strict=True))
        cells.append(f"{speed:.2f} ({processor:.2f})" if ratios else "-")
    return (
        " | ".join([f"| {model}", str(batch), *(f"{count:,}" for count in counts), *cells]) + " |"
    )


def start_side(
    command: Sequence[str],
    task: Task,
    wait_policy: str,
    folder: Path,
    more: Mapping[str, str] | None = None,
) -> Side:
    """Start one side, in a folder of its own below `folder`, with `more` variables."""
    own = folder / str(len(list(folder.iterdir())))
    own.mkdir()
    left_out = *THREADS, "MKL_DEBUG_CPU_TYPE", "OMP_WAIT_POLICY", "KMP_BLOCKTIME"
    clean = {k: v for k, v in os.environ.items() if k not in left_out}
    environment = {
        **clean,
        **dict.fromkeys(THREADS, str(task.threads // task.processes)),
        **({"OMP_WAIT_POLICY": wait_policy.upper()} if wait_policy else {}),
        "PYTHONPATH": str(ROOT),
        # Code that torch.compile made is removed with the folder; none of an earlier run is used.
        "TORCHINDUCTOR_CACHE_DIR": str(own / "compiled"),
        **(more or {}),
    }
    return Side(command, task, environment, own)


def train_ours() -> None:
    """Our side: be one process of the task in the arguments, or start as many as it says."""
    from paddlex_ml import paddle_runtime

    paddle_runtime.prepare()
    from paddlex_ml.devices import Devices
    from paddlex_ml.distributed import launch

    address, text = sys.argv[1:]
    task = Task(**json.loads(text))
    devices = Devices(task.device, tuple(range(task.processes)))
    launch.run(_train, (address, task), devices)


def _train(argument: tuple[str, Task], group: object) -> None:
    """Serve steps of mode train; runs in every process of the group."""
    import math

    import paddle

    from benchmarks.train_speed import build_step

    address, task = argument
    batch = task.batch // task.processes
    step = build_step(
        task.model,
        batch,
        task.size,
        task.classes,
        group,
        amp=task.amp,
        channels_last=task.channels_last,
        compiles=task.compiled,
    )
    entries = step.training.model.state_dict().items()
    shapes = [v.shape for k, v in entries if not k.endswith(("._mean", "._variance"))]
    software = f"PaddlePaddle {paddle.version.full_version}"
    if task.device == "gpu":
        software += f", CUDA {paddle.version.cuda()}, cuDNN {paddle.version.cudnn()}"
    with step.meter.bar:
        serve(address, Facts(sum(map(math.prod, shapes)), software), step.run, task.steps)


def processor() -> str:
    """Name of the processor and how many cores may be used."""
    name, details = platform.machine(), Path("/proc/cpuinfo")
    lines = details.read_text("utf-8").splitlines() if details.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{(names or [name])[0]}, {usable_cores()} usable cores"


def _differences(options: argparse.Namespace) -> str:
    """What is not the same on both sides."""
    dropped = [f"{model} ({peer.dropout:g})" for model, peer in PEERS.items() if peer.dropout]
    plain = [model for model, peer in PEERS.items() if not peer.channels_last]
    share = options.batch // options.processes
    notes = [
        f"The numbers of parameters are equal to {MOST_DIFFERENT:.0%}: the run checks it.",
        "The weights of both sides are random; the head (one query per class, dropout 0.1) is the "
        f"same, and so is the dropout before it: {', '.join(dropped)}.",
        f"PyTorch computes in channels_last, except {', '.join(plain)}, with fused attention and "
        "fused AdamW, and averages all entries in one call.",
        "Our step also seeds the dropout, sets the learning rate and writes a log line, and "
        "averages the running statistics among the entries, as PyTorch's does.",
        f"Each side has {options.threads} threads; only one side computes at a time. Threads that "
        + ("sleep" if options.wait_policy == "passive" else "keep their core busy")
        + f" while they wait (OMP_WAIT_POLICY={options.wait_policy.upper()}).",
    ]
    if options.processes > 1:
        notes.append(
            f"With {options.processes} processes each has {share} images of a step and "
            f"{options.threads // options.processes} threads; they exchange gradients."
        )
    return "\n".join(f"- {note}" for note in notes)


if __name__ == "__main__":
    sys.exit(main())
