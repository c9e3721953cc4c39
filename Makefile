# Two commands on a fresh machine: `make demo` and `make test`. Nothing but Python 3.11+ with venv and pip is needed.

PYTHON ?= python3
VENV   ?= .venv
JOBS   ?= 4
RUN    := $(VENV)/bin/python
SPREAD := -n $(JOBS) --dist loadfile --no-loadscope-reorder
STAMP  := $(VENV)/.installed

.PHONY: demo test faults faults-short soak guards great test-fast lint bench bench-quick lock clean

MINUTES ?= 20
SEED    ?= 1
KIND    ?= sqlite

demo: $(STAMP)
	$(VENV)/bin/dispatcher demo

test: $(STAMP)
	$(RUN) -m pytest tests $(SPREAD) $(ARGS)

# Every fault on both kinds of ledger and broker, with short waits. In `make test` each plays on one kind.
faults-short: $(STAMP)
	DISPATCHER_TEST_KINDS=all $(RUN) -m pytest tests/faults $(SPREAD) $(ARGS)

# Every fault with the waits of a real installation: leases of minutes, outages of half a minute. Hours.
faults: $(STAMP)
	DISPATCHER_TEST_FULL=1 $(RUN) -m pytest tests/faults $(SPREAD) $(ARGS)

# A random mixture of faults under load, and the proof in the end: make soak MINUTES=20 SEED=7 KIND=postgres
soak: $(STAMP)
	$(RUN) -m tests.soak --minutes $(MINUTES) --seed $(SEED) --kind $(KIND) $(ARGS)

# Takes the guards out of a copy of the tree, one by one: the test of each must turn red.
guards: $(STAMP)
	$(RUN) -m tests.guards $(ARGS)

# The great sizes: 20,000 orders, three minutes at a limit, 10,000 entries of the stream. Half an hour.
great: $(STAMP)
	DISPATCHER_TEST_FULL=1 $(RUN) -m pytest tests/e2e $(ARGS)

test-fast: $(STAMP)
	$(RUN) -m pytest tests/unit tests/contract -m "not server and not slow" -n auto $(ARGS)

lint: $(STAMP)
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

# End to end beside others, over slow lines, with a million mails waiting; twenty minutes. One part: make bench ARGS=drain
bench: $(STAMP)
	$(RUN) -m benchmarks $(ARGS)

# Only that every benchmark runs: a few mails each.
bench-quick: $(STAMP)
	$(RUN) -m benchmarks --quick --out $(or $(TMPDIR),/tmp)/dispatcher-bench-quick
	$(RUN) -m benchmarks.journal --quick
	$(RUN) -m benchmarks.shares --quick
	$(RUN) -m benchmarks.limits --quick
	$(RUN) -m benchmarks.audiences --quick
	$(RUN) -m benchmarks.campaigns --quick
	$(RUN) -m benchmarks.reports --quick

# Made anew after a change of dependencies; it names no registry, so that it works with yours.
lock: $(STAMP)
	$(VENV)/bin/uv pip compile pyproject.toml --all-extras --group dev --universal --python-version 3.11 \
	  --generate-hashes --no-annotate --no-header --quiet --upgrade --output-file requirements.lock

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; name one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) \
	  || { echo "no venv here; on Debian: apt install python3-venv" >&2; exit 2; }
	@$(RUN) -m pip install --quiet --disable-pip-version-check 'uv>=0.9,<1' \
	  && $(VENV)/bin/uv pip install --quiet --python $(RUN) --require-hashes -r requirements.lock \
	  || $(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
