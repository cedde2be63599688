# SPDX-License-Identifier: Apache-2.0
"""Memory and speed of one model that several threads share, as the workers of a web server do.

    python benchmarks/shared_model.py [--model PP-LCNet_x1_0_ML] [--size 448] [--clients 1 8 40]

Each number of clients is measured in a process of its own, which loads the model, lets every
client ask for the labels of a photograph a few times, each client in a thread, and prints the
highest memory of the process and the requests per second.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from paddlex_ml import create_model, paddle_runtime  # noqa: E402


def main() -> None:
    """Export a model with random weights, and print a line for each number of clients."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="PP-LCNet_x1_0_ML")
    parser.add_argument("--size", type=int, default=448)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 40])
    parser.add_argument("--requests", type=int, default=240, help="of all clients together")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.folder:
        _serve(arguments.model, arguments.folder, arguments.clients[0], arguments.requests)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "inference"
        _export(arguments.model, arguments.size, folder)
        for clients in arguments.clients:
            options = ["--model", arguments.model, "--requests", str(arguments.requests)]
            options += ["--folder", str(folder), "--clients", str(clients)]
            subprocess.run([sys.executable, __file__, *options], check=True)


def _export(name: str, size: int, folder: Path) -> None:
    paddle_runtime.prepare()
    from paddlex_ml.artifacts.checkpoint import ModelInfo
    from paddlex_ml.export.static import save_static
    from paddlex_ml.models import zoo

    classes = [f"class {number}" for number in range(80)]
    save_static(zoo.build(name, len(classes)), ModelInfo(name, classes, size), folder)


def _serve(name: str, folder: Path, clients: int, requests: int) -> None:
    model = create_model(name, folder, device="cpu")
    photo = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    list(model.predict(photo))
    ready = threading.Barrier(clients + 1)

    def ask() -> None:
        ready.wait()
        for _ in range(requests // clients):
            list(model.predict(photo))

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    ready.wait()
    begin = time.perf_counter()
    for thread in threads:
        thread.join()
    speed = requests // clients * clients / (time.perf_counter() - begin)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
    print(f"{name}, {clients} clients: {peak:.0f} MiB, {speed:.1f} requests/s", flush=True)


if __name__ == "__main__":
    main()
