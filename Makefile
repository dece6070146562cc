# Thin on purpose: each target is one line that a person could type.
VENV ?= .venv
PYTHON ?= python3
PY := $(VENV)/bin/python
UV = $(shell PATH="$$PATH:$(abspath $(VENV))/bin"; command -v uv)
# By content and place: an unchanged environment is used as it is; one that another checkout made is linked anew. It is
# compiled, too: uv leaves that to the first import, and PYTHONDONTWRITEBYTECODE to every worker's (6 s instead of 2.5).
STAMP := $(VENV)/.installed-$(shell (cat pyproject.toml constraints.txt; pwd) | sha256sum | cut -c1-12)

DEVICE ?= cpu

# Every cell of the suite, each as short as checking it allows.
SHORT = --ts-processes=1 --ts-batch-sizes=1,16 --ts-init-rounds=1 --ts-cell-seconds=3 --ts-load-seconds=3 --ts-requests=32 --ts-baseline-seconds=20

# Where ARGS chooses tests, it may choose none of one of a target's sessions.
OR_NONE = $(if $(ARGS),|| test $$? -eq 5)

.PHONY: bench bench-sender bench-stages bench-stats bench-verdict dist matrix nightly test test-installed test-lowest test-rest lint setup

bench: setup
	$(PY) -m pytest -m cpu --ignore=tests/unit --ignore=tests/server --benchmark-autosave --ts-report=report $(ARGS)

bench-sender: setup
	$(PY) tools/qualify/sender.py $(ARGS)

bench-stages: setup
	$(PY) -m pytest tools/qualify/stages.py -q -s $(ARGS)

bench-stats: setup
	$(PY) tools/qualify/stats.py $(ARGS)

bench-verdict: setup
	$(PY) tools/qualify/verdict.py $(ARGS)

nightly: setup
	PYTHON=$(PY) ARGS='$(ARGS)' .ci/nightly $(DEVICE)

test: setup
	$(PY) -m pytest -m "harness and not server" -n 2 $(ARGS) $(OR_NONE)
	$(PY) -m pytest -m smoke --ts-quick $(ARGS) $(OR_NONE)

test-rest: setup
	$(PY) -m pytest -m "server and not smoke and (harness or cpu)" $(SHORT) $(ARGS)

# As users get it: PYTHON=python3.13 make test-installed
test-installed: setup
	UV=$(UV) PYTHON=$(PYTHON) ARGS='$(ARGS)' .ci/installed

test-lowest: setup
	UV=$(UV) PYTHON=$(PYTHON) LOWEST=1 ARGS='$(ARGS)' .ci/installed

matrix: setup
	UV=$(UV) $(PY) tools/matrix.py $(ARGS)

dist: setup
	$(UV) build -q -o build/dist .

lint: setup
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/mypy && $(VENV)/bin/lint-imports
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(VENV)/bin/zizmor --offline --quiet --config .github/zizmor.yml .github/workflows

setup: $(STAMP)

$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit("wanted: Python 3.11 or newer\nfound: %s\nwhat to do: make PYTHON=/path/to/python3.11" % sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	PATH="$$PATH:$(abspath $(VENV))/bin"; command -v uv >/dev/null || $(PY) -m pip install -q uv
	PATH="$$PATH:$(abspath $(VENV))/bin" uv pip install -q --python $(PY) -e '.[dev]' -c constraints.txt
	$(PY) -m compileall -qq -j 0 $(VENV)/lib || true # a package may hold templates that are no Python
	rm -f $(VENV)/.installed-* && touch $@
