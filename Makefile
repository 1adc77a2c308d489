# All tasks of this repository, one target each. .ci/run calls only these.
# PYTHON=python3.13 chooses the Python, VENV=folder the environment, ARGS="..." adds arguments.

VENV ?= .venv
export PYTHON VENV
# Otherwise each process of a test run compiles everything again, which takes a fifth of its time.
unexport PYTHONDONTWRITEBYTECODE

python = "$(VENV)/bin/python"

.PHONY: help run test test-long test-newest check lint format types floors deps lock-check lock upgrade wheel wheels clean
.PHONY: run-environment dev-environment docs walk monitoring audit

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

run: run-environment ## set up, start the router with stand-in targets, send sample events, serve until Ctrl-C
	@exec $(python) scripts/foreground.py $(python) -m router demo $(ARGS)

test: dev-environment ## set up and run the tests
	@$(python) -m pytest $(ARGS)

# Only what LONG=1 changes: other loops and servers, more steps, all examples. Most of these wait,
# but for the last, which measures beside nothing else.
test-long: dev-environment ## run what make test leaves out: all examples, other loops and servers
	@LONG=1 $(python) -m pytest -n 4 -o faulthandler_timeout=240 $(ARGS) tests/contract/test_contract.py \
		tests/transport/test_transport.py \
		tests/transport/test_engine_agreement.py::test_an_answer_in_two_pieces_is_the_same_answer \
		tests/config/test_config.py::test_patterns_cost_what_they_are \
		tests/config/test_no_secret.py tests/model/test_model.py tests/process/test_servers.py \
		tests/process/test_inherited.py::test_restarts_under_load_fail_no_request \
		tests/process/test_starting.py::test_a_signal_at_any_moment_of_a_start_ends_it \
		tests/store/test_owner.py::test_a_kill_at_any_step_leaves_the_file_to_the_next_process \
		tests/store/test_upgrade.py::test_an_upgrade_survives_a_kill_anywhere \
		tests/whole/test_canary.py::test_serve tests/whole/test_ci_files.py
	@LONG=1 $(python) -m pytest -n 2 -o faulthandler_timeout=240 -m "hypothesis and not postgresql" $(ARGS)
	@LONG=1 $(python) -m pytest -n 0 tests/whole/test_heavy.py $(ARGS)

# Without the tests of pages and of files in deploy/, which no Python changes.
test-newest: ## run the tests on the newest Python as well, in an environment of its own
	@newest=$$(scripts/python --newest) && if [ "$$newest" = "$$(scripts/python)" ]; then \
		echo "$$newest is the newest Python here, and the one that make test takes"; \
	else \
		$(MAKE) --no-print-directory test PYTHON="$$newest" VENV=.tools/venv-newest \
			ARGS="--ignore tests/whole --ignore tests/deploy $(ARGS)"; \
	fi

.PHONY: test-compiled

# Without the rooms where nothing is compiled: pages and files, the commands, routes.yaml.
# What is compiled has the crash points of `make test`; `make crash-points` goes through all.
test-compiled: dev-environment ## run the tests on the compiled wheel, and a short chaos
	@scripts/compiled-tree
	@cd .tools/compiled && "$(abspath $(VENV))/bin/python" -m pytest --ignore tests/whole --ignore tests/deploy \
		--ignore tests/cli --ignore tests/config $(ARGS)
	@cd .tools/compiled && "$(abspath $(VENV))/bin/python" -m tests.chaos --seed 20 --seconds 10 --pace 40

check: lint types floors deps lock-check ## run every check that changes nothing: lint, types, floors, deps, lock-check

lint: dev-environment ## check style and likely mistakes with ruff, and the Dockerfile with hadolint
	@$(python) -m ruff check
	@$(python) -m ruff format --check
	@"$(VENV)/bin/hadolint" Dockerfile

format: dev-environment ## format the code
	@$(python) -m ruff format
	@$(python) -m ruff check --fix

types: dev-environment ## check types with mypy, strict
	@$(python) -m mypy

floors: dev-environment ## check the rules for imports
	@"$(VENV)/bin/lint-imports" --no-logo

deps: dev-environment ## check for unused and undeclared dependencies
	@$(python) -m deptry router

lock-check: dev-environment ## check that the locks agree with pyproject.toml
	@scripts/lock --check

lock: ## update the locks to pyproject.toml; pinned versions stay if possible
	@scripts/lock

upgrade: ## update the locks to the newest version of every dependency
	@scripts/lock --upgrade

wheel: dev-environment ## build the wheel into dist/ and try it in an environment of its own; COMPILED=1 for the compiled one
	@COMPILED=$(COMPILED) scripts/try-wheel

# A compiled wheel is for one minor version of Python.
wheels: ## build the compiled wheel for each Python here from 3.11 to 3.14, and list the missing ones
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

# In an environment of its own, because the driver is large and nothing else needs it.
browser: ## test the page in a real browser: all rooms, both languages, accessibility; installs one, as root
	@VENV=.tools/venv-browser scripts/setup browser
	@scripts/chromium >/dev/null
	@.tools/venv-browser/bin/python -m pytest -n 2 --dist loadfile $(ARGS) tests/browser

audit: dev-environment ## check licences and known vulnerabilities, and print a bill of materials
	@scripts/audit

.PHONY: api-fuzz

api-fuzz: dev-environment ## run Schemathesis against a real router's API; ARGS="--seed 2"
	@VENV=.tools/venv-fuzz scripts/setup fuzz
	@$(python) -m scripts.api_fuzz .tools/venv-fuzz --max-examples $${EXAMPLES:-15} --workers 2 $(ARGS)

docs: dev-environment ## generate the pages and files made from code
	@$(python) -m scripts.reference

.PHONY: golden

# The Chinese pages come last, because they copy code blocks of the other pages.
golden: dev-environment ## rewrite the texts that tests compare, and show the differences
	@UPDATE_GOLDEN=1 $(python) -m pytest -n 0 tests/whole/test_routes_page.py tests/whole/test_happenings_page.py \
		tests/config/test_config.py::test_fault tests/whole/test_chinese.py $(ARGS)
	@git --no-pager diff --stat

walk: dev-environment ## list the files that one event passes
	@$(python) -m scripts.walk

monitoring: dev-environment ## test rules, alerts and queries with real Prometheus and Alertmanager
	@MONITORING=$$(scripts/monitoring) && export MONITORING && \
		$(python) -m pytest -n 0 -rs tests/whole/test_monitoring.py $(ARGS)

.PHONY: chaos chaos-short crash-points

chaos: dev-environment ## random failures of everything, on real processes: ARGS="--seed 1 --runs 20 --pace 60"
	@$(python) -m tests.chaos $(ARGS)

chaos-short: dev-environment ## two short runs of chaos with many events, one of them strict; a minute
	@$(python) -m tests.chaos --seed 20 --seconds 10 --pace 40
	@$(python) -m tests.chaos --strict --seed 5 --seconds 4 --pace 40

crash-points: dev-environment ## kill the router before each of its commits, sends and replies; ENGINE=httpx too
	@scripts/strace -V >/dev/null
	@CRASH_POINTS=all $(python) -m pytest -o faulthandler_timeout=240 tests/store/test_crash.py $(ARGS)

.PHONY: loris soak soak-short container
loris: dev-environment ## 2,000 slow callers at a time, among honest ones
	@LORIS=2000 $(python) -m pytest -n 0 -o faulthandler_timeout=300 tests/web/test_loris.py

soak: dev-environment ## mixed load for half an hour, and a check for growth; ARGS="--minutes 5"
	@$(python) -m bench.soak $(ARGS)

soak-short: dev-environment ## a soak of one minute
	@$(python) -m bench.soak --minutes 0.9 --round 4 --rate 30

container: dev-environment ## build the image and check it, as root on Debian; ARGS=--install installs podman
	@scripts/container-test $(ARGS)

.PHONY: base deploy-check
base: ## write the current digest of the base image's tag into the Dockerfile
	@scripts/renew-base

deploy-check: dev-environment ## build the files in deploy/ like users do, and check them by schemas and by the router
	@scripts/deploy-check $(ARGS)

.PHONY: systemd
systemd: dev-environment ## check the units in deploy/ by systemd's tools and under a systemd of its own, as root
	@LONG=1 $(python) -m pytest -n 0 -rs -o faulthandler_timeout=300 tests/whole/test_systemd.py $(ARGS)

.PHONY: faults power-cut day

faults: dev-environment ## test every fault of the store: full, locked, hanging and lost disks, a million events; best as root
	@scripts/strace -V >/dev/null
	@LONG=1 $(python) -m pytest -n 0 -rs -o faulthandler_timeout=900 tests/store/test_faults.py $(ARGS)

power-cut: dev-environment ## cut the power of a file system under load, as root; ROUNDS=25
	@LONG=1 $(python) -m pytest -n 0 -rs -o faulthandler_timeout=300 tests/store/test_power_cut.py $(ARGS)

day: dev-environment ## run the real schedules of a day in a minute, with clocks that jump
	@scripts/libfaketime >/dev/null
	@LONG=1 $(python) -m pytest -n 0 -rs -o faulthandler_timeout=300 tests/store/test_day.py $(ARGS)

.PHONY: postgresql chaos-nodes

# They wait for half of their time, so three run at a time, each with a server of its own.
postgresql: dev-environment ## run all tests that need PostgreSQL; installs it, as root
	@scripts/postgresql >/dev/null
	@LONG=1 POSTGRESQL=required $(python) -m pytest -n 3 -m postgresql -rs -o faulthandler_timeout=300 $(ARGS)

chaos-nodes: dev-environment ## chaos with two nodes on PostgreSQL, their server, and the network between them, then strictly; a minute
	@scripts/postgresql >/dev/null
	@$(python) -m tests.chaos --store postgresql --seed 1 --seconds 10 $(ARGS)
	@$(python) -m tests.chaos --store postgresql --strict --seed 54 --seconds 4 --pace 20

.PHONY: failover
failover: dev-environment ## fail over three databases under Patroni six times, under load; installs it, as root; ARGS="kill-machine"
	@scripts/postgresql >/dev/null
	@scripts/patroni
	@$(python) -m tests.failover $(ARGS)

.PHONY: chaos-upgrade
chaos-upgrade: dev-environment ## chaos with a node of an older version beside one of this: BEFORE=commit
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
		-k "pieces or accepted_heads_alike or any_answer or next_event"

.PHONY: bench growth profile backlog

bench: dev-environment ## compare the router, also compiled, with nginx and Lua, Node.js and the obvious build; QUICK=1 for a minute
	@scripts/bench-tools
	@$(python) -m bench.compare $(if $(QUICK),--quick) $(ARGS)

growth: dev-environment ## measure the growth of an event's cost
	@scripts/bench-tools
	@$(python) -m bench.growth $(if $(QUICK),--quick) $(ARGS)

profile: dev-environment ## measure the cost of each part of an event's path
	@scripts/bench-tools
	@$(python) -m bench.profile $(ARGS)

backlog: dev-environment ## measure live events beside 50,000 deliveries that recovery sends; ARGS="--store postgresql"
	@scripts/bench-tools
	@$(python) -m bench.backlog $(ARGS)
