# One command each. `make help` lists them; nothing is needed beforehand but Python 3.11 with venv, and make.
PYTHON ?= python3
UV := .venv/bin/uv
IS_NEW = import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, and $(PYTHON) is %d.%d. \
	Say which: make PYTHON=python3.12 $(or $(MAKECMDGOALS),install)" % sys.version_info[:2])
.DEFAULT_GOAL := help

.PHONY: help install demo guide test soak neighbours fuzz fuzz-parsers mutate bench check docs lock lock-bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/.installed ## make .venv with everything that requirements.lock names

.venv/.installed: requirements.lock sdk/pyproject.toml runtime/pyproject.toml server/pyproject.toml
	@.venv/bin/python -c '$(IS_NEW)' 2>/dev/null || { $(PYTHON) -c '$(IS_NEW)' && $(PYTHON) -m venv --clear .venv; }
	@echo "Installing what requirements.lock names into .venv"
	@test -x $(UV) || .venv/bin/python -m pip install --quiet --disable-pip-version-check "$$(grep -o '^uv==[0-9.]*' requirements.lock)"
	@$(UV) pip install --quiet --python .venv/bin/python --require-hashes --compile-bytecode -r requirements.lock
	@$(UV) pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation -e sdk -e runtime -e server
	@.venv/bin/python -m compileall -q sdk/src runtime/src server/src  # or the first of all commands would do it
	@touch $@
	@echo "Installed. To have the commands on the path of a terminal: . .venv/bin/activate"

demo: install ## the whole product on this machine, shown in a minute; nothing is left behind
	@.venv/bin/python scripts/demo.py

guide: install ## every block of the SDK guide, from its first to its last, on a fresh gateway
	.venv/bin/pytest -v tests/e2e/test_guide.py

test: install ## every test
	.venv/bin/pytest -n 2 --dist worksteal

soak: install ## half an hour of mixed load, watched for what grows; then ten thousand open streams
	@.venv/bin/python scripts/soak.py
	@.venv/bin/python scripts/many_streams.py

neighbours: install ## what hostile calls of one user cost the calls of another, three times; as root
	@.venv/bin/python scripts/neighbours.py

fuzz: install ## 20,000 requests of every kind, wrong ones above all, to every operation of the API
	@.venv/bin/python scripts/fuzz_api.py

fuzz-parsers: install ## ten minutes of anything for every parser that strangers' bytes come to
	@.venv/bin/python scripts/fuzz_parsers.py

check: install ## lint and types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

docs: install ## the documentation as a site in site/, English and Chinese
	@.venv/bin/python scripts/cli_reference.py
	@.venv/bin/python scripts/docs.py
	@echo "Read it with: .venv/bin/python -m http.server 8008 -d site"

mutate: install ## change the module that decides who may do what in every small way; its tests must notice each
	.venv/bin/python scripts/mutate.py

bench: install ## the product beside its peers: ratios, processor time, memory, into bench/results; twelve to sixteen minutes
	@.venv/bin/python -m bench

lock: ## resolve the dependencies anew into requirements.lock
	$(UV) pip compile --quiet --generate-hashes --universal --upgrade --no-annotate --no-header --python-version 3.11 \
		--no-emit-package agent-builder-gateway --no-emit-package agent-builder-gateway-sdk \
		--no-emit-package agent-builder-gateway-runtime --no-emit-package agent-builder-workspace \
		--group dev pyproject.toml -o requirements.lock

lock-bench: install ## the same for what is compared with, from bench/requirements/*.in
	@for wanted in bench/requirements/*.in; do $(UV) pip compile --quiet --universal --no-annotate --no-header \
		--python-version 3.11 $$wanted -o $${wanted%.in}.txt || exit 1; done

clean: ## remove .venv and caches
	rm -rf .venv site bench/.cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
