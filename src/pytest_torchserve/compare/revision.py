"""The files of a git revision, written to the cache as a checkout would write them; the repository is not touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_torchserve.errors import OptionError
from pytest_torchserve.inputs import cache

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TIMEOUT_S = 600
_SUBMODULE = "160000"
"""The mode of a sub-module in a tree."""

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
    do = "write for example --ts-baseline=HEAD, --ts-baseline=main~3 or --ts-baseline=saved_store"
    if _knows(root, "HEAD") and _knows(root, f"origin/{text}"):
        do = f"write --ts-baseline=origin/{text}: this clone has no branch of that name of its own"
    elif _is_shallow(root):
        words += ", and this clone is shallow: earlier commits are not in it"
        do = "fetch them: git fetch --unshallow; in CI, set `fetch-depth: 0` where the repository is checked out"
    raise OptionError(wanted=WANTED, found=f"{text!r}: no such folder, and {words}", do=do)


def names_commit(root: Path, text: str) -> bool:
    """Return whether a text names a commit of the repository at `root`."""
    return _knows(root, text)


def checked_out(root: Path, commit: str) -> tuple[Path, list[str]]:
    """Return the folder of the cache that `root` is in a commit, and the sub-modules that are not at hand.

    The whole repository is written, for a folder of it may import from the others. Files are those of a checkout: also
    those that `git archive` leaves out (`export-ignore`), and with filters such as those of large files. A link keeps
    its target: inside the repository the revision's own file, outside of it the file that it leads to today.

    Raises:
        OptionError: git cannot write the files.
    """
    try:
        top = Path(_git(root, "rev-parse", "--show-toplevel"))
        within = _git(root, "rev-parse", "--show-prefix").strip("/")
        modules = {path: _module(top, path, wanted) for path, wanted in _submodules(top, commit).items()}
        absent = sorted(path for path, repository in modules.items() if repository is None)
        # A sub-module that comes to hand later makes another folder.
        place = cache.folder() / "revisions" / cache.key([_git(top, "rev-parse", f"{commit}^{{tree}}"), *absent])
        if not place.is_dir():
            _write_whole(top, commit, place)
    except _GitError as error:
        raise OptionError(
            wanted=f"the files of commit {commit[:10]} (--ts-baseline)",
            found=f"git: {error}",
            do="see that `git checkout` of that commit works; a partial clone fetches what it lacks",
        ) from error
    return place / within, absent


def _write_whole(top: Path, commit: str, place: Path) -> None:
    """Write a commit's files to `place`, all or nothing."""
    place.parent.mkdir(parents=True, exist_ok=True)
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
    index = {"GIT_INDEX_FILE": str(folder / f"{commit}.index")}
    _git(repository, "read-tree", commit, more=index)
    _git(repository, "checkout-index", "--all", "--force", f"--prefix={place}/", more=index)
    for path, wanted in _submodules(repository, commit).items():
        module = _module(repository, path, wanted)
        if module is not None:
            _write(module, wanted, place / path, folder)


def _mend_links(whole: Path, top: Path) -> None:
    """Let links that leave the repository lead to where they lead from the repository's own place."""
    for folder, folders, files in os.walk(whole):
        for link in (Path(folder, name) for name in (*folders, *files) if Path(folder, name).is_symlink()):
            target = link.readlink()
            if target.is_absolute():
                continue
            here = Path(os.path.normpath(link.parent / target))
            if not here.is_relative_to(whole):
                outside = os.path.normpath(top / link.parent.relative_to(whole) / target)
                link.unlink()
                link.symlink_to(outside)


def _submodules(repository: Path, commit: str) -> dict[str, str]:
    """Return the paths of a commit's sub-modules, and the commit of each."""
    listed = _git(repository, "ls-tree", "-r", "-z", "--full-tree", commit)
    rows = (row.split("\t", 1) for row in listed.split("\0") if row)
    return {path: told.split()[2] for told, path in rows if told.startswith(_SUBMODULE)}


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
    # A hook of git's that runs the tests sets variables that would name its own repository here.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command: Sequence[str] = [shutil.which("git") or "git", "-C", str(repository), *arguments]
    try:
        answer = subprocess.run(
            command, env={**env, **(more or {})}, capture_output=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _GitError(str(error)) from error
    if answer.returncode:
        raise _GitError(answer.stderr.decode(errors="replace").strip())
    return os.fsdecode(answer.stdout).strip("\n")
