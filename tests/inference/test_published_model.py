# SPDX-License-Identifier: Apache-2.0
"""Archives of static models: honest, broken and malicious ones."""

from __future__ import annotations

import errno
import io
import os
import shutil
import tarfile
import zipfile
from typing import Any

import pytest

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference import published_model
from paddlex_ml.storage import cache

FILES = ("inference.json", "inference.pdiparams", "inference.yml")
SPECIAL = "is a link or another special file"
FIX = "-o Predict.model_dir=null"


def entry(name: str, kind: bytes = tarfile.REGTYPE, **more) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    for key, value in more.items():
        setattr(member, key, value)
    return member


def pack(*more: tarfile.TarInfo, folder: str = "M_infer/", files=FILES, mode: Any = "w") -> bytes:
    """A tar of empty files but for inference.yml, with more entries behind."""
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode=mode) as tar:
        for name in files:
            content = b"Global: {}\n" if name.endswith(".yml") else b""
            tar.addfile(entry(folder + name, size=len(content)), io.BytesIO(content))
        for member in more:
            tar.addfile(member)
    return memory.getvalue()


@pytest.fixture
def fetched(site):
    """Serves an archive and fetches the folder of its model."""

    def fetch(content: bytes):
        site["/M_infer.tar"] = content
        return published_model.fetch_folder(site.url("/M_infer.tar"), fix=FIX)

    return fetch


@pytest.mark.parametrize("folder", ["M_infer/", "./a/b/", "", "./"])
def test_the_model_is_unpacked_once_wherever_it_lies_in_the_archive(site, fetched, folder):
    content = pack(entry("M_infer", tarfile.DIRTYPE), entry("M_infer/README.md"), folder=folder)
    path = fetched(content)
    assert path == cache.beside(cache.path_for(site.url("/M_infer.tar")), ".unpacked")
    assert sorted(os.listdir(path)) == list(FILES)
    assert (path / "inference.yml").read_text() == "Global: {}\n"
    before = (path / "inference.yml").stat().st_ino
    assert fetched(content) == path
    assert (path / "inference.yml").stat().st_ino == before
    assert len(site.asked) == 1


def test_permissions_and_owners_of_the_archive_stay_outside(fetched):
    names = FILES[:2]
    bad = entry("M_infer/inference.yml", mode=0o4777, uid=12345)
    path = fetched(pack(bad, files=names))
    status = (path / "inference.yml").stat()
    assert (status.st_mode & 0o7111, status.st_uid) == (0, os.getuid())


def test_an_archive_put_there_by_hand_replaces_what_was_unpacked(site, fetched):
    path = fetched(pack())
    by_hand = cache.path_for(site.url("/M_infer.tar"))
    by_hand.write_bytes(pack(files=("inference.pdmodel", *FILES[1:])))
    os.utime(by_hand, (1, 1))  # older, as copies with their dates are
    assert fetched(b"") == path
    assert sorted(os.listdir(path)) == ["inference.pdiparams", "inference.pdmodel", "inference.yml"]
    by_hand.with_name("other").write_bytes(pack())  # packed with dates that say nothing
    os.utime(by_hand.with_name("other"), (1, 1))
    by_hand.with_name("other").replace(by_hand)
    assert fetched(b"") == path
    assert sorted(os.listdir(path)) == list(FILES)
    assert len(site.asked) == 1


def test_what_a_kill_left_is_cleared_away(site, fetched):
    left = cache.beside(cache.path_for(site.url("/M_infer.tar")), ".unpacked.new")
    left.mkdir(parents=True)
    (left / "inference.yml").write_text("half")
    assert (fetched(pack()) / "inference.yml").read_text() == "Global: {}\n"
    assert not left.exists()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (entry("../inference.yml"), "'../inference.yml' leads out of the folder"),
        (entry("M_infer/../../inference.x"), "leads out of the folder"),
        (entry("/etc/inference.yml"), "'/etc/inference.yml' leads out of the folder"),
        (entry("..\\inference.yml"), "leads out of the folder"),
        (entry("C:inference.yml"), "leads out of the folder"),
        (
            entry("M_infer/inference.x", tarfile.SYMTYPE, linkname="/etc/passwd"),
            SPECIAL,
        ),
        (entry("README", tarfile.SYMTYPE, linkname="x"), SPECIAL),
        (
            entry("M_infer/inference.x", tarfile.LNKTYPE, linkname="/etc/passwd"),
            SPECIAL,
        ),
        (
            entry("M_infer/inference.x", tarfile.CHRTYPE, devmajor=1, devminor=3),
            SPECIAL,
        ),
        (entry("M_infer/inference.x", tarfile.BLKTYPE), SPECIAL),
        (entry("M_infer/inference.x", tarfile.FIFOTYPE), SPECIAL),
        (entry("M_infer/inference.yml"), "is there twice"),
        (entry("other/inference.yml"), "it holds 2 files inference.yml instead of one"),
        (entry("M_infer/bomb", pax_headers={"size": str(2**40)}), "larger than 4 GiB"),
        (entry("M_infer/bomb", pax_headers={"size": "-1024"}), "larger than 4 GiB|damaged"),
        (
            entry("M_infer/b", pax_headers={"GNU.sparse.size": "9", "GNU.sparse.map": "0,1"}),
            SPECIAL,
        ),
    ],
)
def test_a_malicious_archive_is_refused_whole_and_not_kept(site, fetched, bad, message):
    with pytest.raises(PaddlexMLError, match=message) as caught:
        fetched(pack(bad))
    url = site.url("/M_infer.tar")
    assert caught.value.where == url
    assert caught.value.fix.endswith(FIX)
    assert [p for p in cache.path_for(url).parent.iterdir() if p.suffix != ".lock"] == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pack(files=FILES[:2]), "it holds 0 files inference.yml instead of one"),
        (pack(files=FILES[2:]), "it holds only inference.yml"),
        (pack(mode="w:gz"), "not a plain tar archive, or a damaged one"),
        (pack()[:700], "not a plain tar archive, or a damaged one|it holds"),
        (b"", "not a plain tar archive, or a damaged one"),
        (b"<html>", "it is a web page"),
        (b"weights" * 1000, "not a plain tar archive, or a damaged one"),
    ],
)
def test_what_is_no_archive_of_a_model_is_refused_and_not_kept(site, fetched, content, message):
    with pytest.raises(PaddlexMLError, match=message):
        fetched(content)
    folder = cache.path_for(site.url("/M_infer.tar")).parent
    assert [p for p in folder.iterdir() if p.suffix != ".lock"] == []


def test_the_limit_counts_all_entries_together(fetched, monkeypatch):
    monkeypatch.setattr(published_model, "SIZE_LIMIT", 10)
    with pytest.raises(PaddlexMLError, match="unpacked it is larger than"):
        fetched(pack())


def test_a_full_disk_leaves_nothing_half_unpacked(site, fetched, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(PaddlexMLError, match="the cache cannot be used: No space left"):
        fetched(pack())
    path = cache.path_for(site.url("/M_infer.tar"))
    assert {p.name for p in path.parent.iterdir() if p.suffix != ".lock"} == {path.name}


def test_a_kill_at_every_step_leaves_the_old_model_or_the_new_one(
    kill_at_every_step, way_to_swap, monkeypatch
):
    url, graphs = "https://example.org/M_infer.tar", ("inference.pdmodel", "inference.json")

    def act(root):
        os.environ["PADDLEX_ML_CACHE"] = str(root)
        return published_model.fetch_folder(url, fix=FIX)

    def put(root, graph):
        os.environ["PADDLEX_ML_CACHE"] = str(root)
        path = cache.path_for(url)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pack(files=(graph, *FILES[1:])))
        os.utime(path, (1, graphs.index(graph)))

    def prepare(root):
        put(root, graphs[0])
        act(root)
        put(root, graphs[1])

    def listed(path):
        return sorted(os.listdir(path)) if path.is_dir() else []

    monkeypatch.setenv("PADDLEX_ML_CACHE", "")
    old, new = (sorted([graph, *FILES[1:]]) for graph in graphs)
    endings = []
    for root in kill_at_every_step(prepare, act):
        os.environ["PADDLEX_ML_CACHE"] = str(root)
        path = cache.path_for(url)
        unpacked = cache.beside(path, ".unpacked")
        endings.append(listed(unpacked))
        assert listed(act(root)) == new
        put(root, graphs[0])
        assert listed(act(root)) == old
        names = {name for name in os.listdir(unpacked.parent) if not name.endswith(".lock")}
        assert names == {f"{path.name}{end}" for end in ("", ".unpacked", ".unpacked.from")}
    assert endings.count([]) == (0 if way_to_swap == "in one step" else 1)
    assert [ending for ending in endings if ending not in (old, new, [])] == []
    assert (endings[0], endings[-1]) == (old, new)


def test_a_zip_is_refused(fetched):
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as file:
        for name in FILES:
            file.writestr(name, b"")
    with pytest.raises(PaddlexMLError, match="not a plain tar archive, or a damaged one"):
        fetched(memory.getvalue())
