# SPDX-License-Identifier: Apache-2.0
"""Text that may be shown and kept: without the secrets of URLs, and without codes that steer what
shows it.

Names, paths and URLs come from anywhere. Whatever is printed, logged or reported goes through here.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

CUT = "***"
"""What stands in the place of a secret in a query."""

_CODES = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)
"""Control codes except tab and line feed, ends of lines and marks of direction of Unicode, and
halves of characters."""
_SECRET_NAME = re.compile(
    r"token|secret|passw|sig|auth|key|cred|session|jwt|ticket|code|hmac|login|user"
    r"|^(pw|pwd|pass|pin|otp|sid|sas|md5)$",
    re.IGNORECASE,
)
"""Names of the parts of a query that give access, on the servers that we know."""
_RANDOM = re.compile(r"(?=.*[0-9])(?=.*[a-z])[\w.~+/%=-]{32,}", re.IGNORECASE)
_PLAIN = re.compile(r".*\.[a-z0-9]{2,5}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
"""What is long and not secret: a file name, a UUID."""
_LONGEST = 4000  # letters of a password: a text without spaces must not be searched for ever


class _Rules:
    """Patterns for URLs in a text, which end at a letter of the class `end`."""

    def __init__(self, end: str, quotes: str) -> None:
        # Also http:/host and \\host, as paths are written from it.
        self.url = re.compile(
            rf"(?:(?<=[a-z0-9+.-]{{2}}):[/\\]+|(?<![\w:/\\.~-])//)"
            rf"(?:(?!,[a-z]{{2,20}}://)[^{end}])+",
            re.IGNORECASE,
        )
        self.user = re.compile(rf"(:?[/\\]+)([^{end}/?#\\]*)@")
        # A password with / ? or # in it: what stands behind the colon is no port.
        self.odd_user = re.compile(
            rf"(:?[/\\]+)[^{end}@/?#:\[\\]*:(?![0-9]*(?:[{end}/?#,;)\]'\"\\]|$))"
            rf"[^{end}]{{0,{_LONGEST}}}@"
        )
        # ; and ? begin a part where a name follows, else they belong to a value.
        name = rf"[^{end}?&;#=]{{1,200}}"
        self.part = re.compile(rf"([?&;#])(?:({name})=)?((?:(?![?;]{name}=)[^{end}&#{quotes}])+)")
        # The same where a program has escaped the signs, once or several times: ?token%3DSECRET
        sign, equals = "%(?:25)*(?:3f|26|3b|23)", "%(?:25)*3d"
        self.escaped = re.compile(
            rf"([?&;#]|{sign})((?:(?!{sign}|{equals})[^{end}?&;#=]){{1,200}})(=|{equals})",
            re.IGNORECASE,
        )
        self.value = re.compile(rf"[^{end}&#{quotes}]+")


_IN_TEXT, _WHOLE = _Rules(r"\s", "'\"<>"), _Rules(r"\0", r"\0")


def without_secrets(text: str) -> str:
    """A text whose URLs have no name, password or token."""
    return _cut(text, _IN_TEXT) if "/" in text or "\\" in text else text


def url_without_secrets(url: str) -> str:
    """A text that is meant as one URL, whatever is in it, without name, password and token."""
    return _cut(url, _WHOLE)


def visible(text: str) -> str:
    """A text whose control codes and marks of direction are written as `\\u001b`."""
    return _CODES.sub(lambda code: f"\\u{ord(code[0]):04x}", text)


def one_line(text: str) -> str:
    """A text whose line ends are written as `\\n`: a name must not look like a line of ours."""
    return text.replace("\n", "\\n")


def _cut(text: str, rules: _Rules) -> str:
    return rules.url.sub(lambda url: _cut_url(url[0], rules), text)


def _cut_url(url: str, rules: _Rules) -> str:
    """The part of a URL from its colon on."""
    is_sure = url.startswith(("://", ":\\\\"))
    if (user := rules.user.match(url)) and (is_sure or ":" in user[2]):
        url = user[1] + url[user.end() :]
    elif odd := rules.odd_user.match(url):
        url = odd[1] + url[odd.end() :]
    return _cut_escaped(rules.part.sub(lambda part: _cut_part(part, rules), url), rules)


def _cut_escaped(url: str, rules: _Rules) -> str:
    """A URL without the values of secret names behind escaped signs, up to the next plain one."""
    kept, start = [], 0
    for part in rules.escaped.finditer(url):
        mark, name, equals = part.groups()
        is_escaped = len(mark) > 1 or len(equals) > 1
        if part.start() < start or not is_escaped or not _is_secret(name):
            continue
        if value := rules.value.match(url, part.end()):
            kept += [url[start : part.end()], CUT, _end_of_sentence(value[0], rules)]
            start = value.end()
    return "".join([*kept, url[start:]])


def _is_secret(name: str) -> bool:
    return _SECRET_NAME.search(unquote(unquote(name))) is not None


def _end_of_sentence(value: str, rules: _Rules) -> str:
    """The signs at the end of a value that belong to the text around the URL."""
    return "" if rules is _WHOLE else value[len(value.rstrip("]),.;:\\")) :]


def _cut_part(part: re.Match[str], rules: _Rules) -> str:
    mark, name, value = part.groups()
    end = _end_of_sentence(value, rules)
    value = value.removesuffix(end)
    if not (name is not None and _is_secret(name)) and (
        not _RANDOM.fullmatch(value) or _PLAIN.fullmatch(value)
    ):
        return part[0]
    return f"{mark}{'' if name is None else name + '='}{CUT if value else ''}{end}"
