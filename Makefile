PYTHON ?= python3
BIN := .venv/bin
# Latency bound of the demo, for one image on one thread: one that so many percent of random networks meet on this
# machine, or one in ms: make demo LATENCY_MS=0.06
LATENCY_MS ?= 40%
DEMO ?= runs/demo
# Processes of the tests, of one thread each.
WORKERS ?= 2

.PHONY: setup demo test lint format wheel-check audit clean

setup: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: setup
	@if [ -e $(DEMO)/run.json ]; then $(BIN)/archgen design --resume $(DEMO); else \
	$(BIN)/archgen design --data digits --space nasbench201 --at-most latency_ms=$(LATENCY_MS) --time-limit 5m \
		--out $(DEMO); fi

# Judged in a second step: in the first, `--fail-under` would print the table without the processes of the tests.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m slipcover --json --out .coverage.json -m pytest -n $(WORKERS) --dist loadfile
	$(BIN)/python -m slipcover --fail-under 90 --out .coverage.json --merge .coverage.json

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The built wheel in an environment and a folder of its own, by another Python if asked: make wheel-check PYTHON=python3.13
wheel-check:
	rm -rf runs/wheel && mkdir -p runs/wheel/work
	$(PYTHON) -m venv runs/wheel/venv
	runs/wheel/venv/bin/python -m pip wheel --quiet --no-deps --wheel-dir runs/wheel .
	runs/wheel/venv/bin/python -m pip install --quiet -c constraints.txt runs/wheel/*.whl
	cd runs/wheel/work && ../venv/bin/archgen generate --space nasbench201 -n 2 --maximize cifar10_val_acc
	cd runs/wheel/work && ../venv/bin/archgen design --effort quick --epochs 5 --budget 8 --finetune-epochs 2 \
		--measured 12 --limit 400 --network cells=1 --network channels=4 --out run

# What is known against the versions that are tested; asks a database on the network.
audit: setup
	$(BIN)/python -m pip install --quiet pip-audit
	$(BIN)/pip-audit -r constraints.txt --no-deps --disable-pip

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage.json
