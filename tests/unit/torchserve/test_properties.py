r"""Java's properties files, read as `java.util.Properties` reads them and written so that it reads the same."""

from __future__ import annotations

import pytest

from pytest_torchserve.errors import OptionError
from pytest_torchserve.torchserve import properties
from pytest_torchserve.torchserve.properties import as_text, read


def written(tmp_path, content):
    """Return the path of a properties file with this content, a text or bytes."""
    path = tmp_path / "config.properties"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        # comments end with their line, and are comments at the beginning of a line only
        ("# a\\\nb=1\n! c\\\nd=2", {"b": "1", "d": "2"}),
        ("a=1 # no comment\n \t#x=1", {"a": "1 # no comment"}),
        ("a=1,\\\n#2\n", {"a": "1,#2"}),
        # an odd number of backslashes continues a line, an even number is half as many backslashes
        ("a=1\\\n  2\nb=3", {"a": "12", "b": "3"}),
        ("a=1\\\\\nb=2", {"a": "1\\", "b": "2"}),
        ("a=1\\\\\\\n2\nb=2", {"a": "1\\2", "b": "2"}),
        ("a=1\\\n\nb=2", {"a": "1", "b": "2"}),
        ("a=1\\", {"a": "1"}),
        ("\\\n\na=1", {"a": "1"}),
        # a line ends at \n, \r and \r\n, and nowhere else
        ("a=1\r\nb=2\rc=3\\\r\n4", {"a": "1", "b": "2", "c": "34"}),
        ("a=1\u20282\u20293\x854\x1c5\x0b6\x0c7\nb=1", {"a": "1\u20282\u20293\x854\x1c5\x0b6\x0c7", "b": "1"}),
        # what separates a key from its value
        ("a=1\nb:2\nc 3\nd = 4\ne\t:5\nf", {"a": "1", "b": "2", "c": "3", "d": "4", "e": "5", "f": ""}),
        ("a==1\nb=c=d\ne = \nf=:1", {"a": "=1", "b": "c=d", "e": "", "f": ":1"}),
        ("a\\ b\\=c\\:d=1", {"a b=c:d": "1"}),
        ("a=1\na=2", {"a": "2"}),
        # escapes
        ("a=\\u00e9\\t\\n\\q\\:\\\\u0041", {"a": "é\t\nq:\\u0041"}),
        ("a=\\ud83d\\ude00", {"a": "😀"}),
    ],
)
def test_reading(tmp_path, text, wanted):
    """Comments, continued lines, separators and escapes are those of Java, and what is written is read as the same."""
    assert read(written(tmp_path, text)) == wanted
    assert read(written(tmp_path, as_text(wanted))) == wanted


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("\ufeffa=1", {"a": "1"}),
        ("\ufeff# a\nb=1", {"b": "1"}),
        ("a=é", {"a": "é"}),
        (b"a=\xe9", {"a": "é"}),
        (b"# \xfcbrig\na=1", {"a": "1"}),
    ],
)
def test_encodings(tmp_path, content, wanted):
    """UTF-8 is read as UTF-8, with or without its mark; other bytes are Java's Latin-1. Pure ASCII is written."""
    assert read(written(tmp_path, content)) == wanted
    assert as_text(wanted).isascii()


@pytest.mark.parametrize("value", [" a", "a ", "\\", "a\\\nb", "\x00\x7f", "#", "=", "\ud800", "\t", " "])
def test_what_is_written_is_read(tmp_path, value):
    """Every value survives, but for blanks at its end."""
    wanted = value.rstrip(" ") or value
    assert read(written(tmp_path, as_text({"key": value, "other": "1"}))) == {"key": wanted, "other": "1"}


def test_what_the_launcher_reads_is_written_as_it_is(tmp_path):
    """TorchServe's launcher, a Python program, takes the JVM's arguments and plug-ins from the file as they are."""
    told = {"vmargs": r"-Da=b\\c -Dd=\u00e9", "plugins_path": "/a b/é"}
    text = "".join(f"{key}={value}\n" for key, value in told.items())
    assert read(written(tmp_path, text)) == told
    assert as_text(told) == text


@pytest.mark.parametrize("text", ["a=C:\\users", "a=\\u12", "\\uxxxx=1"])
def test_a_malformed_escape_is_told(tmp_path, text):
    """Java refuses a malformed escape, and so TorchServe does not start: it is told before."""
    with pytest.raises(OptionError, match=r"found: .*config.properties: \\u"):
        read(written(tmp_path, text))


def test_a_file_named_with_escapes_is_found(tmp_path):
    """A file whose name has to be escaped is that file."""
    (tmp_path / "mé trics.yaml").write_text("")
    path = written(tmp_path, "metrics_config=m\\u00e9\\ trics.yaml")
    assert properties.in_place(read(path), tmp_path) == {"metrics_config": str(tmp_path / "mé trics.yaml")}
