# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os
import tempfile
import threading
from pathlib import Path
from unicodedata import normalize

import platformdirs
import pytest

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import cache, temporary, user_folders


def test_the_variable_moves_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("PADDLEX_ML_CACHE", str(tmp_path / "else"))
    assert cache.path_for("https://a.org/m.tar") == tmp_path / "else" / "a.org" / "m.tar"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PADDLEX_ML_CACHE", "here")
    assert cache.folder() == tmp_path / "here"


def test_without_the_variable_it_is_the_users_own(monkeypatch):
    monkeypatch.delenv("PADDLEX_ML_CACHE")
    assert cache.folder() == Path(platformdirs.user_cache_dir()) / "paddlex_ml"


@pytest.fixture
def forgetful(monkeypatch, tmp_path):
    """The answers about folders that this process remembers are those of this test alone."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    known = (cache._in_temporary_folder, cache.is_usable, temporary.own_folder)
    for function in known:
        function.cache_clear()
    yield
    for function in known:
        function.cache_clear()


@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize("home", ["/dev/null", "/proc/nothing", None])
def test_without_a_home_that_can_be_written_it_is_in_the_temporary_folder(
    monkeypatch, tmp_path, caplog, home
):
    caplog.set_level("INFO")
    for variable in ("PADDLEX_ML_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    if home is None:  # the system does not know the user
        monkeypatch.setattr(user_folders, "find", lambda *_: None)
    else:
        monkeypatch.setenv("HOME", home)
    monkeypatch.chdir(tmp_path)
    found = cache.folder()
    assert found == tmp_path / f"paddlex_ml-{os.getuid()}" / ".cache" / "paddlex_ml"
    assert str(found) in caplog.text
    cache.path_for("https://a.org/m.tar").parent.mkdir(parents=True)
    assert not Path("~").exists()


@pytest.mark.usefixtures("forgetful")
def test_a_library_gets_a_folder_that_can_be_written(monkeypatch, tmp_path, own_cache):
    monkeypatch.setenv("A_CACHE", "of the user")
    cache.give_to_library("A_CACHE", "a")
    assert os.environ["A_CACHE"] == "of the user"
    monkeypatch.delenv("A_CACHE")
    cache.give_to_library("A_CACHE", "a", tmp_path / "usual")
    assert "A_CACHE" not in os.environ
    cache.give_to_library("A_CACHE", "a", tmp_path / "usual", Path(os.devnull, "usual"))
    assert os.environ["A_CACHE"] == str(own_cache / "a")
    monkeypatch.delenv("A_CACHE")
    monkeypatch.setenv("PADDLEX_ML_CACHE", f"{os.devnull}/cache")
    cache.give_to_library("A_CACHE", "a")
    assert Path(os.environ["A_CACHE"]) == tmp_path / f"paddlex_ml-{os.getuid()}/.cache/paddlex_ml/a"


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://a.org/x/m_infer.tar", "a.org/x/m_infer.tar"),
        ("http://A.org:8080/x/m.tar", "a.org+8080/x/m.tar"),
        ("https://me:secret@a.org/m.tar#part", "a.org/m.tar"),
        ("https://a.org/%E7%8C%AB.tar", "a.org/猫.tar"),
    ],
)
def test_a_plain_url_is_kept_under_its_own_words(url, place, own_cache):
    assert cache.path_for(url) == own_cache / place


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://a.org/X/m.tar", r"a.org/X/m-????????.tar"),
        ("https://a.org/x/M.tar", r"a.org/x/M-????????.tar"),
        ("https://a.org/m.tar?v=1", r"a.org/m-????????.tar"),
        ("https://a.org/", r"a.org/index-????????"),
        ("https://a.org", r"a.org/index-????????"),
        ("https://a.org/a b.tar", r"a.org/a_b-????????.tar"),
        ("https://a.org/../../m.tar", r"a.org/_/_/m-????????.tar"),
        ("https://a.org/%2e%2e/%2Fetc/m.tar", r"a.org/_/_etc/m-????????.tar"),
        ("https://a.org//m.tar", r"a.org/m-????????.tar"),
        ("https://a.org/m.part", r"a.org/m-????????.part"),
        ("https://[::1]/m.tar", r"__1/m-????????.tar"),
        ("https://a.org/con/m.tar", r"a.org/_/m-????????.tar"),
        ("https://a.org/NUL.tar", r"a.org/_-????????.tar"),
        ("https://a.org/com1", r"a.org/_-????????"),
        ("https://a.org/m.", r"a.org/m_-????????"),
        ("https://a.org/" + "m" * 300, "a.org/" + "m" * 70 + "-????????"),
    ],
)
def test_where_words_do_not_suffice_a_hash_tells_urls_apart(url, place, own_cache):
    assert cache.path_for(url).relative_to(own_cache).match(place)
    assert len(cache.path_for(url).relative_to(own_cache).parts) == len(Path(place).parts)
    assert cache.path_for(url) == cache.path_for(url)


def test_urls_that_differ_in_capitals_share_no_file_on_any_disk():
    urls = [f"https://a.org/{path}" for path in ("x/m.tar", "x/M.tar", "X/m.tar", "x/m.TAR")]
    urls += ["https://a.org/%C3%A9", "https://a.org/e%CC%81", "https://a.org/%C3%89"]
    places = [normalize("NFC", str(cache.path_for(url)).casefold()) for url in urls]
    assert len(set(places)) == len(urls)


@pytest.mark.parametrize("name", ["M.tar", "M.tar.unpacked"])
def test_a_file_that_is_kept_under_its_own_words_is_used_on(name, own_cache):
    place = own_cache / "a.org" / "X" / name
    place.parent.mkdir(parents=True)
    place.write_bytes(b"kept")
    assert cache.path_for("https://a.org/X/M.tar") == place.with_name("M.tar")
    for other in ("https://a.org/X/N.tar", "https://a.org/Y/M.tar", "https://a.org/X/M.tar?v=1"):
        assert cache.path_for(other).name[1] == "-"


def test_names_that_only_begin_like_a_device_stay(own_cache):
    place = cache.path_for("https://a.org/console/auxiliary.tar")
    assert place == own_cache / "a.org" / "console" / "auxiliary.tar"


def test_urls_that_differ_in_their_query_have_places_of_their_own():
    urls = [f"https://a.org/m.tar{end}" for end in ("", "?v=1", "?v=2", "/", "%20", "%2F")]
    assert len({cache.path_for(url) for url in urls}) == 6


@pytest.mark.parametrize(
    "url",
    ["ftp://a.org/m.tar", "file:///etc/passwd", "s3://a/m.tar", "https://", "http://[::1/a",
     "http://a:port/m.tar", "http://a:99999/m.tar"],
)  # fmt: skip
def test_what_is_no_url_of_the_web_is_refused(url):
    with pytest.raises(PaddlexMLError, match="not a URL of the web: ") as caught:
        cache.path_for(url)
    assert caught.value.where == url


def test_a_lock_waits_for_the_one_who_holds_it(own_cache, caplog):
    caplog.set_level("INFO")
    path, order = own_cache / "a.org" / "m.tar", []
    held = threading.Event()

    def hold() -> None:
        with cache.locked(path):
            held.set()
            threading.Event().wait(0.2)
            order.append("first")

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(5)
    with cache.locked(path):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]
    assert caplog.messages == [f"another process is at work on {path}: waiting for it"]


def test_a_cache_that_cannot_be_made_is_a_clear_error(monkeypatch):
    monkeypatch.setenv("PADDLEX_ML_CACHE", f"{os.devnull}/cache")
    path = cache.path_for("https://a.org/m.tar")
    with pytest.raises(PaddlexMLError, match="the cache cannot be used: Not a dir") as caught:
        cache.locked(path).__enter__()
    assert caught.value.where == str(path.parent)
    assert "PADDLEX_ML_CACHE=/another/folder" in caught.value.fix


def test_a_new_cache_is_for_its_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "new" / "cache"))
    with cache.locked(cache.path_for("https://example.org/deep/file")):
        assert (tmp_path / "new" / "cache").stat().st_mode & 0o777 == 0o700


@pytest.mark.usefixtures("forgetful")
@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o077])
def test_folders_in_the_cache_are_for_its_user_alone(own_cache: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        cache.make(own_cache / "images")
        cache.for_library("of a library")
        with cache.locked(cache.path_for("https://a.org/b/c/m.tar")):
            pass
    finally:
        os.umask(before)
    folders = [own_cache, *(path for path in own_cache.rglob("*") if path.is_dir())]
    assert [path.stat().st_mode & 0o777 for path in folders] == [0o700] * 6


def test_a_full_disk_of_the_cache_is_not_told_as_that_of_the_output(
    own_cache: Path, tmp_path: Path
) -> None:
    full = errno.ENOSPC, os.strerror(errno.ENOSPC)
    told = cache.explain(OSError(*full, str(own_cache / "images" / "a")))
    assert told is not None
    assert told.what == "the cache cannot be used: No space left on device"
    assert told.where == str(own_cache / "images")
    assert "PADDLEX_ML_CACHE=/another/folder" in told.fix
    assert "Global.output" not in told.fix
    other = cache.explain(OSError(*full, str(tmp_path / "output" / "a")))
    assert other is not None
    assert other.what == "No space left on device"
    assert "-o Global.output=" in other.fix
    assert cache.explain(OSError(errno.EIO, "broken", str(own_cache / "a"))) is None
