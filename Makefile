# Everything there is to do here, one target each; .ci/run calls these and nothing else.
# PYTHON=python3.13 chooses the Python, VENV=folder the environment, ARGS="..." adds arguments.

VENV ?= .venv
export PYTHON VENV

python = "$(VENV)/bin/python"

.PHONY: help run test test-newest check lint format types floors deps lock-check lock upgrade wheel clean
.PHONY: run-environment dev-environment

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

run: run-environment ## set up, start the router with stand-in targets, send one event, serve until Ctrl-C
	@exec $(python) scripts/foreground.py $(python) -m router demo $(ARGS)

test: dev-environment ## set up and run the tests
	@$(python) -m pytest $(ARGS)

test-newest: ## the tests on the newest Python here too, in an environment of its own
	@newest=$$(scripts/python --newest) && if [ "$$newest" = "$$(scripts/python)" ]; then \
		echo "$$newest is the newest Python here, and the one that make test takes"; \
	else \
		$(MAKE) --no-print-directory test PYTHON="$$newest" VENV=.tools/venv-newest; \
	fi

check: lint types floors deps lock-check ## all of the checks below that change nothing

lint: dev-environment ## style and likely mistakes: ruff, and hadolint for the Dockerfile
	@$(python) -m ruff check
	@$(python) -m ruff format --check
	@"$(VENV)/bin/hadolint" Dockerfile

format: dev-environment ## bring the code into the one format
	@$(python) -m ruff format
	@$(python) -m ruff check --fix

types: dev-environment ## mypy, strict
	@$(python) -m mypy

floors: dev-environment ## who may import whom
	@"$(VENV)/bin/lint-imports" --no-logo

deps: dev-environment ## declared dependencies that nobody needs, and needed ones that are not declared
	@$(python) -m deptry router

lock-check: dev-environment ## whether the locks are what pyproject.toml leads to
	@scripts/lock --check

lock: ## bring the locks up to date with pyproject.toml; what fits stays as it is
	@scripts/lock

upgrade: ## take the newest version of every dependency into the locks
	@scripts/lock --upgrade

wheel: dev-environment ## build the wheel, install it into an environment of its own and try it
	@scripts/try-wheel

clean: ## remove environments, tools and caches
	@rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist build
	@find . -name __pycache__ -prune -exec rm -rf {} +

run-environment:
	@scripts/setup run

dev-environment:
	@scripts/setup dev
