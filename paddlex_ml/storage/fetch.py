# SPDX-License-Identifier: Apache-2.0
"""Files of the web, each fetched once into the cache: whole and checked, or not at all.

Nothing here decides what to fetch: the URL is the user's, or that of the model they asked for.
"""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import random
import re
import shutil
import sys
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx
from tqdm import tqdm

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import cache, files

logger = logging.getLogger(__name__)

TRIES = 5  # in a row that bring nothing new
BACK_OFF = 1.0  # seconds before the second try, doubled before each one after it
WAIT_LIMIT = 120.0  # seconds: the longest Retry-After that is waited for
CONNECT_LIMIT = 10.0  # seconds
STALL_LIMIT = 30.0  # seconds without a byte; there is no limit for the whole, lines may be slow
SIZE_LIMIT = 32 * 2**30  # bytes: no stream without end may fill the disk; COCO has a file of 18 GiB

_TO_RETRY = {408, 425, 429, 500, 502, 503, 504}
_OR = "         or "  # several ways out, one below the other
_PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype\s+html|html|head|body|\?xml|!--)", re.I)


class _TryFailedError(Exception):
    """Why a try failed. `wait`: seconds until the next; None: as BACK_OFF says; inf: none helps."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait = wait


def is_url(text: str) -> bool:
    """Whether `text` is meant as a URL of whatever kind, not as a path (nor as C://folder)."""
    return re.match(r"[a-z][a-z0-9+.-]+://", text, re.I) is not None


def is_page(head: bytes) -> bool:
    """Whether these first bytes of a file begin a web page: what servers send in place of files."""
    return _PAGE.match(head) is not None


def cached(url: str, *, check: Callable[[Path], object], fix: str) -> Path:
    """Path of the file behind `url`, downloaded unless the cache has it.

    check: raises PaddlexMLError for a file that is not what it should be; it is not kept then.
    fix: what can be done without the file. Raises PaddlexMLError for all that goes wrong.
    """
    path = cache.place(url)
    if os.path.isfile(path):  # Path.is_file would raise where permission is missing
        return path
    with cache.locked(path):
        if not path.is_file():  # another process may have fetched it while this one waited
            _download(url, path, fix)
            _accept(url, path, check, fix)
    return path


def _download(url: str, path: Path, fix: str) -> None:
    """Leave the whole file in .part; as many tries as bring something new, and TRIES after that."""
    part = cache.beside(path, ".part")
    failures, furthest = 0, _size(part)
    with _client(url) as client:
        while True:
            try:
                return _try(client, cache.shown(url), path)
            except _TryFailedError as failed:
                failures = 1 if _size(part) > furthest else failures + 1
                furthest = max(furthest, _size(part))
                wait = failed.wait
                if wait is None:
                    wait = BACK_OFF * 2 ** (failures - 1) * random.uniform(0.75, 1.25)
                if failures >= TRIES or wait > WAIT_LIMIT:
                    raise _failed(url, path, failed.reason, fix) from failed
                logger.warning("%s: %s; next try in %.0f s", path.name, failed.reason, wait)
                time.sleep(wait)


def _client(url: str) -> httpx.Client:
    parts = urlsplit(url)  # what stands in a request's URL, httpx logs; the password must not
    auth = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    # Compressed answers have no size that could be checked or gone on from.
    headers = {"User-Agent": "paddlex_ml", "Accept-Encoding": "identity"}
    limits = httpx.Timeout(STALL_LIMIT, connect=CONNECT_LIMIT)
    try:
        return httpx.Client(auth=auth, headers=headers, timeout=limits, follow_redirects=True)
    except (ImportError, ValueError, OSError) as error:  # settings of the environment
        raise PaddlexMLError(
            f"no connection can be set up: {error}",
            where="HTTP_PROXY, HTTPS_PROXY, ALL_PROXY or SSL_CERT_FILE of the environment",
            fix="correct it, or unset it",
        ) from error


def _try(client: httpx.Client, url: str, path: Path) -> None:
    """One request, which goes on from .part where that can be done safely."""
    part = cache.beside(path, ".part")
    note = _read_note(url, part)
    done = _size(part) if note else 0
    if done and done == note["length"]:  # killed after the last byte
        return
    headers = {"Range": f"bytes={done}-", "If-Range": note["version"]} if done else {}
    try:
        with client.stream("GET", url, headers=headers) as answer:
            if done and not _goes_with(answer, note, done):
                _forget(part)
                raise _TryFailedError("the file has changed on the server", wait=0)
            _refuse_failure(answer, in_part=bool(done))
            if answer.status_code == 206:
                _save(answer, path, done, note["length"])
            else:
                _save(answer, path, 0, _start(answer, url, part))
    except httpx.UnsupportedProtocol as error:
        reason = "the server redirects to something other than http or https"
        raise _TryFailedError(reason, math.inf) from error
    except httpx.ConnectTimeout as error:
        raise _TryFailedError(f"no connection within {CONNECT_LIMIT:g} seconds") from error
    except httpx.TimeoutException as error:
        raise _TryFailedError(f"not a byte for {STALL_LIMIT:g} seconds") from error
    except httpx.TransportError as error:
        outset = isinstance(error, httpx.ConnectError | httpx.ProxyError)
        told = str(error) or type(error).__name__
        why = f"{'no connection' if outset else 'broken off'}: {told}"
        wait = math.inf if "CERTIFICATE_VERIFY" in why else None
        raise _TryFailedError(why, wait) from error
    except httpx.InvalidURL as error:
        raise _TryFailedError(f"it is, or leads to, no URL: {error}", math.inf) from error
    except httpx.HTTPError as error:  # redirects without end
        raise _TryFailedError(str(error), math.inf) from error


def _goes_with(answer: httpx.Response, note: dict[str, Any], done: int) -> bool:
    """Whether the answer says nothing against .part: a rest that fits, the whole, or a failure."""
    if answer.status_code == 206:
        length = note["length"]
        fits = answer.headers.get("Content-Range") == f"bytes {done}-{length - 1}/{length}"
        return fits and _version(answer) in (note["version"], None)
    return answer.status_code != 416  # "there is nothing behind these bytes"


def _version(answer: httpx.Response) -> str | None:
    """What If-Range takes: a strong ETag, else the date of the last change."""
    etag: str | None = answer.headers.get("ETag")
    return etag if etag and etag.startswith('"') else answer.headers.get("Last-Modified")


def _refuse_failure(answer: httpx.Response, *, in_part: bool) -> None:
    """Raise _TryFailedError unless the answer brings the file, or the rest that was asked for."""
    status = answer.status_code
    encoding = answer.headers.get("Content-Encoding", "identity")
    if status == 200 or (status == 206 and in_part):
        if encoding != "identity":
            reason = f"the server sends the file compressed ({encoding}), unasked"
            raise _TryFailedError(reason, math.inf)
        return
    wait = _retry_after(answer) if status in _TO_RETRY else math.inf
    reason = f"the server answers {status} {answer.reason_phrase}".rstrip()
    if wait is not None and WAIT_LIMIT < wait < math.inf:
        reason += f" and asks to come back in {wait:.0f} seconds"
    raise _TryFailedError(reason, wait)


def _retry_after(answer: httpx.Response) -> float | None:
    """Seconds that the server asks to wait, given as a number or as a date."""
    text = answer.headers.get("Retry-After", "")
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _start(answer: httpx.Response, url: str, part: Path) -> int | None:
    """Begin .part anew, with a note of what it is the beginning of; returns the whole length."""
    _forget(part)
    announced = answer.headers.get("Content-Length")
    length = None if announced is None else int(announced)
    note = {"url": url, "version": _version(answer), "length": length}
    files.write_json(cache.beside(part, ".json"), note)
    size = "size unknown" if length is None else f"{length / 1e6:.1f} MB"
    logger.info("fetching %s (%s) to %s", url, size, part.with_suffix(""))
    return length


def _save(answer: httpx.Response, path: Path, done: int, length: int | None) -> None:
    """Add the body to .part, behind its first `done` bytes; `length` is that of the whole file."""
    part = cache.beside(path, ".part")
    if done:
        logger.info("going on with %s at %.1f MB", path, done / 1e6)
    _refuse_too_large((length or 0) - done, path)
    with part.open("ab") as file, tqdm(
        desc=path.name, total=length, initial=done, unit="B", unit_scale=True,
        file=sys.stderr, disable=None,  # None: shown on a terminal only
    ) as bar:  # fmt: skip
        for chunk in answer.iter_raw():
            file.write(chunk)
            bar.update(len(chunk))
            done += len(chunk)
            if done > SIZE_LIMIT:
                _refuse_too_large(done, path)
    if length is not None and done != length:
        raise _TryFailedError(f"broken off after {done} of {length} bytes")


def _refuse_too_large(size: int, path: Path) -> None:
    """Refuse `size` bytes to come: a full disk harms more than this program."""
    if size > SIZE_LIMIT:
        raise _TryFailedError(f"it is larger than {SIZE_LIMIT / 2**30:g} GiB", math.inf)
    free = shutil.disk_usage(path.parent).free
    if size > free:
        told = f"{size / 1e6:.0f} MB are to come, the disk has {free / 1e6:.0f} MB left"
        raise OSError(errno.ENOSPC, told)


def _accept(url: str, path: Path, check: Callable[[Path], object], fix: str) -> None:
    """Let .part take its name when it is what it should be; drop it when it is not."""
    part = cache.beside(path, ".part")
    try:
        with part.open("rb") as file:
            os.fsync(file.fileno())
            if is_page(file.read(512)):
                raise PaddlexMLError("it is a web page", where="", fix="")
        check(part)
    except PaddlexMLError as error:
        _forget(part)
        raise PaddlexMLError(
            f"what the server sent cannot be used: {error.what}",
            where=cache.shown(url),
            fix=f"correct the URL,\n{_OR}put the right file at {path},\n{_OR}{fix}",
        ) from error
    part.replace(path)
    cache.beside(part, ".json").unlink(missing_ok=True)


def _failed(url: str, path: Path, reason: str, fix: str) -> PaddlexMLError:
    return PaddlexMLError(
        f"the file cannot be fetched: {reason}",
        where=cache.shown(url),
        fix="check the URL and the network and repeat the command,\n"
        f"{_OR}put the file by hand at {path},\n{_OR}{fix}",
    )


def _read_note(url: str, part: Path) -> dict[str, Any]:
    """What .part is the beginning of; {} when that is not known well enough to go on from it."""
    try:
        note = json.loads(cache.beside(part, ".json").read_text(encoding="utf-8"))
        sure = note["url"] == url and note["version"] and _size(part) <= note["length"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {}
    return note if sure else {}


def _forget(part: Path) -> None:
    for path in (part, cache.beside(part, ".json")):
        path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
