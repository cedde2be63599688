# SPDX-License-Identifier: Apache-2.0
"""Memory and speed of one model that several threads share, as the workers of a web server do.

    python benchmarks/shared_model.py [--model PP-LCNet_x1_0_ML] [--size 448] [--clients 1 8 40]
        [--megapixels 12] [--batches 1 8 64 --photos 128]

Each number of clients is measured in a process of its own, which loads the model, lets every
client ask for the labels of a photograph a few times, each client in a thread, and prints the
highest memory of the process and the requests per second. Photographs are arrays of 640 x 480, or
JPEG files in memory of so many megapixels. Then the same for one client that asks for the labels of
many photographs in batches.
"""

from __future__ import annotations

import argparse
import io
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

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
    parser.add_argument("--megapixels", type=float, help="of a photograph, a JPEG file")
    parser.add_argument("--batches", type=int, nargs="+", default=[], help="images in a batch")
    parser.add_argument("--photos", type=int, default=128, help="that are asked for in batches")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    photo = _draw(arguments.megapixels)
    if arguments.folder and arguments.batches:
        _ask_in_batches(arguments, photo)
        return
    if arguments.folder:
        _serve(arguments, photo)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "inference"
        _export(arguments.model, arguments.size, folder)
        options = ["--model", arguments.model, "--requests", str(arguments.requests)]
        options += ["--folder", str(folder), "--photos", str(arguments.photos)]
        if arguments.megapixels:
            options += ["--megapixels", str(arguments.megapixels)]
        ways = [("--clients", each) for each in arguments.clients]
        for way, number in [*ways, *(("--batches", each) for each in arguments.batches)]:
            command = [sys.executable, __file__, *options, way, str(number)]
            subprocess.run(command, check=True)


def _draw(megapixels: float | None) -> np.ndarray | bytes:
    random = np.random.default_rng(0)
    if megapixels is None:
        return random.integers(0, 256, (480, 640, 3), np.uint8)
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    small = Image.fromarray(random.integers(0, 256, (height // 10, height * 4 // 30, 3), np.uint8))
    file = io.BytesIO()
    small.resize((height * 4 // 3, height)).save(file, "JPEG", quality=85)
    return file.getvalue()


def _export(name: str, size: int, folder: Path) -> None:
    paddle_runtime.prepare()
    from paddlex_ml.artifacts.checkpoint import ModelInfo
    from paddlex_ml.export.static import save_static
    from paddlex_ml.models import zoo

    classes = [f"class {number}" for number in range(80)]
    save_static(zoo.build(name, len(classes)), ModelInfo(name, classes, size), folder)


def _serve(arguments: argparse.Namespace, photo: np.ndarray | bytes) -> None:
    clients, requests = arguments.clients[0], arguments.requests
    model = create_model(arguments.model, arguments.folder, device="cpu")
    list(model.predict(np.zeros((480, 640, 3), np.uint8)))
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
    print(f"{arguments.model}, {clients} clients: {_peak():.0f} MiB, {speed:.1f} requests/s")


def _ask_in_batches(arguments: argparse.Namespace, photo: np.ndarray | bytes) -> None:
    model, size = (
        create_model(arguments.model, arguments.folder, device="cpu"),
        arguments.batches[0],
    )
    begin = time.perf_counter()
    for _ in model.predict([photo] * arguments.photos, batch_size=size):
        pass
    speed = arguments.photos / (time.perf_counter() - begin)
    print(f"{arguments.model}, batches of {size}: {_peak():.0f} MiB, {speed:.1f} photographs/s")


def _peak() -> float:
    """MiB; the system counts KiB on Linux."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
