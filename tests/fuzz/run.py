# SPDX-License-Identifier: Apache-2.0
"""Damaged bytes through readers, for a while: `python -m tests.fuzz.run weights --seconds 3600`.

A group of readers runs in a process of its own, so that a crash is found too. A finding is saved
into tests/fuzz/corpus/<reader>/, where `test_corpus.py` reads it from then on.
"""

from __future__ import annotations

import argparse
import faulthandler
import hashlib
import importlib
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.fuzz.harness import ROOT, SECONDS, WAITING, Reader, judge
from tests.fuzz.mutations import mutate

CORPUS = Path(__file__).resolve().parent / "corpus"
GROUPS = (
    *("formats", "lists", "settings", "weights", "archives", "answers", "run_folder", "images"),
    "graphs",
)
"""Modules `read_<group>` with READERS: what is alike shares its time."""
_SPARE = 4 << 30  # bytes of addresses: more than any budget, and less than would harm the machine
_HANGING = 2 * WAITING * SECONDS  # code in C that no signal interrupts
_SHRINKING = 20.0  # seconds for one finding
_BROKEN = 3
"""Exit code where the search itself fails."""
_POOL = 200  # inputs that were answered in a new way


class Finding(NamedTuple):
    """An input that is not answered as it must be."""

    path: Path
    fault: str

    def __str__(self) -> str:
        reader, name = self.path.parent.name, self.path.name
        return f"{self.fault}\n  repeat it: {sys.executable} -m tests.fuzz.run {reader}/{name}"


class Found(NamedTuple):
    """What a group did in its time."""

    executions: dict[str, int]
    """Reader -> inputs."""
    answers: dict[str, int]
    """Reader -> different answers."""
    findings: list[Finding]


def readers(group: str) -> list[Reader]:
    """The readers of a group. Imports what they need, Paddle for some."""
    found: list[Reader] = importlib.import_module(f"tests.fuzz.read_{group}").READERS
    return found


def findings(reader: Reader, corpus: Path = CORPUS) -> list[Path]:
    """The inputs that were once answered wrongly."""
    folder = corpus / reader.name
    return sorted(folder.iterdir()) if folder.is_dir() else []


def group_of(name: str) -> str:
    """The group that has a reader."""
    if name in GROUPS:
        return name
    return next(group for group in GROUPS if any(each.name == name for each in readers(group)))


def search(
    group: str, seconds: float, *, only: str = "", seed: int | None = None, corpus: Path = CORPUS
) -> Found:
    """Run the readers of a group, or one of them, in turn for so many seconds altogether."""
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=_find_memory()) as folder:
        places = {"HOME": "home", "PADDLEX_ML_CACHE": "cache", "XDG_STATE_HOME": "state"}
        environment = {
            **os.environ,
            **{name: str(Path(folder, "run", place)) for name, place in places.items()},
            "TMPDIR": str(Path(folder, "run", "tmp")),
            "MALLOC_ARENA_MAX": "2",
            "PYTHONPATH": str(ROOT),
        }
        Path(environment["TMPDIR"]).mkdir(parents=True)
        command = [sys.executable, "-m", "tests.fuzz.run", group, "--seconds", str(seconds)]
        command += ["--inside", folder, "--corpus", str(corpus), "--only", only]
        command += [] if seed is None else ["--seed", str(seed)]
        ended = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, errors="replace"
        )
        return _collect(Path(folder), ended, corpus)


def _find_memory() -> str | None:
    """A folder that is no disk, where there is one: an input is a few files that live shortly."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _collect(folder: Path, ended: subprocess.CompletedProcess[str], corpus: Path) -> Found:
    found = Found({}, {}, [])
    with suppress(FileNotFoundError):
        for line in (folder / "found.jsonl").read_text("utf-8").splitlines():
            entry = json.loads(line)
            if "path" in entry:
                found.findings.append(Finding(Path(entry["path"]), entry["fault"]))
            else:
                found.executions.update(entry["executions"])
                found.answers.update(entry["answers"])
    if ended.returncode:
        told = f"the process ended with {ended.returncode}\n{ended.stderr[-3000:]}"
        last = folder / "input"
        if ended.returncode == _BROKEN or not last.is_file():
            raise RuntimeError(told)
        name = (folder / "reader").read_text("utf-8")
        found.findings.append(Finding(_keep(name, last.read_bytes(), corpus), told))
    return found


def _keep(reader: str, content: bytes, corpus: Path) -> Path:
    path = corpus / reader / hashlib.sha256(content).hexdigest()[:12]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _search_inside(
    folder: Path, group: str, only: str, seconds: float, random: Random, corpus: Path
) -> None:
    chosen = [each for each in readers(group) if only in ("", each.name)]
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + _SPARE, resource.RLIM_INFINITY))
    warnings.simplefilter("ignore")
    os.fsync = lambda fd: None  # nobody cuts the power: waiting for the disk would take nearly all
    executions = dict.fromkeys((each.name for each in chosen), 0)
    answers: dict[str, int] = {}
    with (folder / "found.jsonl").open("w", encoding="utf-8") as log:
        share, start = seconds / len(chosen), random.random()
        for reader in chosen:
            seen: set[str] = set()
            own = Random(f"{start} {reader.name}")  # whatever the time of the others
            for content, fault in _try(reader, folder, share, own, corpus, seen):
                executions[reader.name] += 1
                if fault:
                    path = _keep(reader.name, content, corpus)
                    log.write(json.dumps({"path": str(path), "fault": fault}) + "\n")
                    log.flush()
            answers[reader.name] = len(seen)
        log.write(json.dumps({"executions": executions, "answers": answers}) + "\n")


def _try(
    reader: Reader, folder: Path, seconds: float, random: Random, corpus: Path, seen: set[str]
) -> Iterator[tuple[bytes, str]]:
    """Inputs and their faults, each fault once. An input with a new answer is a seed from then."""
    seeds = [*reader.seeds(), *(path.read_bytes() for path in findings(reader, corpus))]
    pool: list[bytes] = []
    known: set[str] = set()
    (folder / "reader").write_text(reader.name, "utf-8")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        start = random.choice(pool if pool and random.random() < 0.5 else seeds)
        content = mutate(start, random, seeds, reader.words)
        (folder / "input").write_bytes(content)
        faulthandler.dump_traceback_later(_HANGING, exit=True)
        outcome = judge(reader, content, folder / "run")
        if outcome.answer not in seen:
            seen.add(outcome.answer)
            if len(content) < 1 << 14:
                pool = [*pool, content][-_POOL:]
        place = _place_of(outcome.fault)
        if place in known or not place:
            yield content, ""
            continue
        known.add(place)
        yield _shrink(reader, content, place, folder / "run"), outcome.fault
    faulthandler.cancel_dump_traceback_later()


def _shrink(reader: Reader, content: bytes, place: str, folder: Path) -> bytes:
    """A part of the input that has the same fault, as small as `_SHRINKING` gives."""
    end, step = time.monotonic() + _SHRINKING, len(content) // 2
    while step and time.monotonic() < end:
        at = 0
        while at < len(content) and time.monotonic() < end:
            shorter = content[:at] + content[at + step :]
            faulthandler.dump_traceback_later(_HANGING, exit=True)
            if _place_of(judge(reader, shorter, folder).fault) == place:
                content = shorter
            else:
                at += step
        step //= 2
    return content


def _place_of(fault: str) -> str:
    """The same for faults of one cause: the last lines of our own code, and the exception."""
    frames = re.findall(r'File "[^"]*/paddlex_ml/([^"]+)", line (\d+)', fault)
    kind = re.sub(r"\d+", "_", fault.strip().rpartition("\n")[2].partition(":")[0])
    return f"{kind} {frames[-1:]}" if fault else ""


def repeat(path: Path) -> int:
    """Read one input of the corpus again, and tell its fault."""
    [reader] = [
        each for each in readers(group_of(path.parent.name)) if each.name == path.parent.name
    ]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        for name in ("PADDLEX_ML_CACHE", "XDG_STATE_HOME"):
            os.environ[name] = folder
        tempfile.tempdir = folder
        warnings.simplefilter("ignore")
        outcome = judge(reader, path.read_bytes(), Path(folder).resolve())
        os.chdir(ROOT)
    print(outcome.fault or f"no fault: {outcome.answer}")
    return 1 if outcome.fault else 0


def main(arguments: list[str] | None = None) -> int:
    """Search as the command line says. Returns 1 where something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=__doc__)
    parser.add_argument("names", nargs="*", default=[*GROUPS], help="groups, readers, or findings")
    parser.add_argument("--seconds", type=float, default=20, help="for each of them")
    parser.add_argument("--each", action="store_true", help="so long for each reader of a group")
    parser.add_argument("--seed", type=int, help="of the random numbers")
    parser.add_argument("--corpus", type=Path, default=CORPUS, help=argparse.SUPPRESS)
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--only", default="", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.inside:
        random = Random(given.seed)
        group = given.names[0]
        try:
            _search_inside(given.inside, group, given.only, given.seconds, random, given.corpus)
        except BaseException:
            traceback.print_exc()
            return _BROKEN
        return 0
    count = 0
    for name in given.names:
        if "/" in name:
            count += repeat(CORPUS / name)
            continue
        group = group_of(name)
        chosen = [each.name for each in readers(group)] if given.each and name == group else [name]
        for reader in chosen:
            only = "" if reader == group and not given.each else reader
            found = search(group, given.seconds, only=only, seed=given.seed)
            count += len(found.findings)
            for each, inputs in found.executions.items():
                print(f"{each:16}{inputs:9} inputs {found.answers[each]:6} answers", flush=True)
            for finding in found.findings:
                print(f"{finding.path.parent.name}: {finding}\n", flush=True)
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
