"""Secrets in the user's settings: recognised by their names, and never written or printed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MASK = "***"

_WORDS = {
    *("KEY", "KEYS", "TOKEN", "TOKENS", "PASS", "PWD", "PAT", "AUTH", "OAUTH", "AUTHORIZATION", "BEARER", "JWT"),
    *("CREDS", "PW"),
    *("PRIVATE", "COOKIE", "COOKIES", "WEBHOOK", "SSHKEY", "SECRETKEY", "PRIVATEKEY", "ACCESSKEY", "ACCOUNTKEY"),
}
# Found inside a word as well: PGPASSWORD, dbpassword, myapikey. No other word contains these parts.
_PARTS = ("PASSWORD", "PASSWD", "PASSPHRASE", "SECRET", "CREDENTIAL", "APIKEY")
_ENDS = re.compile(r"TOKEN$|(?<!BY)(?<!COM)(?<!SUR)(?<!TRES)PASS$")  # AUTHTOKEN, SSHPASS; not PROXY_BYPASS
# Names with these words say where a secret lies, how long it is or if there is one: token_expiration_min, API_KEY_FILE.
_ABOUT_FIRST = {"DISABLE", "ENABLE", "MAX", "NUM"}
_ABOUT_LAST = {"COUNT", "DIR", "FILE", "LENGTH", "LIMIT", "MIN", "NAME", "PATH", "SIZE", "TIMEOUT", "TTL", "TYPE"}
_SWITCHES = {"", "true", "false", "yes", "no", "on", "off"}

_USER = re.compile(r"(?<=://)(?:[^/\s]+|[^/\s:]+:[^\s@]+)(?=@)")  # https://user:password@host; a / in a password
_BEARER = re.compile(r"(?i)\b((?:authorization:\s*)?(?:bearer|basic)\s+)[^\s'\"]+")
_PROPERTY = re.compile(r"(-D([\w.-]+)=)([^\s\"']+)")  # a JVM's: its value ends at a blank
# A JVM and its launcher repeat the options that they were given, in a crash report too; `supervisor` has the same.
_ECHO = re.compile(r"(Picked up \w+:|JVM parameters:|jvm_args:|java_command:|Command Line:|\bJ\w*_OPTIONS=).*")
# -Djavax.net.ssl.keyStorePassword=…, ?token=…, {"apiKey": "…"}
_PAIR = re.compile(r"""((?:-D)?(["']?)([\w.-]+)\2\s*(?:=|(?<=["']):)\s*)("[^"]*"|'[^']*'|[^\s&;,"'}]+)""")


def is_secret(name: str) -> bool:
    """Return whether the name of a variable or setting says that its value is a secret."""
    words = [word.upper() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]
    if words in ([], ["PWD"]) or words[0] in _ABOUT_FIRST or words[-1] in _ABOUT_LAST:
        return False
    return any(word in _WORDS or _ENDS.search(word) or any(part in word for part in _PARTS) for word in words)


def value(name: str, text: str) -> str:
    """Return a setting's value with its secrets masked."""
    if is_secret(name) and text.lower() not in _SWITCHES:
        return MASK
    return inside(text)


def values(settings: Mapping[str, str]) -> dict[str, str]:
    """Return settings with the secrets in their values masked."""
    return {name: value(name, text) for name, text in settings.items()}


def inside(text: str) -> str:
    """Return a text with the recognisable secrets masked: users in URLs, and values with a secret's name."""

    def shown(found: re.Match[str]) -> str:
        return found[1] + (MASK if is_secret(found[3]) and found[4].lower() not in _SWITCHES else found[4])

    def option(found: re.Match[str]) -> str:
        return found[1] + (MASK if is_secret(found[2]) and found[3].lower() not in _SWITCHES else found[3])

    text = _BEARER.sub(rf"\1{MASK}", _PROPERTY.sub(option, _USER.sub(MASK, text)))
    return _PAIR.sub(shown, text)


def echoes(text: str) -> str:
    """Return a JVM's output with its options masked: a JVM prints the options that it takes from a variable."""
    return _ECHO.sub(rf"\1 {MASK}", text)


def pair(text: str) -> str:
    """Return a malformed NAME=VALUE for an error message, masked although the start of the value may be unclear."""
    name, separator, rest = re.match(r"([\w.-]*)(\W*)(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr] # always
    return f"{name}{separator}{value(name, rest)}"
