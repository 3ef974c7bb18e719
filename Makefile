# `make run` is all it takes: every target sets up what it needs, once.
#   make run PYTHON=python3.12      another interpreter
#   make run VENV=~/venvs/ragline   another place for what is installed

SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))
PYTHON ?= $(shell for python in python3 python3.11 python3.12; do \
    "$$python" -c '$(SUPPORTED)' 2>/dev/null && echo "$$python" && exit; done; echo python3)
VENV ?= .venv
BIN := $(abspath $(VENV))/bin
FAST := not slow and not pipeline and not prefect and not browser

export PATH := $(BIN):$(PATH)
export DO_NOT_TRACK := true
export DVC_NO_ANALYTICS := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export PREFECT_HOME := $(CURDIR)/.prefect
# The question as typed: neither make nor the shell reads anything into it.
export RAGLINE_QUESTION := $(value Q)

.DEFAULT_GOAL := help
.PHONY: help run ask question flow sweep nightly night doctor mlflow check test deps clean
.DELETE_ON_ERROR:

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.ragline-base ## build whatever is out of date: data, index, models, report
	$(ready)
	@python -m dvc repro
	@ragline summary

ask: question $(VENV)/.ragline-base ## answer a question: make ask Q="How do I merge two tables?"
	@ragline ask "$$RAGLINE_QUESTION"

question:
	@test -n "$$RAGLINE_QUESTION" || { echo 'Makefile: no question; ask one with `make ask Q="…"`' >&2; exit 1; }

flow: $(VENV)/.ragline-flows ## the same as run, watched by Prefect: states, logs, retries, timeouts
	$(ready)
	@python -m flows.pipeline

sweep: $(VENV)/.ragline-flows ## try variants, chosen on dev: make sweep P="chunk.max_tokens=128,256"
	@test -n "$(P)" || { echo 'Makefile: no params; name some with `make sweep P="chunk.max_tokens=128,256"`' >&2; exit 1; }
	$(ready)
	@python -m flows.sweep $(P)

nightly: $(VENV)/.ragline-flows ## run every night what prefect.yaml says, while this runs; Ctrl-C ends it
	$(ready)
	@python -m flows.serve

night: $(VENV)/.ragline-flows ## one such night now: sources, pipeline, promotion, word of it
	$(ready)
	@python -m flows.nightly

doctor: $(VENV)/.ragline-base ## is everything fit to run: versions, disk, DVC, schedules, endpoint
	@ragline doctor

mlflow: $(VENV)/.ragline-base ## what `ragline publish` has told MLflow, in a browser: http://127.0.0.1:5000
	@mlflow server --backend-store-uri sqlite:///mlflow.db --default-artifact-root mlruns --host 127.0.0.1 --workers 1

check: $(VENV)/.ragline-dev ## style, types and the fast tests, about a minute
	ruff check .
	ruff format --check .
	mypy
	pytest -q -n 2 --dist loadscope --no-loadscope-reorder -m '$(FAST)'

test: $(VENV)/.ragline-dev ## every test, also those that run DVC, Prefect and a browser
	pytest -q -n 2 --dist loadscope --no-loadscope-reorder

deps: $(VENV)/.ragline-dev ## bring the code deps in dvc.yaml in line with the imports
	@python -m tools.deps

clean: ## remove caches and unfinished training; outputs and what is installed stay
	rm -rf .cache .prefect .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

# --- set-up ----------------------------------------------------------------------------------------

# Each level holds the one before it, so a stamp stands for those below it, too.
$(VENV)/.ragline-base: pyproject.toml constraints.txt
	$(call install,.)
	@touch $@

$(VENV)/.ragline-flows: pyproject.toml constraints.txt
	$(call install,.[flows])
	@touch $(VENV)/.ragline-base $@

$(VENV)/.ragline-dev: pyproject.toml constraints.txt
	$(call install,.[flows$(comma)dev])
	@touch $(VENV)/.ragline-base $(VENV)/.ragline-flows $@

comma := ,

# A copy without git's folder, as from an archive, works too; and so does one where a run was killed.
define ready
@test -e .git || python -m dvc config --local core.no_scm true
@python -m ragline.runtime.locks
endef

define install
@test -x $(BIN)/pip || { $(call supported,$(PYTHON)) && $(PYTHON) -m venv $(VENV); }
@$(call supported,$(BIN)/python)
@echo 'Installing $(1) into $(VENV): a few minutes the first time'
@python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '$(1)'
endef

# One line instead of a traceback for an interpreter that is too old, too new or not there.
supported = { "$(1)" -c '$(SUPPORTED)' 2>/dev/null || { echo "Makefile: Python 3.11 or 3.12 needed, $(1) is \
$$("$(1)" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null || echo 'not there'); \
name another with \`make $(or $(MAKECMDGOALS),run) PYTHON=python3.11\`" >&2; exit 1; }; }
