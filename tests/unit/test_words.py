"""The words of the code and its documents: retired ones are gone, and docstrings begin with an action or a noun."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RULES = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest_torchserve"]
TEXTS = (".py", ".md", ".j2")


def files(*folders):
    """Every text file below these folders of the repository."""
    return [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in TEXTS]


def retired(text):
    """The retired words in a text, whole and in any case."""
    return re.findall(rf"\b(?:{'|'.join(RULES['retired_words'])})\b", text, re.IGNORECASE)


def docstrings(source):
    """Every docstring of a module."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = (ast.get_docstring(node) for node in ast.walk(ast.parse(source)) if isinstance(node, kinds))
    return [docstring for docstring in found if docstring]


def is_vague(docstring):
    """True when a docstring begins with a word that names neither an action nor a thing."""
    return re.match(rf"(?:{'|'.join(RULES['vague_openings'])})\b", docstring) is not None


def test_the_retired_words_are_gone():
    """Code, tests and documents use the words of the field."""
    found = {
        str(path.relative_to(ROOT)): words
        for path in files("src", "tests", "docs")
        if (words := retired(path.read_text(encoding="utf-8")))
    }
    assert found == {}


def test_docstrings_name_an_action_or_a_thing():
    """Fewer than 3% of all docstrings begin with a question word or a pronoun."""
    found = [
        docstring
        for path in files("src", "tests", "tools")
        if path.suffix == ".py"
        for docstring in docstrings(path.read_text(encoding="utf-8"))
    ]
    assert len(found) > 1000
    vague = [docstring.splitlines()[0] for docstring in found if is_vague(docstring)]
    assert len(vague) < 0.03 * len(found), vague


@pytest.mark.parametrize("word", RULES["retired_words"])
def test_a_retired_word_would_be_found(word):
    """A retired word is found at the start of a sentence and in code, but not as a part of another word."""
    assert retired(f"{word.capitalize()} in a sentence.") == [word.capitalize()]
    assert retired(f"self.{word}()") == [word]
    assert retired(f"x{word}y_{word}z") == []


@pytest.mark.parametrize("word", RULES["vague_openings"])
def test_a_vague_docstring_would_be_found(word):
    """A docstring is vague for its first word alone."""
    source = f'def f():\n    """{word} it is."""\n\ndef g():\n    """Return {word.lower()} it is."""\n'
    assert [is_vague(docstring) for docstring in docstrings(source)] == [True, False]
