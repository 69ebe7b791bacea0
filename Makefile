# With another environment than .venv: make test BIN=path/to/bin/
BIN ?= .venv/bin/

.PHONY: format check test

format:
	$(BIN)ruff format .
	$(BIN)ruff check --fix .

check:
	$(BIN)ruff format --check .
	$(BIN)ruff check .
	$(BIN)mypy
	$(BIN)mypy data_scripts
	$(BIN)mypy benchmarks
	$(BIN)mypy examples

test:
	$(BIN)pytest
