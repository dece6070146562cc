"""The files of a git revision, written to the cache as a checkout would write them; the repository is not touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_torchserve._util import paths
from pytest_torchserve.errors import OptionError
from pytest_torchserve.inputs import cache

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TIMEOUT_S = 600
_SUBMODULE = "160000"
"""The mode of a sub-module in a tree."""

_OF_ONE_REPOSITORY = {
    *(
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_COMMON_DIR",
        "GIT_NAMESPACE",
        "GIT_PREFIX",
        "GIT_SHALLOW_FILE",
    ),
    *("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_GRAFT_FILE", "GIT_INTERNAL_SUPER_PREFIX"),
}
"""Variables that git sets for its hooks: where one of these runs the tests, they would name its own repository here."""

WANTED = "--ts-baseline as a folder of .mar files, a git revision, python:/path/to/venv, or config:FILE"


def commit_of(root: Path, text: str) -> str:
    """Return the commit that a revision of the repository at `root` names.

    Raises:
        OptionError: git knows no such revision; the message says what may be missing in this clone.
    """
    try:
        return _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{text}^{{commit}}")
    except _GitError as error:
        words = str(error) or f"git knows no revision {text!r}"
    do = "write for example --ts-baseline=HEAD, main~3, saved_store, python:VENV or config:old.properties"
    if _knows(root, "HEAD") and _knows(root, f"origin/{text}"):
        do = f"write --ts-baseline=origin/{text}: this clone has no branch of that name of its own"
    elif _is_shallow(root):
        words += ", and this clone is shallow: earlier commits are not in it"
        do = "fetch them: git fetch --unshallow; in CI, set `fetch-depth: 0` where the repository is checked out"
    raise OptionError(wanted=WANTED, found=f"{paths.shown(text)!r}: no such folder, and {words:.500}", do=do)


def full_name(root: Path, text: str) -> str:
    """Return the full name of a text that names a commit, such as refs/heads/main or a hash; '' for any other text."""
    if not _knows(root, text):
        return ""
    return _git(root, "rev-parse", "--symbolic-full-name", text).strip() or commit_of(root, text)


def checked_out(root: Path, commit: str) -> tuple[Path, list[str]]:
    """Return the folder of the cache that `root` is in a commit, and the sub-modules that are not at hand.

    The whole repository is written, for a folder of it may import from the others. Files are those of a checkout: with
    the revision's own attributes, with filters such as those of large files, and with what `git archive` leaves out
    (`export-ignore`). A link keeps its target: inside the repository the revision's own file, outside of it the file
    that it leads to today.

    Raises:
        OptionError: git cannot write the files, or the commit has no such folder.
    """
    try:
        top = Path(_git(root, "rev-parse", "--show-toplevel"))
        within = _git(root, "rev-parse", "--show-prefix").strip("/")
        absent = sorted(path for path, module in _modules(top, commit).items() if module is None)
        # Filters, links out of the repository and sub-modules that come to hand later make another folder.
        place = place_of(_git(top, "rev-parse", f"{commit}^{{tree}}"), [str(top), _filters(top), *absent])
        if not place.is_dir():
            _write_whole(top, commit, place)
    except (_GitError, OSError) as error:
        raise OptionError(
            wanted=f"the files of commit {commit[:10]} (--ts-baseline)",
            found=f"git: {error}" if isinstance(error, _GitError) else str(error),
            do="see that `git checkout` of that commit works; a partial clone fetches what it lacks",
        ) from error
    if not (place / within).is_dir():
        raise OptionError(
            wanted=f"the folder {within} in commit {commit[:10]} (--ts-baseline)",
            found="no such folder there",
            do="name a later revision",
        )
    return place / within, absent


def place_of(tree: str, more: Sequence[str]) -> Path:
    """Return the folder of the cache for the files of a tree, made under these conditions."""
    return cache.folder("revisions") / cache.key([tree, *more])


def _write_whole(top: Path, commit: str, place: Path) -> None:
    """Write a commit's files to `place`, all or nothing."""
    with tempfile.TemporaryDirectory(dir=place.parent) as folder:
        whole = Path(folder) / "files"
        _write(top, commit, whole, Path(folder))
        _mend_links(whole, top)
        try:
            whole.rename(place)
        except OSError:
            if not place.is_dir():
                raise  # else another session has already written the same files


def _write(repository: Path, commit: str, place: Path, folder: Path) -> None:
    """Write a commit's files, and those of its sub-modules that are at hand; `folder` holds an index of git's."""
    place.mkdir(parents=True, exist_ok=True)
    more = {
        "GIT_INDEX_FILE": str(folder / f"{commit}.index"),
        "GIT_DIR": _git(repository, "rev-parse", "--absolute-git-dir"),
        "GIT_WORK_TREE": str(place),
    }
    # A work tree of its own, so that attributes are the revision's and not those of the user's files.
    as_it_is = (
        "core.sparseCheckout=false",
        "submodule.recurse=false",
        "core.fsmonitor=false",
        "advice.detachedHead=false",
    )
    settings = [part for setting in as_it_is for part in ("-c", setting)]
    _git(place, *settings, "read-tree", "--reset", "-u", commit, more=more)
    for path, wanted in _submodules(repository, commit).items():
        module = _module(repository, path, wanted)
        if module is not None:
            _write(module, wanted, place / path, folder)


def _mend_links(whole: Path, top: Path) -> None:
    """Let links out of the repository lead to today's files, and absolute ones into it to the revision's own."""
    for folder, folders, files in os.walk(whole):
        for link in (Path(folder, name) for name in (*folders, *files) if Path(folder, name).is_symlink()):
            target, at = link.readlink(), top / link.parent.relative_to(whole)
            absolute = Path(os.path.normpath(at / target))
            inside = absolute.is_relative_to(top)
            if inside is target.is_absolute():  # else the link leads there already
                link.unlink()
                link.symlink_to(os.path.relpath(absolute, at) if inside else absolute)


def _filters(repository: Path) -> str:
    """Return the filters that the user's git applies to files."""
    try:
        return _git(repository, "config", "--get-regexp", r"^filter\.")
    except _GitError:
        return ""


def _submodules(repository: Path, commit: str) -> dict[str, str]:
    """Return the paths of a commit's sub-modules, and the commit of each."""
    listed = _git(repository, "ls-tree", "-r", "-z", "--full-tree", commit)
    rows = (row.split("\t", 1) for row in listed.split("\0") if row)
    return {path: told.split()[2] for told, path in rows if told.startswith(_SUBMODULE)}


def _modules(repository: Path, commit: str, prefix: str = "") -> dict[str, Path | None]:
    """Return the sub-modules of a commit by path, those within them included; None for one that is not at hand."""
    found: dict[str, Path | None] = {}
    for path, wanted in _submodules(repository, commit).items():
        module = found[prefix + path] = _module(repository, path, wanted)
        if module is not None:
            found |= _modules(module, wanted, f"{prefix}{path}/")
    return found


def _module(repository: Path, path: str, commit: str) -> Path | None:
    """Return a sub-module's repository where it is at hand and has the commit; else None."""
    place = repository / path
    return place if (place / ".git").exists() and _knows(place, commit) else None


class _GitError(Exception):
    """Git has failed; the text is its own."""


def _knows(repository: Path, revision: str) -> bool:
    try:
        _git(repository, "cat-file", "-e", f"{revision}^{{commit}}")
    except _GitError:
        return False
    return True


def _is_shallow(repository: Path) -> bool:
    try:
        return _git(repository, "rev-parse", "--is-shallow-repository") == "true"
    except _GitError:
        return False


def _git(repository: Path, *arguments: str, more: Mapping[str, str] | None = None) -> str:
    """Run git in a repository; return what it prints."""
    env = {name: value for name, value in os.environ.items() if name not in _OF_ONE_REPOSITORY}
    command: Sequence[str] = [shutil.which("git") or "git", "-C", str(repository), *arguments]
    try:
        answer = subprocess.run(
            command, env={**env, **(more or {})}, capture_output=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:  # ValueError: a NUL in an argument
        raise _GitError(str(error)) from error
    if answer.returncode:
        raise _GitError(answer.stderr.decode(errors="replace").strip())
    return os.fsdecode(answer.stdout).strip("\n")
