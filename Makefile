# Everything there is to do here, one target each; .ci/run calls these and nothing else.
# PYTHON=python3.13 chooses the Python, VENV=folder the environment, ARGS="..." adds arguments.

VENV ?= .venv
export PYTHON VENV
# Else each process of a test run compiles all of it once more: a fifth of its time.
unexport PYTHONDONTWRITEBYTECODE

python = "$(VENV)/bin/python"

.PHONY: help run test test-long test-newest check lint format types floors deps lock-check lock upgrade wheel wheels clean
.PHONY: run-environment dev-environment docs walk monitoring audit

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

run: run-environment ## set up, start the router with stand-in targets, send one event, serve until Ctrl-C
	@exec $(python) scripts/foreground.py $(python) -m router demo $(ARGS)

test: dev-environment ## set up and run the tests
	@$(python) -m pytest $(ARGS)

test-long: dev-environment ## what make test does in small, in full
	@LONG=1 $(python) -m pytest -n 2 -o faulthandler_timeout=240 $(ARGS) tests/contract/test_contract.py \
		tests/transport/test_transport.py tests/transport/test_engine_leaks.py \
		tests/transport/test_engine_agreement.py \
		tests/config/test_config.py::test_patterns_cost_what_they_are \
		tests/config/test_legible.py tests/model/test_model.py \
		tests/process/test_inherited.py tests/process/test_servers.py tests/ops/test_api.py \
		tests/process/test_starting.py tests/archive/test_trace.py::test_a_kill_at_any_moment_leaves_what_can_be_traced \
		tests/store/test_upgrade.py::test_an_upgrade_survives_a_kill_anywhere \
		tests/whole/test_canary.py::test_serve tests/whole/test_ci_files.py tests/whole/test_heavy.py
	@LONG=1 $(python) -m pytest -n 2 -o faulthandler_timeout=240 -m "hypothesis and not postgresql" $(ARGS)

test-newest: ## the tests on the newest Python here too, in an environment of its own
	@newest=$$(scripts/python --newest) && if [ "$$newest" = "$$(scripts/python)" ]; then \
		echo "$$newest is the newest Python here, and the one that make test takes"; \
	else \
		$(MAKE) --no-print-directory test PYTHON="$$newest" VENV=.tools/venv-newest; \
	fi

.PHONY: test-compiled

# What judges files, and no behaviour, is left out.
test-compiled: dev-environment ## the tests on the compiled wheel, every crash point and a short chaos among them
	@scripts/compiled-tree
	@cd .tools/compiled && CRASH_POINTS=all "$(abspath $(VENV))/bin/python" -m pytest --ignore tests/whole $(ARGS)
	@cd .tools/compiled && "$(abspath $(VENV))/bin/python" -m tests.chaos --seed 20 --seconds 10 --pace 40

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

wheel: dev-environment ## build the wheel into dist/ and try it in an environment of its own; COMPILED=1 for the compiled one
	@COMPILED=$(COMPILED) scripts/try-wheel

# A wheel is for one minor version of Python.
wheels: ## the compiled wheel for each Python of this machine from 3.11 to 3.14; says which are not here
	@for version in 3.11 3.12 3.13 3.14; do \
		if "python$$version" -c "" 2>/dev/null; then \
			$(MAKE) --no-print-directory wheel COMPILED=1 "PYTHON=python$$version" "VENV=.tools/venv-$$version" || exit; \
		else echo "python$$version is not here, and so no wheel for it"; fi; \
	done; ls dist

clean: ## remove environments, tools and caches
	@rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist build
	@find . -name __pycache__ -prune -exec rm -rf {} +

run-environment:
	@scripts/setup run

dev-environment:
	@scripts/setup dev

.PHONY: browser

# A browser's own environment: its driver is large, and nothing else needs it.
browser: ## the page in a real browser: each room, both languages, what axe finds; installs one, as root
	@VENV=.tools/venv-browser scripts/setup browser
	@scripts/chromium >/dev/null
	@.tools/venv-browser/bin/python -m pytest -n 2 --dist loadfile $(ARGS) tests/browser

audit: dev-environment ## licences, a bill of materials, known vulnerabilities where they can be asked for
	@scripts/audit

.PHONY: api-fuzz

api-fuzz: dev-environment ## Schemathesis against a real router's API; ARGS="--seed 2"
	@VENV=.tools/venv-fuzz scripts/setup fuzz
	@$(python) -m scripts.api_fuzz .tools/venv-fuzz --max-examples $${EXAMPLES:-15} --workers 2 $(ARGS)

docs: dev-environment ## bring up to date what is made from code
	@$(python) -m scripts.reference

.PHONY: golden

# The Chinese pages come last: they copy code blocks of pages that are written before.
golden: dev-environment ## write anew what tests compare with kept texts, and show what has changed
	@UPDATE_GOLDEN=1 $(python) -m pytest -n 0 tests/whole/test_routes_page.py tests/whole/test_happenings_page.py \
		tests/config/test_config.py::test_fault tests/whole/test_chinese.py $(ARGS)
	@git --no-pager diff --stat

walk: dev-environment ## which files one event passes, and how often it goes from one to another
	@$(python) -m scripts.walk

monitoring: dev-environment ## a router watched by Prometheus and Alertmanager: rules, alerts, every query
	@MONITORING=$$(scripts/monitoring) && export MONITORING && \
		$(python) -m pytest -n 0 -rs tests/whole/test_monitoring.py $(ARGS)

.PHONY: chaos chaos-short crash-points

chaos: dev-environment ## everything that goes wrong, on real processes: ARGS="--seed 1 --runs 20 --pace 60"
	@$(python) -m tests.chaos $(ARGS)

chaos-short: dev-environment ## one run of it, with many events in hand; under a minute
	@$(python) -m tests.chaos --seed 20 --seconds 10 --pace 40

crash-points: dev-environment ## the router killed before each of its commits, sends and replies; ENGINE=httpx too
	@scripts/strace -V >/dev/null
	@CRASH_POINTS=all $(python) -m pytest tests/store/test_crash.py $(ARGS)

.PHONY: loris soak soak-short container
loris: dev-environment ## 2,000 slow callers at a time, and honest ones among them
	@LORIS=2000 $(python) -m pytest -n 0 -o faulthandler_timeout=300 tests/web/test_loris.py

soak: dev-environment ## mixed load for half an hour, and whether anything grows; ARGS="--minutes 5"
	@$(python) -m bench.soak $(ARGS)

soak-short: dev-environment ## the same for a minute
	@$(python) -m bench.soak --minutes 0.9 --round 4 --rate 30

container: dev-environment ## build the image and try it, as root on Debian; ARGS=--install fetches podman
	@scripts/container-test $(ARGS)

.PHONY: base deploy-check
base: ## ask the registry which image the Dockerfile's tag is now, and write its digest there
	@scripts/renew-base

deploy-check: dev-environment ## build what is in deploy/ as its users do, and hold it to schemas and to the router
	@scripts/deploy-check $(ARGS)

.PHONY: systemd
systemd: dev-environment ## the units in deploy/: what systemd's tools say, and under a systemd of its own, as root
	@LONG=1 $(python) -m pytest -n 0 -rs -o faulthandler_timeout=300 tests/whole/test_systemd.py $(ARGS)

.PHONY: faults power-cut day

faults: dev-environment ## what befalls the store: full, locked, hanging and lost disks, a million events; best as root
	@scripts/strace -V >/dev/null
	@LONG=1 $(python) -m pytest -n 0 -rs -o faulthandler_timeout=900 tests/store/test_faults.py $(ARGS)

power-cut: dev-environment ## the power of a file system cut under load, as root; ROUNDS=25 of them
	@LONG=1 $(python) -m pytest -n 0 -rs -o faulthandler_timeout=300 tests/store/test_power_cut.py $(ARGS)

day: dev-environment ## the real schedules of a day in a minute, and clocks that jump
	@scripts/libfaketime >/dev/null
	@LONG=1 $(python) -m pytest -n 0 -rs -o faulthandler_timeout=300 tests/store/test_day.py $(ARGS)

.PHONY: postgresql chaos-nodes

postgresql: dev-environment ## all that needs a PostgreSQL server, which the tests start; installs one, as root
	@scripts/postgresql >/dev/null
	@LONG=1 POSTGRESQL=required $(python) -m pytest -n 2 -m postgresql -rs -o faulthandler_timeout=300 $(ARGS)

chaos-nodes: dev-environment ## two nodes on PostgreSQL, both struck, and their server, and the ways to it; half a minute
	@scripts/postgresql >/dev/null
	@$(python) -m tests.chaos --store postgresql --seed 1 --seconds 10 $(ARGS)

.PHONY: chaos-upgrade
chaos-upgrade: dev-environment ## a node of an older version beside one of this: BEFORE=commit
	@scripts/postgresql >/dev/null
	@rm -rf .tools/before && mkdir -p .tools/before && git archive "$(BEFORE)" | tar -x -C .tools/before
	@CHAOS_BEFORE=.tools/before $(python) -m tests.chaos --store postgresql --seed 1 --seconds 10 $(ARGS)

.PHONY: receivers
receivers: dev-environment ## run the receivers of docs/receivers/, each in its framework, and probe them
	@scripts/receivers $(ARGS)

.PHONY: torture

torture: dev-environment ## many random bytes from callers and targets
	@TORTURE=$${TORTURE:-20} $(python) -m pytest -n 4 -o faulthandler_timeout=900 $(ARGS) \
		tests/whole/test_torture.py tests/web/test_connection.py tests/transport/test_engine_agreement.py \
		-k "pieces or whatever_comes or read_alike or any_answer or next_event or from_both"

.PHONY: bench growth profile

bench: dev-environment ## the router, compiled too, beside nginx with Lua, Node.js and the obvious build; QUICK=1 for a minute
	@scripts/bench-tools
	@$(python) -m bench.compare $(if $(QUICK),--quick) $(ARGS)

growth: dev-environment ## how the cost of an event grows
	@scripts/bench-tools
	@$(python) -m bench.growth $(if $(QUICK),--quick) $(ARGS)

profile: dev-environment ## what each hop of an event's path costs
	@scripts/bench-tools
	@$(python) -m bench.profile $(ARGS)
