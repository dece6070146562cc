"""Revisions of repositories of every kind: their files are written as a checkout writes them, or the message helps."""

from __future__ import annotations

import os
import subprocess

import pytest

from pytest_torchserve.compare import baseline, revision
from pytest_torchserve.errors import OptionError

LATIN = os.fsdecode(b"gr\xf6\xdfe.txt")
"""A name that is not UTF-8."""

IDENTITY = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "protocol.file.allow=always"]


def git(place, *arguments):
    """Run git there; return what it prints."""
    command = ["git", "-C", str(place), *IDENTITY, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(place, **files):
    """Write files (`__` stands for a slash, `_DOT_` for a dot) and commit all; return the commit."""
    for name, text in files.items():
        path = place / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(place, "add", "-A")
    git(place, "commit", "-qm", "x")
    return git(place, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """An empty repository in a folder with a space in its name; the cache is the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place = tmp_path / "my repository"
    place.mkdir()
    git(place, "init", "-q", "-b", "main")
    return place


def files_of(place):
    """Return every file below with its text, links followed; links to nothing are None."""
    paths = [path for path in place.rglob("*") if not path.is_dir()]
    return {str(path.relative_to(place)): path.read_text() if path.exists() else None for path in paths}


@pytest.mark.parametrize(
    ("link", "target", "text"),
    [
        ("suite/absolutely_within.py", "REPOSITORY/common/shared.py", "old"),
        ("suite/within.py", "handler.py", "old"),
        ("suite/beside.py", "../common/shared.py", "old"),
        ("suite/folder", "../common", "old"),
        ("suite/outside.txt", "../../outside/data.txt", "today"),
        ("suite/outside_folder", "../../outside", "today"),
        ("suite/absolute.txt", "ABSOLUTE", "today"),
    ],
)
def test_links_lead_where_they_led(repository, tmp_path, link, target, text):
    """A link inside the repository leads to the revision's own file, one out of it to the file that is there today."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "data.txt").write_text("today")
    target = target.replace("ABSOLUTE", str(tmp_path / "outside" / "data.txt")).replace("REPOSITORY", str(repository))
    (repository / "suite").mkdir()
    (repository / link).symlink_to(target)
    old = commit(repository, suite__handler_DOT_py="old", common__shared_DOT_py="old")
    commit(repository, suite__handler_DOT_py="new", common__shared_DOT_py="new")
    place, absent = revision.checked_out(repository / "suite", old)
    found = place / link.removeprefix("suite/")
    (file,) = found.iterdir() if found.is_dir() else [found]
    assert (file.read_text(), absent) == (text, [])
    assert git(repository, "status", "--porcelain") == ""


def test_a_link_to_nothing_stays_one(repository):
    """A broken link of a revision is no reason to refuse the revision."""
    (repository / "gone").symlink_to("nowhere")
    place, _ = revision.checked_out(repository, commit(repository, a="1"))
    assert files_of(place) == {"a": "1", "gone": None}


@pytest.mark.parametrize(
    ("attributes", "written"),
    [
        ("models export-ignore\n", "$Id$ two\n"),
        ("* export-ignore\n", "$Id$ two\n"),
        ("models/a.py export-subst\n", "$Id$ two\n"),
        ("models/a.py filter=upper\n", "$ID$ TWO\n"),
    ],
)
@pytest.mark.parametrize("today", ["", "* -filter\n", "* filter=upper\n"])
def test_attributes(repository, attributes, written, today):
    """Files that `git archive` leaves out or changes are those of a checkout; filters, as of large files, apply."""
    git(repository, "config", "filter.upper.smudge", "tr a-z A-Z")
    old = commit(repository, _DOT_gitattributes=attributes, models__a_DOT_py="$Id$ two\n")
    commit(repository, models__a_DOT_py="new")
    commit(repository, _DOT_gitattributes=today)
    place, _ = revision.checked_out(repository, old)
    assert files_of(place) == {".gitattributes": attributes, "models/a.py": written}


@pytest.mark.parametrize("name", ["größe.txt", "two words", "-n", "line\nbreak", "tab\there", "quote\"d'", LATIN])
def test_names_of_files(repository, name):
    """Every name that git can hold is written."""
    (repository / name).write_text("x")
    place, _ = revision.checked_out(repository, commit(repository, a="1"))
    assert files_of(place) == {name: "x", "a": "1"}


@pytest.fixture
def with_modules(repository, tmp_path):
    """Return a repository with a sub-module in a sub-module, and its first commit; both have changed since."""
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    for place in (inner, outer):
        place.mkdir()
        git(place, "init", "-q")
    commit(inner, deep_DOT_py="old")
    git(outer, "submodule", "add", "-q", str(inner), "inner")
    commit(outer, model_DOT_py="old")
    git(repository, "submodule", "add", "-q", str(outer), "outer")
    git(repository, "submodule", "update", "-q", "--init", "--recursive")
    old = commit(repository, top="old")
    commit(repository / "outer", model_DOT_py="new")
    commit(repository, top="new")
    return repository, old


def test_sub_modules_are_those_of_the_revision(with_modules):
    """A sub-module, and one within it, have the files of the commits that the revision names."""
    repository, old = with_modules
    place, absent = revision.checked_out(repository, old)
    found = files_of(place)
    assert (found["top"], found["outer/model.py"], found["outer/inner/deep.py"]) == ("old", "old", "old")
    assert absent == []


def test_folders_and_sub_modules_of_every_name(repository, tmp_path):
    """A repository and a sub-module whose names are not UTF-8 are written; one that is not at hand is named legibly."""
    place = repository.rename(tmp_path / LATIN)
    inner = tmp_path / "inner"
    inner.mkdir()
    git(inner, "init", "-q", "-b", "main")
    commit(inner, model_DOT_py="old")
    git(place, "submodule", "add", "-q", "--name", "inner", str(inner), LATIN)
    old = commit(place, top="old")
    written, absent = revision.checked_out(place, old)
    assert (written / LATIN / "model.py").read_text() == "old"
    assert absent == []
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(place), str(clone))
    (notice,) = baseline.parse("main", clone).notices
    assert "udcf6" in notice
    assert notice.isprintable()


def test_a_sub_module_that_is_not_at_hand_is_told(with_modules, tmp_path):
    """A clone without sub-modules can be compared; what is empty is told, and is there once it has been fetched."""
    repository, old = with_modules
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(repository), str(clone))
    told = baseline.parse(old, clone)
    assert not list((told.path / "outer").glob("*"))
    (notice,) = told.notices
    assert notice.startswith(
        f"{old} ({old[:10]}): the sub-module outer is not at hand, and its folder is empty (git sub"
    )
    git(clone, "checkout", "-q", old)
    git(clone, "submodule", "update", "-q", "--init")
    told = baseline.parse(old, clone)
    assert (told.path / "outer" / "model.py").read_text() == "old"
    (notice,) = told.notices
    assert "the sub-module outer/inner is not at hand" in notice
    git(clone, "submodule", "update", "-q", "--init", "--recursive")
    told = baseline.parse(old, clone)
    assert (told.path / "outer" / "inner" / "deep.py").read_text() == "old"
    assert told.notices == []


@pytest.mark.parametrize("asked", ["HEAD~1", "main~1", "v1"])
def test_a_shallow_clone(repository, tmp_path, asked):
    """What a shallow clone lacks is refused with the setting of CI that fetches it."""
    commit(repository, a="1")
    git(repository, "tag", "v1")
    commit(repository, a="2")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "--depth=1", "--no-tags", repository.as_uri(), str(clone))
    with pytest.raises(
        OptionError, match=r"this clone is shallow(.|\n)*git fetch --unshallow; in CI, set `fetch-depth: 0`"
    ):
        baseline.parse(asked, clone)
    git(clone, "fetch", "-q", "--unshallow", "--tags")
    assert (baseline.parse(asked, clone).path / "a").read_text() == "1"


def test_a_branch_that_only_the_remote_has(repository, tmp_path):
    """A clone of another branch knows `main` as `origin/main`, and the message says so."""
    commit(repository, a="1")
    git(repository, "branch", "feature")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "-b", "feature", repository.as_uri(), str(clone))
    with pytest.raises(OptionError, match="write --ts-baseline=origin/main: "):
        baseline.parse("main", clone)
    assert (baseline.parse("origin/main", clone).path / "a").read_text() == "1"


def test_a_folder_that_is_named_like_a_branch(repository, monkeypatch):
    """A folder without archives is not meant; of a folder with archives and a branch, neither is guessed."""
    commit(repository, main__readme="1")
    monkeypatch.chdir(repository)
    assert baseline.parse("main", repository).kind == "revision"
    (repository / "main" / "x.mar").touch()
    with pytest.raises(
        OptionError, match=r"found: 'main' is both\nwhat to do: write \./main for the folder, or refs/heads/main"
    ):
        baseline.parse("main", repository)
    assert baseline.parse("./main", repository).kind == "archives"
    git(repository, "tag", "v1")
    (repository / "v1").mkdir()
    (repository / "v1" / "x.mar").touch()
    with pytest.raises(OptionError, match=r"or refs/tags/v1 for the revision"):
        baseline.parse("v1", repository)
    assert baseline.parse("refs/heads/main", repository).kind == "revision"


def test_a_revision_without_the_folder(repository):
    """A suite whose folder came later than the revision is refused before anything starts."""
    old = commit(repository, a="1")
    commit(repository, suite__conftest_DOT_py="1")
    with pytest.raises(OptionError, match=r"wanted: the folder suite in commit \w{10}"):
        revision.checked_out(repository / "suite", old)


def test_two_clones_do_not_share_links(repository, tmp_path):
    """A link out of the repository leads to the files beside the clone that asks."""
    (repository / "data.txt").symlink_to("../data.txt")
    old = commit(repository, a="1")
    texts = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data.txt").write_text(name)
        git(tmp_path, "clone", "-q", str(repository), str(tmp_path / name / "clone"))
        place, _ = revision.checked_out(tmp_path / name / "clone", old)
        texts.append((place / "data.txt").read_text())
    assert texts == ["one", "two"]


def test_the_users_git_settings_hold(repository, monkeypatch):
    """Settings of the environment that are of no single repository, such as a filter's, are git's own here as well."""
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "filter.upper.smudge")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "tr a-z A-Z")
    place, _ = revision.checked_out(repository, commit(repository, _DOT_gitattributes="a filter=upper\n", a="x"))
    assert (place / "a").read_text() == "X"


def test_a_sparse_checkout_is_written_whole(repository):
    """Files that the user's own work tree leaves out are part of the revision."""
    old = commit(repository, a="1", deep__b="2")
    git(repository, "sparse-checkout", "set", "--no-cone", "a")
    assert not (repository / "deep").exists()
    place, _ = revision.checked_out(repository, old)
    assert files_of(place) == {"a": "1", "deep/b": "2"}
    assert git(repository, "status", "--porcelain") == ""


def test_a_hook_of_gits_runs_the_tests(repository, tmp_path, monkeypatch):
    """The variables that git sets for its hooks name another repository, and are not followed."""
    old = commit(repository, a="1")
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git" / "index"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    place, _ = revision.checked_out(repository, old)
    assert files_of(place) == {"a": "1"}


def test_a_linked_work_tree(repository, tmp_path):
    """A work tree of `git worktree` has its commits in another folder."""
    old = commit(repository, a="1")
    commit(repository, a="2")
    git(repository, "worktree", "add", "-q", "--detach", str(tmp_path / "tree"))
    place, _ = revision.checked_out(tmp_path / "tree", old)
    assert files_of(place) == {"a": "1"}


def test_a_commit_whose_files_are_gone(repository):
    """A repository that lacks a file's content is refused with git's own words, and leaves nothing half written."""
    old = commit(repository, a="1", b="2")
    blob = git(repository, "rev-parse", f"{old}:a")
    (repository / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(OptionError, match=r"wanted: the files of commit \w{10} \(--ts-baseline\)\nfound: git: "):
        revision.checked_out(repository, old)
    folder = baseline.revision.cache.folder() / "revisions"
    assert not [path for path in folder.iterdir() if path.is_dir()]
