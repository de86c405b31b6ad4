# Everything that one does with a checkout of Dan9. `make help` lists it.
#
#   make run      see it at work       make test     prove that it works
#
# PYTHON=python3.12 chooses the interpreter; DAN9_PURE=1 leaves the kernel
# uncompiled, as does a machine without a C compiler.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/ready
# Tests that run on the compiled kernel too; all others run on its source only.
BOTH   := $(wildcard tests/kernel tests/contracts tests/stateful tests/edge tests/daemons/test_pool.py tests/test_examples.py)
TRIALS := $(notdir $(basename $(wildcard tests/trials/*.py)))
PYTEST  = $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help run test check format bench compiled pure clean coverage

help:
	@echo "make run      create .venv, install Dan9, boot a system and show it at work (ONCE=1: then stop)"
	@echo "make test     create .venv if need be and run the whole test suite"
	@echo "make check    lint, types, layers and spelling only"
	@echo "make format   format the sources"
	@echo "make bench    measure, and keep the tables in build/benchmarks/"
	@echo "make compiled / make pure   compile the kernel in place / take the compiled modules away"
	@echo "make $(or $(TRIALS),…)   longer trials: tests/trials/"
	@echo "make clean    remove everything that make has made"

# The environment is made again only when what it holds has changed. pip gets
# no compiler to run: every dependency comes as a wheel.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit(f"dan9: Python 3.11 or later is needed, $(PYTHON) is {v[0]}.{v[1]}; name another one: make PYTHON=python3.12 …")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "dan9: Python's venv module is missing; install it (Debian: apt install python3-venv)" >&2; exit 1; }
	@echo "dan9: installing into $(VENV) (about a minute the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt hatchling
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $(READY)

# hatch_build.py compiles only what has changed, so this is cheap to ask for.
compiled: $(READY)
	@$(BIN)/python hatch_build.py in-place $(if $(CI),--required)

pure: $(READY)
	@$(BIN)/python hatch_build.py pure

run: compiled
	@$(BIN)/python examples/basic.py $(if $(ONCE),--once)

# What rests on the kernel runs on the compiled kernel, unless there is none
# (DAN9_PURE=1, no compiler); then the whole suite runs on the source, whatever
# became of the first, so that its closing line is the last. Either failing fails.
test: $(READY)
	@status=0; \
	if [ "$(DAN9_PURE)" != 1 ] && [ -n "$(BOTH)" ]; then \
		if ! $(MAKE) --no-print-directory compiled; then status=1; \
		elif [ "$$($(BIN)/python hatch_build.py state)" != pure ]; then \
			echo "dan9: on the compiled kernel:"; \
			$(PYTEST) $(BOTH) $(ARGS) || status=$$?; \
		fi; \
		[ $$status = 0 ] || echo "dan9: that failed ($$status); the outcome will be failure"; \
		echo "dan9: on the source:"; \
	fi; \
	DAN9_PURE=1 $(PYTEST) $(ARGS) || status=$$?; \
	exit $$status

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

format: $(READY)
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

coverage: $(READY)
	@$(BIN)/coverage erase
	@DAN9_PURE=1 $(BIN)/coverage run -m pytest -q
	@$(BIN)/coverage combine -q
	@$(BIN)/coverage report

bench: compiled
	@$(BIN)/python -m benchmarks $(ARGS)

# Longer trials, by name: make kill runs tests/trials/kill.py.
.PHONY: $(TRIALS)
$(TRIALS): compiled
	@$(BIN)/python tests/trials/$@.py

clean:
	@test ! -x $(BIN)/python || $(BIN)/python hatch_build.py pure >/dev/null
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.*
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
