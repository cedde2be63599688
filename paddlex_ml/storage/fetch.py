# SPDX-License-Identifier: Apache-2.0
"""Files of the web, each fetched once into the cache: complete and checked, or not at all.

Every URL is the user's own, or that of the model that the user asked for.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import random
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from paddlex_ml import systems
from paddlex_ml.errors import PaddlexMLError, alternatives
from paddlex_ml.progress import LONGEST_SILENCE, ticking
from paddlex_ml.safe_text import CUT, url_without_secrets
from paddlex_ml.storage import cache, files, known_files, regular_file, web

if TYPE_CHECKING:
    import httpx  # imported with the first URL: it takes 0.1 s

logger = logging.getLogger(__name__)

TRIES = 5  # in a row that bring nothing new
BACK_OFF = 1.0  # seconds before the second try, doubled before each one after it
WAIT_LIMIT = 120.0  # seconds: the longest Retry-After that is waited for
CONNECT_LIMIT = 10.0  # seconds
STALL_LIMIT = 30.0  # seconds without a byte
ANSWER_LIMIT = 60.0  # seconds until the head of an answer is complete
GRACE = 600.0  # seconds, tries and waits included, after which a download may be too slow
SLOWEST = 5_000  # bytes per second on the whole, after GRACE: a drip must not hold the lock
TIME_LIMIT = 24 * 3600.0  # seconds for one file in one command; the next one goes on from there
_LARGEST_NOTE = 100_000  # bytes: a URL, a version and a length
SIZE_LIMIT = 32 * 2**30  # bytes: an endless stream must not fill the disk; COCO has 18 GiB

_TO_RETRY = {408, 425, 429, 500, 502, 503, 504}
_PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype\s+html|html|head|body|\?xml|!--)", re.I)


@dataclass(eq=False)
class _TryFailedError(Exception):
    """Why a try failed."""

    reason: str
    wait: float | None = None
    """Seconds until the next try; None: as BACK_OFF says; inf: another try does not help."""


@dataclass(eq=False)
class _Pace:
    """How fast a file comes, all tries together."""

    received: int = 0
    begin: float = field(default_factory=time.monotonic)

    def find_fault(self) -> _TryFailedError | None:
        """Why the download is given up; None: it is fast enough."""
        seconds = time.monotonic() - self.begin
        if seconds > TIME_LIMIT:
            return _TryFailedError(f"not complete after {TIME_LIMIT / 3600:g} hours", math.inf)
        if seconds > GRACE and self.received < SLOWEST * seconds:
            rate = self.received / seconds / 1000
            return _TryFailedError(f"too slow: {rate:.1f} kB/s for {seconds:.0f} s", math.inf)
        return None


@contextmanager
def _answering(client: httpx.Client, url: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
    """Yield the answer as soon as its head is there.

    No timeout of httpx limits a slow name server, or one header after the other. The daemon thread
    goes on in such a case, and the program can end without it.
    """
    stream = client.stream("GET", url, headers=headers)
    begun: futures.Future[httpx.Response] = futures.Future()

    def begin() -> None:
        try:
            begun.set_result(stream.__enter__())
        except BaseException as error:  # raised again below
            begun.set_exception(error)

    Thread(target=begin, daemon=True).start()
    try:
        answer = begun.result(ANSWER_LIMIT)
    except futures.TimeoutError:
        raise _TryFailedError(f"no complete answer within {ANSWER_LIMIT:g} seconds") from None
    try:
        yield answer
    finally:
        stream.__exit__(None, None, None)


def is_url(text: str) -> bool:
    """Whether `text` is meant as a URL of whatever kind, not as a path (nor as C://folder)."""
    return re.match(r"[a-z][a-z0-9+.-]+://", text, re.I) is not None


def is_page(head: bytes) -> bool:
    """Whether these first bytes of a file begin a web page: what servers send instead of files."""
    return _PAGE.match(head) is not None


def cached(url: str, *, check: Callable[[Path], object], fix: str) -> Path:
    """Path of the file behind `url`, downloaded unless the cache has it.

    check: raises PaddlexMLError for a file that is not what it should be; then it is not kept.
    fix: what can be done without the file. Raises PaddlexMLError for all that goes wrong.
    """
    path = cache.path_for(url)
    if os.path.isfile(path):  # Path.is_file would raise where permission is missing
        known_files.check(path)
        return path
    with cache.locked(path):
        if path.is_file():  # another process has fetched it while this one waited
            known_files.check(path)
            return path
        _refuse_cut(url, fix)
        part = cache.beside(path, ".part")
        try:
            _download(url, path, fix)
        except OSError as error:
            kept = f"; {_size(part) / 1e6:.1f} MB have arrived and are kept: the next run goes on"
            raise cache.unusable(
                error, path.parent, kept if _read_note(url, part) else ""
            ) from error
        try:
            files.flush(part)
            with part.open("rb") as file:
                if is_page(file.read(512)):
                    raise PaddlexMLError("it is a web page", where="", fix="")
            check(part)
        except PaddlexMLError as error:
            _forget(part)
            raise PaddlexMLError(
                f"what the server sent cannot be used: {error.what}",
                where=url_without_secrets(url),
                fix=alternatives("correct the URL", f"put the right file at {path}", fix),
            ) from error
        systems.rename(part, path)
        cache.beside(part, ".json").unlink(missing_ok=True)
    return path


def _refuse_cut(url: str, fix: str) -> None:
    """Refuse a URL whose token we have left out ourselves, where it was written down."""
    if CUT in url.partition("?")[2]:
        raise PaddlexMLError(
            f"the URL is without its token: {CUT} stands where it was left out, so that nobody "
            "reads it in a file or a log",
            where=url_without_secrets(url),
            fix=alternatives("give the whole URL again", fix),
        )


def _download(url: str, path: Path, fix: str) -> None:
    """Download the file to .part. After each try that brought new bytes there are TRIES more."""
    import httpx

    part = cache.beside(path, ".part")
    failures, furthest, pace = 0, _size(part), _Pace()
    with web.open_client(url, httpx.Timeout(STALL_LIMIT, connect=CONNECT_LIMIT)) as client:
        while True:
            try:
                return _try(client, cache.without_password(url), path, pace)
            except _TryFailedError as failed:
                failures = 1 if _size(part) > furthest else failures + 1
                furthest = max(furthest, _size(part))
                failed = pace.find_fault() or failed
                wait = failed.wait
                if wait is None:
                    spread = random.uniform(0.75, 1.25)  # noqa: S311  no secret
                    wait = BACK_OFF * 2 ** (failures - 1) * spread
                if failures >= TRIES or wait > WAIT_LIMIT:
                    raise PaddlexMLError(
                        f"the file cannot be fetched: {failed.reason}",
                        where=url_without_secrets(url),
                        fix=alternatives(
                            "check the URL and the network and repeat the command",
                            f"put the file by hand at {path}",
                            fix,
                        ),
                    ) from failed
                logger.warning("%s: %s; next try in %.0f s", path.name, failed.reason, wait)
                time.sleep(wait)


def _try(client: httpx.Client, url: str, path: Path, pace: _Pace) -> None:
    """One request, which resumes .part where that is safe."""
    import httpx

    part = cache.beside(path, ".part")
    note = _read_note(url, part)
    done = _size(part) if note else 0
    if done and done == note["length"]:  # killed after the last byte
        return
    headers = {"Range": f"bytes={done}-", "If-Range": note["version"]} if done else {}
    try:
        with _answering(client, url, headers) as answer:
            _receive(answer, url, path, note, done, pace)
    except httpx.UnsupportedProtocol as error:
        reason = "the server redirects to something other than http or https"
        raise _TryFailedError(reason, math.inf) from error
    except httpx.ConnectTimeout as error:
        raise _TryFailedError(f"no connection within {CONNECT_LIMIT:g} seconds") from error
    except httpx.TimeoutException as error:
        raise _TryFailedError(f"not a byte for {STALL_LIMIT:g} seconds") from error
    except httpx.TransportError as error:
        at_start = isinstance(error, httpx.ConnectError | httpx.ProxyError)
        reason = f"{'no connection' if at_start else 'broken off'}: "
        reason += str(error) or type(error).__name__
        wait = math.inf if "CERTIFICATE_VERIFY" in reason else None
        raise _TryFailedError(reason, wait) from error
    except web.RedirectError as error:
        raise _TryFailedError(str(error), math.inf) from error
    except (httpx.InvalidURL, OverflowError, UnicodeError) as error:  # ports, hosts of any length
        reason = "it is, or leads to, no URL: host or port are malformed"
        raise _TryFailedError(reason, math.inf) from error
    except httpx.HTTPError as error:  # redirects without end
        raise _TryFailedError(str(error), math.inf) from error


def _receive(
    answer: httpx.Response, url: str, path: Path, note: dict[str, Any], done: int, pace: _Pace
) -> None:
    """Write the body of an answer to .part: behind its first `done` bytes, or from the start."""
    part = cache.beside(path, ".part")
    status, length = answer.status_code, note.get("length", 0)
    if done and status in (206, 416):  # 416: the file ends before these bytes
        fits = answer.headers.get("Content-Range") == f"bytes {done}-{length - 1}/{length}"
        if not fits or _version(answer) not in (note["version"], None):
            _forget(part)
            raise _TryFailedError("the file has changed on the server", wait=0)
    _refuse_failure(answer, in_part=bool(done))
    if status == 206:
        logger.info("resuming %s at %.1f MB", path, done / 1e6)
    else:
        _forget(part)
        done, announced = 0, answer.headers.get("Content-Length")
        length = None if announced is None else int(announced)
        note = {"url": url_without_secrets(url), "version": _version(answer), "length": length}
        files.write_json(cache.beside(part, ".json"), note)
        size = "size unknown" if length is None else f"{length / 1e6:.1f} MB"
        logger.info("fetching %s (%s) to %s", url_without_secrets(url), size, path)
    _refuse_too_large((length or 0) - done, path)
    files.set_link_aside(part)
    from tqdm import tqdm  # with the first download

    plain = tqdm(
        desc=path.name, total=length, initial=done, unit="B", unit_scale=True,
        file=sys.stderr, disable=None,  # None: shown on a terminal only
    )  # fmt: skip
    with part.open("ab") as file, ticking(plain) as bar:
        told = time.monotonic()
        for chunk in answer.iter_raw():
            file.write(chunk)
            bar.update(len(chunk))
            done += len(chunk)
            if bar.disable and time.monotonic() - told >= LONGEST_SILENCE:
                told = time.monotonic()
                logger.info("fetched %.1f MB of %s", done / 1e6, path.name)
            pace.received += len(chunk)
            if too_slow := pace.find_fault():
                raise too_slow
            if done > SIZE_LIMIT:
                _refuse_too_large(done, path)
    if length is not None and done != length:
        raise _TryFailedError(f"broken off after {done} of {length} bytes")


def _version(answer: httpx.Response) -> str | None:
    """What If-Range takes: a strong ETag, else the date of the last change."""
    etag: str | None = answer.headers.get("ETag")
    return etag if etag and etag.startswith('"') else answer.headers.get("Last-Modified")


def _refuse_failure(answer: httpx.Response, *, in_part: bool) -> None:
    """Raise _TryFailedError unless the answer has the file, or the rest that was asked for."""
    status = answer.status_code
    if status == 200 or (status == 206 and in_part):
        encoding = answer.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            reason = f"the server sends the file compressed ({encoding}), unasked"
            raise _TryFailedError(reason, math.inf)
        return
    wait = None if status in _TO_RETRY else math.inf
    reason = f"the server answers {status} {answer.reason_phrase}".rstrip()
    reason += web.explain_refusal(answer)
    if status in _TO_RETRY and (text := answer.headers.get("Retry-After", "")):
        if text.isascii() and text.isdigit():
            wait = float(text)
        else:
            with suppress(TypeError, ValueError):  # neither a number nor a date
                wait = max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
        if wait is not None and wait > WAIT_LIMIT:
            reason += f" and asks to come back in {wait:.0f} seconds"
    raise _TryFailedError(reason, wait)


def _refuse_too_large(size: int, path: Path) -> None:
    """Refuse another `size` bytes: a full disk harms other programs too."""
    if size > SIZE_LIMIT:
        raise _TryFailedError(f"it is larger than {SIZE_LIMIT / 2**30:g} GiB", math.inf)
    free = shutil.disk_usage(path.parent).free
    if size > free:
        reason = f"{size / 1e6:.0f} MB are to come, the disk has {free / 1e6:.0f} MB left"
        raise OSError(errno.ENOSPC, reason)


def _read_note(url: str, part: Path) -> dict[str, Any]:
    """What .part is the beginning of; {} when that is not known well enough to resume it."""
    try:
        note = regular_file.read_json(cache.beside(part, ".json"), _LARGEST_NOTE)
        sure = (
            note["url"] == url_without_secrets(url)
            and note["version"]
            and note["version"].isascii()  # as a header must be
            and _size(part) <= note["length"]
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return note if sure else {}


def _forget(part: Path) -> None:
    for path in (part, cache.beside(part, ".json")):
        path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
