# `make run` and `make test` install everything they need into .venv.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# The tests start hundreds of processes; without bytecode each would compile everything again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run test check check-js pytest coverage slow journeys bench faults lighthouse screenshots image images compose kind tutorial kind-tutorial dist lock clean

help:  ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 15

run: .venv/run.done  ## Serve the guestbook on http://localhost:3000, with its own Valkey
	@exec $(BIN)/guestbook serve --embedded

test: check pytest  ## Run `check` and the tests (two to three minutes)

check: .venv/dev.done .venv/luacheck.done  ## Lint, check formatting, types and imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --num-workers 2
	$(BIN)/lint-imports --no-cache
	$(BIN)/deptry src
	$(BIN)/yamllint --strict manifests .github compose.yaml .yamllint.yaml .hadolint.yaml \
		.pre-commit-config.yaml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/bug.yml \
		.github/ISSUE_TEMPLATE/idea.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec compose.yaml
	$(BIN)/zizmor --offline --quiet .github
	@! command -v actionlint >/dev/null || actionlint
	$(BIN)/hadolint Dockerfile
	@! command -v luacheck >/dev/null || luacheck --quiet --no-color src/guestbook/storage/scripts

check-js: tools/js/node_modules/.done  ## Lint the page's scripts and check their types (needs npm)
	cd tools/js && npx prettier --check . ../../static/js --config prettier.json
	tools/js/node_modules/.bin/eslint --config tools/js/eslint.config.js static/js
	tools/js/node_modules/.bin/tsc --project tools/js

TESTS := .venv/dev.done .venv/browser.done .venv/prometheus.done .venv/client.done
PARALLEL := --numprocesses 6 --dist loadfile --no-loadscope-reorder -m "not slow"

# Where the lines that run are recorded, in all processes: see tests/support/coverage.
LINES := $(CURDIR)/.coverage-lines
RECORDED := COVERED_LINES=$(LINES) PYTHONPATH=$(CURDIR)/tests/support/coverage

pytest: $(TESTS)
	@mkdir -p $(LINES) && find $(LINES) -name "*.py" -delete
	$(RECORDED) $(BIN)/pytest $(PARALLEL)
	@$(BIN)/python tests/support/coverage/report.py $(LINES)
	@printf "Percentage of lines covered: "; $(BIN)/coverage report --format=total

coverage: .venv/dev.done  ## Show what the last `make test` covered, servers and commands included
	@$(BIN)/python tests/support/coverage/report.py $(LINES)
	$(BIN)/coverage report --show-missing --skip-covered --skip-empty

slow: $(TESTS) .venv/browsers.done  ## Run the tests that take long: load, fuzzing, memory, Firefox, WebKit
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder -m slow

journeys: $(TESTS) .venv/browsers.done  ## Run the visitors' journeys in Firefox and WebKit
	$(BIN)/pytest --numprocesses 2 --dist load -m slow tests/browser/journeys

bench: .venv/bench.done  ## Compare with a C loop, nginx and others; writes docs/performance.md
	$(BIN)/python -m bench.run
	$(BIN)/python -m bench.report

lighthouse: .venv/browser.done tools/node_modules/.done  ## Check Lighthouse's scores of the page and the wall (needs npm)
	$(BIN)/python -m tools.lighthouse

screenshots: .venv/bench.done .venv/browser.done .venv/prometheus.done  ## Take the pictures in docs/screenshots again
	$(BIN)/python -m tools.screenshots
	$(BIN)/python -m tools.graphs

SECONDS := 600
SEED :=

faults: .venv/dev.done  ## Break everything for 10 minutes (SECONDS=, SEED=); writes docs/reliability.md
	$(BIN)/python -m tests.chaos --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

# bench.txt contains every package of the others but client.txt. Strict: fail if a package is unknown.
audit: .venv/dev.done  ## Look up known vulnerabilities of the locked packages (needs PyPI)
	$(BIN)/pip-audit --strict --require-hashes --disable-pip --progress-spinner off -r requirements/bench.txt
	$(BIN)/pip-audit --strict --require-hashes --disable-pip --progress-spinner off -r requirements/client.txt

image:  ## Build the container image guestbook:0.1.0 with docker
	docker build --build-arg VERSION="$$($(PYTHON) tools/version.py)" --tag guestbook:0.1.0 .

images:  ## Build the image for amd64 and arm64 (needs docker buildx and qemu)
	docker buildx build --build-arg VERSION="$$($(PYTHON) tools/version.py)" --platform linux/amd64,linux/arm64 .

compose:  ## Try compose.yaml: start it, post, stop it, delete its volume (needs docker)
	VERSION="$$($(PYTHON) tools/version.py)" docker compose up --build --wait --wait-timeout 120
	curl --fail --silent --show-error --data text=hello http://localhost:3000/messages
	docker compose down --volumes

kind: image  ## Try overlays/dev on a cluster of its own (needs docker, kind, kubectl)
	kind create cluster --name guestbook-try
	kind load docker-image guestbook:0.1.0 --name guestbook-try
	kubectl --context kind-guestbook-try apply -k manifests/overlays/dev
	kubectl --context kind-guestbook-try rollout status deployment/guestbook --timeout 180s
	kubectl --context kind-guestbook-try exec deployment/guestbook -- guestbook check
	kind delete cluster --name guestbook-try

tutorial: .venv/dev.done  ## Run the tutorial's commands on kubectl's cluster, and compare the answers
	$(BIN)/python -m tools.tutorial

kind-tutorial: image  ## The same on a kind cluster of its own (needs docker, kind, kubectl)
	kind create cluster
	kind load docker-image guestbook:0.1.0
	$(MAKE) tutorial
	kind delete cluster

dist: .venv/run.done  ## Build the wheel and the source distribution into dist/
	$(BIN)/python -m hatchling build

lock: .venv/dev.done  ## Update the lock files from pyproject.toml
	$(BIN)/uv pip compile $(LOCK) pyproject.toml -o requirements/app.txt
	$(BIN)/uv pip compile $(LOCK) pyproject.toml --extra embedded --extra build -o requirements/embedded.txt
	$(BIN)/uv pip compile $(LOCK) pyproject.toml --extra otel -o requirements/otel.txt
	$(BIN)/uv pip compile $(LOCK) pyproject.toml --all-extras --group dev -o requirements/dev.txt
	$(BIN)/uv pip compile $(LOCK) pyproject.toml --all-extras --group dev --group bench -o requirements/bench.txt
	$(BIN)/uv pip compile $(LOCK) requirements/client.in -o requirements/client.txt

LOCK := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command "make lock"

clean:  ## Remove everything generated, except the messages in .guestbook
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage* dist tools/node_modules tools/js/node_modules

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Guestbook needs Python 3.11 or later: make PYTHON=python3.13 ...")'
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

# hatchling is in the lock file, so that building this package downloads nothing else.
.venv/run.done: requirements/embedded.txt pyproject.toml | .venv/bin/python
	@echo "Installing what the guestbook needs into .venv ..."
	$(PIP) install --require-hashes -r requirements/embedded.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

.venv/dev.done: requirements/dev.txt pyproject.toml | .venv/bin/python
	@echo "Installing what the checks need into .venv ..."
	$(PIP) install --require-hashes -r requirements/dev.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@ .venv/run.done

.venv/bench.done: requirements/bench.txt .venv/dev.done
	@echo "Installing what the benchmarks need into .venv ..."
	$(PIP) install --require-hashes -r requirements/bench.txt
	@touch $@

# The generator of API clients requires an older typer than the guestbook.
.venv/client.done: requirements/client.txt .venv/dev.done
	$(BIN)/python -m venv .venv/client || { rm -rf .venv/client; exit 1; }
	.venv/client/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r $<
	@touch $@

tools/node_modules/.done: tools/package-lock.json
	npm ci --prefix tools
	@touch $@

tools/js/node_modules/.done: tools/js/package-lock.json
	npm ci --prefix tools/js
	@touch $@

# For the tests of alerts and dashboard. Installed on Debian; elsewhere skipped if missing.
.venv/prometheus.done: .venv/dev.done
	@command -v promtool >/dev/null \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	       && apt-get update -qq && apt-get install -y -qq --no-install-recommends prometheus >/dev/null; } \
	  || echo "Prometheus is not installed: the tests of its dashboard and alerts are skipped."
	@touch $@

.venv/luacheck.done: .venv/dev.done
	@command -v luacheck >/dev/null \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	       && apt-get update -qq && apt-get install -y -qq --no-install-recommends lua-check >/dev/null; } \
	  || echo "luacheck is not on this machine: the Lua scripts are not linted."
	@touch $@

# Debian's headless Chromium, else an installed one, else Playwright's.
.venv/browser.done: .venv/dev.done
	@command -v chromium-headless-shell >/dev/null \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq \
	       && apt-get install -y -qq --no-install-recommends chromium-headless-shell >/dev/null; } \
	  || command -v chromium chromium-browser google-chrome >/dev/null \
	  || $(BIN)/playwright install --only-shell chromium
	@touch $@

# For the visitors' journeys in Firefox and WebKit. Installed on Debian; elsewhere skipped if missing.
.venv/browsers.done: .venv/browser.done
	@{ command -v firefox-esr || command -v firefox; } >/dev/null \
	  && command -v WebKitWebDriver >/dev/null && command -v xvfb-run >/dev/null \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq \
	       && apt-get install -y -qq --no-install-recommends \
	            firefox-esr webkit2gtk-driver xauth xvfb >/dev/null; } \
	  || echo "Firefox or WebKit is not installed: the journeys in them are skipped."
	@touch $@
