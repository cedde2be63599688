# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import io
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.progress import ignore_progress
from paddlex_ml.storage import archives
from paddlex_ml.storage.archives import Archive

CONTENT = bytes(range(256)) * 20
WHOLE = {"set/photos/a.jpg": CONTENT, "set/photos/b.jpg": b"b", "set/notes.txt": b"notes"}


def make_zip(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        if "set" not in files:
            archive.writestr("set/", b"")
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def make_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        folder = tarfile.TarInfo("set")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


MAKERS: dict[str, Callable[[Path, dict[str, bytes]], Path]] = {"zip": make_zip, "tar": make_tar}


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest, tmp_path: Path):
    return lambda files: MAKERS[request.param](tmp_path / f"a.{request.param}", files)


def unpack(archive: Path, pattern: str = "*.jpg", inside: str = "photos") -> list[str]:
    target = archive.parent / "out"
    archives.unpack(archive, inside, pattern, target, ignore_progress)
    return sorted(path.relative_to(target).as_posix() for path in target.rglob("*"))


def refusal(archive: Path) -> str:
    with pytest.raises(PaddlexMLError) as caught:
        unpack(archive)
    assert str(archive) in str(caught.value)
    return str(caught.value)


def test_the_wanted_files_of_a_folder_come_out_alone(make) -> None:
    archive = make(WHOLE)
    assert unpack(archive) == ["a.jpg", "b.jpg"]
    assert (archive.parent / "out" / "a.jpg").read_bytes() == CONTENT


def test_a_folder_of_another_name_that_ends_alike_is_left(make) -> None:
    archive = make({**WHOLE, "set/myphotos/c.jpg": b"c", "photos/deep/d.jpg": b"d"})
    assert unpack(archive) == ["a.jpg", "b.jpg"]


def test_progress_counts_files(make) -> None:
    archive, calls = make(WHOLE), []
    done = lambda *counts: calls.append(counts)  # noqa: E731
    assert archives.unpack(archive, "photos", "*", archive.parent / "out", done) == 2
    assert calls == [(1, 2), (2, 2)]


def test_an_archive_without_them_is_refused(make) -> None:
    assert "it holds no photos/*.jpg" in refusal(make({"set/photos/a.png": b""}))


@pytest.mark.parametrize(
    "name", ["../evil.jpg", "/evil.jpg", "set/../../evil.jpg", "..\\evil.jpg", "C:/evil.jpg"]
)
def test_a_member_that_leads_outside_spoils_the_archive(make, name: str) -> None:
    archive = make({**WHOLE, name: b"evil"})
    assert "leads out of the folder" in refusal(archive)
    assert not (archive.parent / "out").exists()


def test_a_member_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", WHOLE)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("set/photos/a.jpg", b"another")
    assert "its entry 'set/photos/a.jpg' is there twice" in refusal(path)


def test_a_name_that_comes_from_two_folders_is_refused(make) -> None:
    archive = make({**WHOLE, "other/photos/a.jpg": b"another"})
    assert "the file of its entry 'other/photos/a.jpg' exists already" in refusal(archive)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_a_tar_with_a_link_or_a_device_is_refused(tmp_path: Path, kind: bytes) -> None:
    path = make_tar(tmp_path / "a.tar", WHOLE)
    with tarfile.open(path, "a") as archive:
        info = tarfile.TarInfo("set/photos/c.jpg")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    assert "is a link or another special file" in refusal(path)


def test_a_zip_with_a_link_is_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", WHOLE)
    info = zipfile.ZipInfo("set/photos/c.jpg")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(info, "/etc/passwd")
    assert "is a link or another special file" in refusal(path)


def test_a_zip_with_a_password_is_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", WHOLE)
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 1)  # entry of a.jpg
    content[at + 8] |= 1
    path.write_bytes(content)
    assert "has a password" in refusal(path)


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("size", [0, 1, 100, 600, 3000, -1, -30])
def test_a_truncated_archive_is_refused(tmp_path: Path, kind: str, size: int) -> None:
    path = MAKERS[kind](tmp_path / f"a.{kind}", {"set/photos/a.jpg": CONTENT})
    if kind == "tar":  # without the padding, which nobody misses
        path.write_bytes(path.read_bytes()[: 512 + 512 + len(CONTENT)])
    path.write_bytes(path.read_bytes()[:size])
    message = refusal(path)
    assert "a damaged one" in message or "it holds no photos" in message


def test_a_tar_whose_middle_cannot_be_read_is_refused(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tar", {"photos/a.jpg": b"a", "photos/b.jpg": b"b"})
    content = bytearray(path.read_bytes())
    begin = content.index(b"photos/b.jpg", 512)
    content[begin + 148 : begin + 156] = b"x" * 8  # the checksum of its header
    path.write_bytes(content)
    assert f"the entry at byte {begin:,} cannot be read" in refusal(path)


def test_a_tar_whose_last_entry_is_left_out_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by Python 3.13.5, which takes an entry of negative size for the end of the archive."""
    block = tarfile.TarInfo._block  # type: ignore[attr-defined]

    def refuse(entry: tarfile.TarInfo, count: int) -> Any:
        if count < 0:
            raise tarfile.InvalidHeaderError("invalid offset")  # type: ignore[attr-defined]
        return block(entry, count)

    path, last = tmp_path / "a.tar", tarfile.TarInfo("photos/b.jpg")
    last.pax_headers = {"size": "-1024"}
    with tarfile.open(path, "w") as tar:
        tar.addfile(tarfile.TarInfo("photos/a.jpg"))
        tar.addfile(last)
    monkeypatch.setattr(tarfile.TarInfo, "_block", refuse)
    with tarfile.open(path) as tar:
        assert tar.getnames() == ["photos/a.jpg"]
    assert "the entry at byte 512 cannot be read" in refusal(path)


def test_a_tar_without_blocks_of_zeros_at_its_end_is_whole(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "a.tar", {"photos/a.jpg": b"a"})
    path.write_bytes(path.read_bytes().rstrip(b"\0").ljust(3 * 512, b"\0"))
    with archives.opened(path) as (members, _):
        assert [member.name for member in members] == ["photos/a.jpg"]


def test_damaged_content_is_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", WHOLE)
    content = path.read_bytes()
    path.write_bytes(content.replace(CONTENT[:64], bytes(64), 1))
    assert "Bad CRC-32" in refusal(path)


def test_a_compressed_zip_is_read_and_a_compressed_tar_is_not(tmp_path: Path) -> None:
    assert unpack(make_zip(tmp_path / "a.zip", WHOLE, zipfile.ZIP_DEFLATED)) == ["a.jpg", "b.jpg"]
    assert "a damaged one" in refusal(make_tar(tmp_path / "a.tar.gz", WHOLE, "w:gz"))


def test_any_damage_is_an_error_that_names_the_archive(tmp_path: Path) -> None:
    for kind, maker in MAKERS.items():
        path = maker(tmp_path / f"a.{kind}", WHOLE)
        sound = path.read_bytes()
        for at in range(0, len(sound), 7 if kind == "zip" else 29):
            path.write_bytes(sound[:at] + bytes([sound[at] ^ 0x55]) + sound[at + 1 :])
            target = tmp_path / f"{kind}{at}"
            try:
                archives.unpack(path, "photos", "*.jpg", target, ignore_progress)
            except PaddlexMLError as error:
                message = str(error)
                assert str(path) in message


def test_what_the_disk_cannot_hold_is_refused_before_the_first_file(
    make, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = make({**WHOLE, "set/photos/c.jpg": bytes(30)})
    full = type("Usage", (), {"free": 5100})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    assert "the disk has 0.0 GB left" in refusal(archive)
    assert list((archive.parent / "out").iterdir()) == []


# Finding


@pytest.fixture
def published(tmp_path: Path) -> Archive:
    path = make_tar(tmp_path / "set.tar", WHOLE)
    digest = hashlib.md5(path.read_bytes()).hexdigest()
    size = path.stat().st_size
    return Archive("set.tar", "https://example.org/set.tar", "--my-set", size, digest)


def locate(archive: Archive, given=None, folder=None, any_size=False) -> Path:
    return archives.locate(archive, given, folder, any_size=any_size)


def trouble(archive: Archive, given=None, folder=None) -> str:
    with pytest.raises(PaddlexMLError) as caught:
        locate(archive, given, folder)
    return str(caught.value)


def test_an_archive_is_found_by_its_path_or_in_a_folder(published: Archive, tmp_path: Path) -> None:
    assert published.key == "my_set"
    assert locate(published, folder=tmp_path) == tmp_path / "set.tar"
    other = (tmp_path / "set.tar").rename(tmp_path / "other.tar")
    assert locate(published, str(other), tmp_path) == other


def test_an_archive_that_is_not_given_tells_three_ways(published: Archive, tmp_path: Path) -> None:
    message = trouble(published)
    assert "the archive set.tar is not given" in message
    assert "--my-set FILE, or --archives with the folder that holds set.tar" in message
    assert "--my-set https://example.org/set.tar to fetch it" in message
    assert "does not exist" in trouble(published, folder=tmp_path / "none")
    assert "is not a file" in trouble(published, str(tmp_path))


def test_another_size_is_refused_with_both_numbers(published: Archive, tmp_path: Path) -> None:
    path = tmp_path / "set.tar"
    path.write_bytes(path.read_bytes()[:5000])
    message = trouble(published, folder=tmp_path)
    assert "set.tar has 5,000 bytes, the published one 10,240" in message
    assert "--any-size" in message
    assert locate(published, folder=tmp_path, any_size=True) == path


def test_another_content_of_the_same_size_is_refused(published: Archive, tmp_path: Path) -> None:
    path = tmp_path / "set.tar"
    path.write_bytes(bytes(10240))
    message = trouble(published, folder=tmp_path)
    assert f"the published one {published.md5}" in message
    assert locate(published, folder=tmp_path, any_size=True) == path


def test_a_url_is_fetched_once_and_checked(
    published: Archive, tmp_path: Path, site, own_cache: Path
) -> None:
    site["/a/set.tar"] = (tmp_path / "set.tar").read_bytes()
    site["/b/set.tar"] = b"something else"
    path = locate(published, site.url("/a/set.tar"))
    assert path.is_relative_to(own_cache)
    assert locate(published, site.url("/a/set.tar")) == path
    assert len(site.asked) == 1
    message = trouble(published, site.url("/b/set.tar"))
    assert "set.tar has 14 bytes, the published one 10,240" in message
    assert "--my-set FILE" in message


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_thousands_of_headers_in_a_row_are_an_error(tmp_path: Path, kind: bytes) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, 11
    path = tmp_path / "many.tar"
    path.write_bytes((header.tobuf() + b"11 path=aa\n".ljust(512, b"\0")) * 5000 + bytes(1024))
    with pytest.raises(PaddlexMLError, match="the archive cannot be used"), archives.opened(path):
        pass


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "pipe.tar"
    os.mkfifo(path)
    with pytest.raises(PaddlexMLError, match="a named pipe"), archives.opened(path):
        pass


def test_entries_that_choose_their_own_memory_are_refused(tmp_path: Path) -> None:
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
        assert unpack(make_zip(tmp_path / "a.zip", WHOLE, method)) == ["a.jpg", "b.jpg"]
        shutil.rmtree(tmp_path / "out")
    message = refusal(make_zip(tmp_path / "a.zip", WHOLE, zipfile.ZIP_LZMA))
    assert "compressed in a way other than deflate and bzip2" in message


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_damage_of_each_method_is_told(tmp_path: Path, method: int) -> None:
    path = make_zip(tmp_path / "a.zip", WHOLE, method)
    at = path.read_bytes().find(b"photos/a.jpg") + 20
    path.write_bytes(path.read_bytes()[:at] + b"\xff" * 20 + path.read_bytes()[at + 20 :])
    assert "not a zip or tar archive, or a damaged one" in refusal(path)


def test_an_entry_without_a_name_is_told(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"*": b"1"})
    path.write_bytes(path.read_bytes().replace(b"*", b"\0"))  # a name ends there
    assert "the archive cannot be used" in refusal(path)


def test_a_zip_with_a_table_of_many_entries_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_zip(tmp_path / "a.zip", {f"set/photos/{n}.jpg": b"" for n in range(100)})
    assert len(unpack(path)) == 100
    content = bytearray(path.read_bytes())
    end = content.rindex(b"PK\5\6")
    content[end + 8 : end + 12] = b"\1\0\1\0"  # the number of entries is a lie
    path.write_bytes(content)
    monkeypatch.setattr(archives, "LARGEST_DIRECTORY", 5000)
    read: list[object] = []
    monkeypatch.setattr(zipfile, "ZipFile", lambda *given: read.append(given))
    assert "the table of its entries has 6,340 bytes, at most 5,000 are read" in refusal(path)
    assert read == []


def test_the_table_of_a_large_zip_is_looked_up_where_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 10)  # from here on another end is written
    path = make_zip(tmp_path / "a.zip", {f"set/photos/{n}.jpg": b"" for n in range(20)})
    assert b"PK\6\7" in path.read_bytes()
    assert len(unpack(path)) == 20
    content = bytearray(path.read_bytes())
    end = content.rindex(b"PK\5\6")
    content[end + 12 : end + 16] = b"\xff" * 4
    large = content.rindex(b"PK\6\6")
    content[large + 40 : large + 48] = (1 << 40).to_bytes(8, "little")
    path.write_bytes(content)
    assert "has 1,099,511,627,776 bytes, at most 67,108,864 are read" in refusal(path)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_tar_header_of_gigabytes_is_not_read(tmp_path: Path, kind: bytes) -> None:
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = kind, 4 << 30
    path = make_tar(tmp_path / "a.tar", WHOLE)
    with path.open("r+b") as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        file.truncate(5 << 30)  # sparse: it takes no room
    assert "a header of 4,294,967,296 bytes, at most 1,048,576 are read" in refusal(path)
