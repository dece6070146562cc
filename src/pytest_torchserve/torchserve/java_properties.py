r"""Java's properties format: `key=value` or `key: value`, `#` and `!` comments, `\` escapes and continued lines.

The rules are those of `java.util.Properties.load`, except that blanks at the end of a value are dropped: TorchServe
would stumble over `4 ` as a number.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_BLANKS = " \t\f"
_PAIR = re.compile(r"((?:\\.|[^\\=: \t\f])*)[ \t\f]*[=:]?[ \t\f]*(.*)", re.DOTALL)
_AT_END = re.compile(r"(?<!\\)[ \t\f]+\Z")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_NAMED = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_TO_ESCAPE = re.compile(r"^ |[^ -~]|\\")
_TO_ESCAPE_IN_KEY = re.compile(r"[^ -~]|[\\ =:#!]")

_RAW = ("vmargs", "plugins_path")
"""The settings that TorchServe's launcher reads, a Python program that knows no escapes."""


def decoded(content: bytes) -> str:
    """Return a file's text. Java's encoding is Latin-1, but most editors write UTF-8, some with a mark before it."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def parse(text: str) -> dict[str, str]:
    r"""Return the settings in a properties file's text.

    Raises:
        ValueError: a `\uXXXX` has other than four hexadecimal digits.
    """
    pairs = (match.groups() for line in _logical_lines(text) if (match := _PAIR.fullmatch(line)))
    found = {_unescaped(key): _AT_END.sub("", value) for key, value in pairs}
    return {key: value if key in _RAW else _unescaped(value) for key, value in found.items()}


def as_text(settings: Mapping[str, str]) -> str:
    """Return settings as a properties file's text, in ASCII as far as Java alone reads it."""
    lines = (
        f"{_TO_ESCAPE_IN_KEY.sub(_escaped, key)}={value if key in _RAW else _TO_ESCAPE.sub(_escaped, value)}\n"
        for key, value in settings.items()
    )
    return "".join(lines)


def _logical_lines(text: str) -> Iterator[str]:
    """Yield the lines that are no comments, continued ones joined."""
    whole: str | None = None  # the beginning of a continued line
    for line in re.split(r"\r\n|\r|\n", text):
        part = line.lstrip(_BLANKS)
        if whole is None and (not part or part[0] in "#!"):
            continue
        backslashes = len(part) - len(part.rstrip("\\"))
        joined = (whole or "") + (part[:-1] if backslashes % 2 else part)
        whole = joined if backslashes % 2 else None
        if whole is None and joined:
            yield joined
    if whole:
        yield whole


def _unescaped(text: str) -> str:
    def character(found: re.Match[str]) -> str:
        if found[1] == "u":
            raise ValueError(rf"\u without four hexadecimal digits: {text[found.start() : found.end() + 4]}")
        return chr(int(found[1][1:], 16)) if found[1][0] == "u" else _NAMED.get(found[1], found[1])

    # Java's characters have 16 bits: two escapes may be one character.
    return _ESCAPE.sub(character, text).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    if " " <= character <= "~":
        return f"\\{character}"
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))
