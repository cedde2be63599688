# SPDX-License-Identifier: Apache-2.0
"""Machines and containers that are set up in odd ways: every command works there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from paddlex_ml.artifacts import checkpoint
from tests.running import ENVIRONMENT, run

Command = Callable[..., list[str]]

ALL = """
import json, sys
from tests.small_main import SmallModels
sys.meta_path.insert(0, SmallModels())
from paddlex_ml import cli
if __name__ == "__main__":
    for arguments in json.load(open(sys.argv[1])):
        code = cli.main(arguments)
        assert code == 0, (code, arguments)
"""


@pytest.fixture
def run_all(tmp_path: Path) -> Callable[..., str]:
    """Runs several commands, with small models, in one process with these variables, None: without
    them; returns what it said."""

    def run(commands: list[list[str]], folder: Path, **variables: str | None) -> str:
        script, listed = tmp_path / "all.py", tmp_path / "all.json"
        script.write_text(ALL)
        listed.write_text(json.dumps(commands))
        places = {**ENVIRONMENT, "PYTHONPATH": str(Path(__file__).parents[1]), **variables}
        done = subprocess.run(
            [sys.executable, str(script), str(listed)],
            cwd=folder,
            env={name: value for name, value in places.items() if value is not None},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr

    return run


NETWORK_DISK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int there(int folder, const char *name) {  /* whether a path leads into the disk */
    char link[64], path[PATH_MAX];
    if (strstr(name, "/disk/")) return 1;
    if (name[0] == '/') return 0;
    snprintf(link, sizeof link, folder == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", folder);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    return strstr(path, "/disk/") != NULL;
}
#define REFUSE(number) do { errno = number; return -1; } while (0)
#define REAL(name) ((int (*)())dlsym(RTLD_NEXT, #name))

int fsync(int file) { return there(file, "") ? ({ errno = EINVAL; -1; }) : REAL(fsync)(file); }
int chmod(const char *p, mode_t m) {
    if (there(AT_FDCWD, p)) REFUSE(EPERM);
    return REAL(chmod)(p, m);
}
int fchmodat(int d, const char *p, mode_t m, int f) {
    if (there(d, p)) REFUSE(EPERM);
    return REAL(fchmodat)(d, p, m, f);
}
int link(const char *a, const char *b) {
    if (there(AT_FDCWD, b)) REFUSE(EPERM);
    return REAL(link)(a, b);
}
int linkat(int d, const char *a, int e, const char *b, int f) {
    if (there(e, b)) REFUSE(EPERM);
    return REAL(linkat)(d, a, e, b, f);
}
int rmdir(const char *p) {
    if (there(AT_FDCWD, p)) REFUSE(ENOTEMPTY);
    return REAL(rmdir)(p);
}
int unlinkat(int d, const char *p, int f) {
    if ((f & AT_REMOVEDIR) && there(d, p)) REFUSE(ENOTEMPTY);
    return REAL(unlinkat)(d, p, f);
}
int renameat2(int a, const char *p, int b, const char *q, unsigned f) {
    if (there(b, q)) REFUSE(EINVAL);
    return REAL(renameat2)(a, p, b, q, f);
}
"""


NO_SUCH_USER = r"""
#include <pwd.h>
#include <stddef.h>

struct passwd *getpwuid(uid_t user) { return NULL; }
int getpwuid_r(uid_t user, struct passwd *p, char *text, size_t length, struct passwd **found) {
    *found = NULL;
    return 0;
}
"""


@pytest.fixture
def preload(tmp_path: Path) -> Callable[[str], str]:
    """Compiles functions in C that take the place of the system's; returns LD_PRELOAD for them."""

    def compile_library(source: str) -> str:
        compiler = shutil.which("gcc")
        if sys.platform != "linux" or compiler is None:
            pytest.skip("needs gcc on Linux")
        library = tmp_path / "shim.so"
        written = library.with_suffix(".c")
        written.write_text(source)
        arguments = [compiler, "-w", "-shared", "-fPIC", "-o", str(library), str(written)]
        subprocess.run([*arguments, "-ldl"], check=True)
        return str(library)

    return compile_library


@pytest.mark.story
def test_a_disk_without_links_permissions_and_sync_is_told_once_and_serves(
    run_all: Callable[..., str],
    preload: Callable[[str], str],
    toy: Path,
    command: Command,
    tmp_path: Path,
) -> None:
    """Folders named `disk` lack what disks of networks may lack."""
    output = tmp_path / "disk" / "out"
    epochs = "Train.epochs_iters="
    said = run_all(
        [
            command("train", toy, output, f"{epochs}1"),
            command("train", toy, output, f"{epochs}2", "Train.resume_path=auto"),
            command("train", toy, output, f"{epochs}1", "Global.overwrite=true"),
            command("export", toy, output),
        ],
        tmp_path,
        LD_PRELOAD=preload(NETWORK_DISK),
    )
    told = [line for line in said.splitlines() if "the disk does not support it" in line]
    for step in ("a power cut may lose", "files are copied", "empty folders stay"):
        assert sum(step in line for line in told) == 1, said
    assert len(told) == len({line.partition("so ")[2].partition(":")[0] for line in told})
    for name in ("latest", "best_model", "epoch_1"):
        assert checkpoint.load(output / name).progress["epoch"] == 1
    assert sorted(os.listdir(output / "best_model" / "inference")) == [
        *("inference.json", "inference.pdiparams", "inference.yml")
    ]
    left = [path for path in tmp_path.joinpath("disk").rglob("*") if "epoch_2" in path.name]
    assert [path for path in left if path.is_file()] == []


@pytest.mark.story
@pytest.mark.heavy
def test_no_home_a_long_temporary_folder_and_the_working_folder_as_output(
    run_all: Callable[..., str], toy: Path, command: Command, tmp_path: Path
) -> None:
    long, work = tmp_path / ("t" * 138), tmp_path / "work"
    long.mkdir()
    work.mkdir()
    here = Path()
    said = run_all(
        [
            command("check_dataset", toy, here),
            command("train", toy, here, "Train.num_workers=1", "Train.epochs_iters=1"),
            command("evaluate", toy, here, "Train.num_workers=1"),
            command("export", toy, here),
            command("predict", None, here, f"Predict.input={toy}/images/val_0.png"),
        ],
        work,
        HOME=os.devnull,
        XDG_CACHE_HOME="",
        PADDLEX_ML_CACHE="",
        TMPDIR=str(long),
    )
    assert "process is slower" not in said
    assert "cannot be kept" not in said
    assert "atplotlib" not in said  # its warning about a folder of its own
    for mode in ("check_dataset", "train", "evaluate", "export", "predict"):
        assert json.loads((work / f"{mode}_result.json").read_text())["done_flag"]
    assert not (work / "~").exists()
    assert sorted(os.listdir(work / "best_model" / "inference")) == [
        *("inference.json", "inference.pdiparams", "inference.yml")
    ]


@pytest.mark.story
@pytest.mark.heavy
def test_a_user_that_the_system_does_not_know_and_without_a_home(
    run_all: Callable[..., str],
    preload: Callable[[str], str],
    toy: Path,
    command: Command,
    tmp_path: Path,
) -> None:
    """As in a container that runs under any number: PADDLEX_ML_CACHE is all that is set."""
    data, output = tmp_path / "data", tmp_path / "out"
    shutil.copytree(toy, data)
    division = [f"CheckDataset.split.{list_}_percent=50" for list_ in ("train", "val")]
    said = run_all(
        [
            command("check_dataset", data, output, "CheckDataset.split.enable=true", *division),
            command("train", data, output, "Train.epochs_iters=1"),
            command("evaluate", data, output),
            command("export", data, output, "Export.format=onnx"),
            command("predict", None, output, f"Predict.input={toy}/images/val_0.png"),
        ],
        tmp_path,
        HOME=None,
        XDG_CACHE_HOME=None,
        XDG_STATE_HOME=None,
        LD_PRELOAD=preload(NO_SUCH_USER),
        PADDLEX_ML_CACHE=str(tmp_path / "cache"),
    )
    assert "process is slower" not in said
    assert "cannot be kept" not in said
    assert "atplotlib" not in said
    for mode in ("check_dataset", "train", "evaluate", "export", "predict"):
        assert json.loads((output / f"{mode}_result.json").read_text())["done_flag"]
    assert not (tmp_path / "~").exists()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 cannot leave it out")
def test_modules_in_the_working_folder_do_not_run(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENVIRONMENT, "WITH_NUMBA", "1")
    names = ("multiprocessing", "signal", "socket", "random", "numpy", "paddle", "PIL", "numba")
    for name in names:
        (tmp_path / f"{name}.py").write_text(f"open('ran_{name}', 'w'); raise ImportError('no')")
    keys = [f"Global.dataset_dir={toy}", "Train.epochs_iters=1", "Train.num_workers=1"]
    keys += ["Train.pretrain_weight_path=null", "Train.batch_size=4", "Global.device=cpu:0,1"]
    keys += ["Train.image_size=64"]
    for mode in ("check_dataset", "train"):
        overrides = [word for key in (f"Global.mode={mode}", *keys) for word in ("-o", key)]
        done = run("-c", "PP-LCNet_x1_0_ML", *overrides, folder=tmp_path)
        assert done.returncode == 0, done.stderr
    assert not list(tmp_path.glob("ran_*"))
