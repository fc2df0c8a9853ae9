PYTHON ?= python3
BIN := .venv/bin
# Latency bound of the demo, in ms for one image on one thread. The smallest network of the demo takes about 0.03 ms on
# the reference machine; on a much slower one the command says what can be met: make demo LATENCY_MS=0.2
LATENCY_MS ?= 0.06
DEMO ?= runs/demo
# Processes of the tests, of one thread each.
WORKERS ?= 2

.PHONY: setup demo test lint format clean

setup: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: setup
	@if [ -e $(DEMO)/run.json ]; then $(BIN)/archgen design --resume $(DEMO); else \
	$(BIN)/archgen design --data digits --space nasbench201 --at-most latency_ms=$(LATENCY_MS) --out $(DEMO); fi

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --cov --cov-fail-under=90 --cov-report=term:skip-covered

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
