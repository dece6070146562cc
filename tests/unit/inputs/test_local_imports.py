"""What a reference imports from its own folder decides its answers, and so is part of their key."""

from __future__ import annotations

from pytest_torchserve.inputs.local_imports import local_imports


def test_modules_and_packages_directly_or_not(tmp_path):
    """Modules, relative imports and whole packages are found through each other; what lies elsewhere is not."""
    files = {
        "reference.py": "import os\nimport helper, gone\nfrom pack.sub import x\n",
        "helper.py": "from . import second\nimport helper\n",
        "second.py": "def f():\n    import third\n",
        "third.py": "(\n",
        "pack/__init__.py": "",
        "pack/sub.py": "x = 1\n",
        "unused.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    found = local_imports([tmp_path / "reference.py"], [tmp_path])
    assert [path.relative_to(tmp_path).as_posix() for path in found] == [
        "helper.py",
        "pack/__init__.py",
        "pack/sub.py",
        "second.py",
        "third.py",
    ]
