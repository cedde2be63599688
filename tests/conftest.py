# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import ctypes
import gc
import importlib.util
import itertools
import json
import os
import pickle
import re
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

import hypothesis
import numpy as np
import psutil
import pytest
from PIL import Image

from paddlex_ml import cli, gpus, paddle_runtime
from paddlex_ml.data import annotation
from paddlex_ml.storage import cache, fetch

TESTS = Path(__file__).resolve().parent
ROOT, SHARED = TESTS.parent, TESTS.parent.parent / "shared"

# Two tests run at a time: a thread that waits must leave its core to the other (OpenMP of Intel
# spins for 0.2 s otherwise). It takes a quarter off the time; results do not depend on it.
os.environ.setdefault("KMP_BLOCKTIME", "0")
# Compiled kernels stay where a user has them: they take ten seconds.
os.environ.setdefault("NUMBA_CACHE_DIR", str(cache.folder() / "numba"))
os.environ["XDG_STATE_HOME"] = str(cache.folder() / "state of tests")
os.environ["PADDLEX_ML_CACHE"] = f"{os.devnull}/cache"  # whatever `own_cache` misses fails loudly
os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = f"{os.devnull}/hypothesis"  # no folder in the tree
hypothesis.settings.register_profile("no folder", database=None, deadline=None)  # busy machines
hypothesis.settings.load_profile("no folder")
assert "paddle" not in sys.modules  # else it and its MKL have read another environment already
paddle_runtime.prepare()
train_run = importlib.import_module("paddlex_ml.engines.train.run")  # imports Paddle
plots = importlib.import_module("paddlex_ml.pictures.plots")
small_models = importlib.import_module("tests.shallow").small_models  # as well
# A shell that starts the tests in the background, and nohup, ignore signals that tests send.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

LONGEST = (
    *("test_story.py", "distributed/test_story.py", "export/test_onnx.py", "test_website.py"),
    *("engines/test_every_model.py", "models/test_every_model.py", "test_surroundings.py"),
    *("test_nothing_is_left.py", "kernels/test_compiler.py", "fuzz/test_readers.py"),
    *("export/test_onnx_graph.py", "inference/test_attention.py", "test_next_command.py"),
)
"""Files that begin first: the other workers would wait for one that begins last."""
LARGE = 1.2e9
"""Bytes of a process of tests that are many: Paddle and all modules take 0.6e9."""
QUICK = (
    *("artifacts", "config", "data", "distributed", "formats", "metrics", "report", "storage"),
    *("training", "test_architecture.py", "test_cli.py", "test_cores.py", "test_devices.py"),
    *("test_docs.py", "test_evaluation.py", "test_mirror.py", "test_paddle_runtime.py"),
    *("test_release.py", "test_terminal.py", "test_twins.py", "fuzz", "tracking"),
)
"""Rooms and files of `make quick`: together less than a minute on two cores."""
SMALL = (
    *("distributed", "engines", "export", "inference", "test_bad_input.py", "test_every_option.py"),
    *("test_next_command.py", "test_story.py", "training/test_last_batch.py"),
    *("training/test_loop.py", "training/test_saving.py", "tracking"),
)
"""Rooms and files that train small models (tests/shallow.py); the others have the whole ones."""
NOT_QUICK = (
    *("data/test_demo.py", "data/test_findings.py", "data/test_image_cache.py"),
    *("data/test_loader.py", "formats/test_bad_input.py", "formats/test_coco_bad_input.py"),
    *("artifacts/test_weights.py", "data/test_journal.py", "formats/test_rewrite.py"),
    *("data/test_augment.py", "metrics/test_bootstrap.py"),
    *("report/test_evaluation_page_browser.py", "tracking/test_tensorboard.py"),
    *("training/test_flat_memory.py", "training/test_freeze.py", "training/test_recompute.py"),
)


def is_quick(path: Path) -> bool:
    name = path.relative_to(TESTS)
    return name.parts[0] in QUICK and name.as_posix() not in NOT_QUICK


@pytest.fixture(scope="module", autouse=True)
def size_of_models(request: pytest.FixtureRequest) -> Iterator[None]:
    name = request.path.relative_to(TESTS)
    is_small = name.parts[0] in SMALL or name.as_posix() in SMALL
    with patch.object(gpus, "are_missing", bool), small_models() if is_small else nullcontext():
        yield


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m quick` the other files are not even imported, and neither are those that have no
    other tests with `-m "not quick"`."""
    chosen = config.option.markexpr
    if chosen not in ("quick", "not quick") or not collection_path.name.startswith("test_"):
        return None
    is_left_out = not is_quick(collection_path)
    if chosen == "not quick":
        marked = re.search(r"mark\.(heavy|story)", collection_path.read_text("utf-8"))
        is_left_out = not is_left_out and marked is None
    return True if is_left_out else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the quick tests, and put the longest files first; the others keep their order."""
    for item in items:
        marks = {mark.name for mark in item.iter_markers()}
        if is_quick(item.path) and not marks & {"heavy", "story"}:
            item.add_marker("quick")
    ranks = {TESTS / name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))
    gc.freeze()  # collections of garbage need not look at all of Paddle and of the tests


@pytest.fixture(scope="module", autouse=True)
def give_memory_back() -> Iterator[None]:
    """Let the next file of tests begin small: a training keeps what it frees, gigabytes here."""
    yield
    if psutil.Process().memory_info().rss < LARGE:
        return  # a collection takes a third of a second
    gc.collect()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc alone has it
        trim(0)


@pytest.fixture(scope="session")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Places for caches that do not exist yet."""
    folder = tmp_path_factory.mktemp("caches")
    return (folder / str(number) for number in itertools.count())


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """An empty folder that other users may enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder).resolve()


@pytest.fixture(autouse=True)
def own_cache(caches: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache for this test alone, and no proxy before the servers of this machine."""
    folder = next(caches)
    monkeypatch.setenv("PADDLEX_ML_CACHE", str(folder))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(fetch, "BACK_OFF", 0.001)
    return folder


@pytest.fixture(autouse=True)
def short_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what costs time: a trial of the export (tests/engines/train/test_preflight.py has
    it), curves (tests/pictures/test_plots.py; `toy_run`), and the disk, since no test cuts power.
    """
    draw: Any = lambda path, _: plots._save(plots.Figure((1, 1)), path)  # noqa: E731
    monkeypatch.setattr(train_run, "draw_curves", draw)
    monkeypatch.setattr(train_run.preflight, "try_export", lambda *_: None)
    monkeypatch.setattr(os, "fsync", lambda _: None)


class Site:
    """A server on the loopback interface that answers as it is told, and counts what it is asked.

    `site["/a"] = answers` sets what GET /a gets, one after the other; the last one is repeated.
    """

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.root = f"http://127.0.0.1:{server.server_port}"
        self.answers: dict[str, list[Callable[[BaseHTTPRequestHandler], None]]] = {}
        self.asked: list[dict[str, str]] = []
        self.over = Event()

    def __setitem__(self, path: str, answers: Any) -> None:
        answers = answers if isinstance(answers, list) else [answers]
        self.answers[path] = [self.reply(a) if isinstance(a, bytes) else a for a in answers]

    def url(self, path: str) -> str:
        return self.root + path

    def reply(
        self, body=b"", status=200, *,
        etag=None, ranges=False, claim=None, cut=None, pause=0, **headers,
    ):  # fmt: skip
        """Answer with `body`, announced as `claim` bytes, cut after `cut`, pausing after each."""

        def answer(asked: BaseHTTPRequestHandler) -> None:
            start, code = 0, status
            if ranges and "Range" in asked.headers and asked.headers["If-Range"] in (etag, None):
                start, code = int(asked.headers["Range"][6:-1]), 206
            asked.send_response(code)
            if code == 206:
                content_range = f"bytes {start}-{len(body) - 1}/{len(body)}"
                asked.send_header("Content-Range", content_range)
            if etag:
                asked.send_header("ETag", etag)
            if claim != "unknown":
                asked.send_header("Content-Length", str(claim or len(body) - start))
            for name, value in headers.items():
                asked.send_header(name.replace("_", "-"), value)
            asked.end_headers()
            rest = body[start:cut]
            for at in range(0, len(rest), 1 if pause else 2**20):
                asked.wfile.write(rest[at : at + (1 if pause else 2**20)])
                self.over.wait(pause)

        return answer


@pytest.fixture
def site() -> Iterator[Site]:
    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known.asked.append({"path": self.path, **self.headers})
            answers = known.answers.get(self.path) or [known.reply(b"nothing", 404)]
            with suppress(OSError):  # the client has left
                (answers.pop(0) if len(answers) > 1 else answers[0])(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        known = Site(server)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield known
        known.over.set()
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference data and photographs, which the project's CI has beside the checkout."""
    if not (SHARED / "reference" / "refdata.py").is_file():
        pytest.skip(f"needs the reference data in {SHARED}, which a user's machine does not have")
    return SHARED


@pytest.fixture(scope="session")
def refdata(shared: Path) -> ModuleType:
    """Reader of the reference data: load_json, load_npz, fill_layer, make_batch, make_targets."""
    spec = importlib.util.spec_from_file_location("refdata", shared / "reference" / "refdata.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def plant(tmp_path: Path) -> Callable[..., Path]:
    """Makes a data set folder of texts or bytes by path, and of images, which are empty files."""

    def make(files: Mapping[str, str | bytes], *images: str) -> Path:
        root = tmp_path / "set"
        root.mkdir(exist_ok=True)
        for path, content in {**files, **dict.fromkeys(images, "")}.items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.encode() if isinstance(content, str) else content)
        return root

    return make


@pytest.fixture(scope="session")
def draw_set() -> Callable[..., Path]:
    """Draws a data set of three classes into a folder: the colours that an image contains."""

    def draw(root: Path, train: int = 24, val: int = 12) -> Path:
        rng = np.random.default_rng(0)
        annotation.write_labels(root / "label.txt", ["red", "green", "blue"])
        (root / "images").mkdir()
        for name, count in (("train", train), ("val", val)):
            targets = rng.integers(0, 2, (count, 3)).astype(np.uint8)
            targets[0] = 1
            paths = [f"images/{name}_{i}.png" for i in range(count)]
            for path, row in zip(paths, targets, strict=True):
                pixels = rng.integers(0, 60, (40, 48, 3)) + 150 * row
                Image.fromarray(pixels.astype(np.uint8)).save(root / path)
            annotation.write_list(root / f"{name}.txt", paths, targets)
        return root

    return draw


@pytest.fixture(scope="session")
def toy(draw_set: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 + 12 tiny images of three classes. Look, do not touch: all tests share it."""
    return draw_set(tmp_path_factory.mktemp("toy") / "set")


@pytest.fixture(scope="session")
def command() -> Callable[..., list[str]]:
    """Arguments of a run that takes seconds; later overrides win."""

    def write(mode: str, data: Path | None, output: Path, *overrides: str) -> list[str]:
        keys = [f"Global.mode={mode}", f"Global.output={output}", "Global.device=cpu"]
        keys += [f"Global.dataset_dir={data}"] if data else []
        keys += ["Train.image_size=32", "Train.batch_size=8", "Train.epochs_iters=2"]
        keys += ["Train.num_workers=0", "Train.warmup_steps=0.5"]
        # Not the shipped values: tests must not depend on what those are today.
        keys += ["Train.learning_rate=1e-4", "Train.ema_decay=0.9997", "Train.weight_decay=1e-4"]
        keys += ["Train.head_lr_mult=0.5", "Train.pretrain_weight_path=null"]
        keys += ["Train.loss.gamma_neg=4", "Train.loss.clip=0.05"]
        keys += ["Train.augment.cutout=0.5", "Train.augment.randaugment=true"]
        keys += ["Train.augment.flip=false", *overrides]
        return ["-c", "PP-LCNet_x1_0_ML", "-o", *keys]

    return write


@pytest.fixture(scope="session")
def start_weights(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights whose batch norms know the statistics of `toy`.

    Without them all scores of a network that made only six steps are equal but for rounding.
    """
    import paddle  # here: it takes seconds, which most tests do not need

    from paddlex_ml.artifacts import weights
    from paddlex_ml.data.preprocess import standard
    from paddlex_ml.data.transforms import read_image
    from paddlex_ml.models import zoo

    paddle.seed(1)  # the best of the two epochs of `toy_run` is the first, averaged
    with small_models():
        model = zoo.build("PP-LCNet_x1_0_ML", 3)
    for layer in model.sublayers():
        if isinstance(layer, paddle.nn.BatchNorm2D):
            layer._momentum = 0.0
    train = annotation.read(toy).train
    images = [standard(32)(read_image(train.path(i))) for i in range(len(train))]
    model.train()
    with paddle.no_grad():
        model(paddle.to_tensor(np.stack(images)))
    path = tmp_path_factory.mktemp("start") / "start.pdparams"
    path.write_bytes(pickle.dumps(weights.to_arrays(model.state_dict())))
    return path


@pytest.fixture(scope="session")
def toy_run(
    toy: Path,
    start_weights: Path,
    command: Callable[..., list[str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Output folder of two epochs on `toy`. Look, do not touch: all tests share it."""
    output = tmp_path_factory.mktemp("toy_run") / "output"
    start = f"Train.pretrain_weight_path={start_weights}"
    with small_models():
        assert cli.main(command("train", toy, output, start)) == 0
    return output


@pytest.fixture
def copy_of_run(toy_run: Path, tmp_path: Path) -> Path:
    """Output folder of `toy_run` to do with as one likes, but for writing INTO a file."""
    # Links, not copies of 600 MB: what the toolkit changes, it replaces. Its log alone grows.
    ignored = shutil.ignore_patterns("train.log")
    return shutil.copytree(toy_run, tmp_path / "run", copy_function=os.link, ignore=ignored)


@pytest.fixture
def run(
    command: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Runs one command in this process: exit code and stderr."""

    def call(mode: str, data: Path | None, output: Path, *overrides: str) -> tuple[int, str]:
        capsys.readouterr()
        code = cli.main(command(mode, data, output, *overrides))
        return code, capsys.readouterr().err

    return call


@pytest.fixture(scope="session")
def numbers() -> Callable[[Path], list[dict[str, str]]]:
    """Rows of a run's metrics.csv without the speed, which is another each time."""

    def read(output: Path) -> list[dict[str, str]]:
        with (output / "metrics.csv").open(encoding="utf-8") as file:
            return [
                {key: row[key] for key in ("epoch", "lr", "loss", "raw_map", "ema_map")}
                for row in csv.DictReader(file)
            ]

    return read


@pytest.fixture(scope="session")
def assert_same_ending(
    numbers: Callable[[Path], list[dict[str, str]]],
) -> Callable[[Path, Path], None]:
    """Compares two output folders: numbers, best model and latest weights, bit for bit."""

    def compare(found: Path, expected: Path) -> None:
        assert numbers(found) == numbers(expected)
        results = (json.loads((f / "train_result.json").read_text()) for f in (found, expected))
        assert len({json.dumps(result["models"]["best"]) for result in results}) == 1
        for name in ("best_model/best_model", "latest/latest"):
            for part in ("pdparams", "pdema"):
                ours, theirs = (
                    pickle.loads((folder / f"{name}.{part}").read_bytes())
                    for folder in (found, expected)
                )
                assert ours.keys() == theirs.keys()
                differ = [k for k in ours if not np.array_equal(ours[k], theirs[k])]
                assert {k: np.max(np.abs(ours[k] - theirs[k])) for k in differ} == {}, name + part

    return compare


@pytest.fixture(params=["in one step", "in two renames"])
def way_to_swap(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How two folders swap their names: as Linux can, and as other systems and disks do."""
    if request.param == "in two renames":
        nothing = SimpleNamespace(renameat2=lambda *_: -1)
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: nothing)
    return str(request.param)


@pytest.fixture
def kill_at_every_step(
    tmp_path: Path,
) -> Callable[[Callable[[Path], object], Callable[[Path], object]], list[Path]]:
    """Runs `act` on as many folders as it has steps, each made by `prepare`, and kills it (SIGKILL)
    before another one of its steps each time: opening a file to write, half of its bytes, rename,
    removal, new folder. Returns the folders in the order of the steps; the last is not killed.
    """
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")

    def run(prepare: Callable[[Path], object], act: Callable[[Path], object]) -> list[Path]:
        roots: list[Path] = []
        while True:
            root = tmp_path / f"step_{len(roots) + 1}"
            root.mkdir()
            prepare(root)
            roots.append(root)
            if _killed_before(len(roots), partial(act, root)) == 0:
                return roots

    return run


def _killed_before(step: int, act: Callable[[], object]) -> int:
    """Run `act` in a forked process that kills itself before a step; return its wait status."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fork among threads: the child touches files alone
        child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    done = itertools.count(1)

    def tick() -> None:
        if next(done) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[2], int):
            if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                tick()
        elif event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.chmod"):
            tick()

    def halve(path: Path, content: bytes) -> int:
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
            file.flush()
            tick()
            return file.write(content[len(content) // 2 :])

    sys.addaudithook(watch)
    Path.write_bytes = halve  # type: ignore[assignment,method-assign]
    try:
        act()
    except BaseException:  # the parent sees that it was no kill
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
