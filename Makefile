# Everything a developer types. `make` alone lists the targets.
#
# Each target sets up what it needs in .venv from the lock files, the first time and whenever they
# change. pip's own settings (index, proxy, certificates) are yours: nothing here names an index.
#
#   make test ARGS="-k phone"       extra arguments go to the program that the target runs
#   make demo PYTHON=python3.13     the interpreter that .venv is made with
#   make secrets SANDBOX=1          the credentials that the sandbox accepts, where there are none

# The first that is new enough.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && exit; done; echo python3)
ARGS ?=
# Tests wait as long as they compute, so several of them for each core run at once.
PYTEST_WORKERS ?= 8
PYTEST := -m pytest -n $(PYTEST_WORKERS) --dist loadfile --no-loadscope-reorder

HERE := $(dir $(abspath $(lastword $(MAKEFILE_LIST))))
BIN := .venv/bin
DEMO := .venv/.installed-demo
DEV := .venv/.installed-dev
BENCH := .venv/.installed-bench
UV_COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock"

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo docs rules screenshots test coverage check format lint types imports lua containers \
	secretscan audit licences sbom faults leaks ha trial fuzz bench oldest \
	lock upgrade secrets setup clean

help: ## list the targets (this)
	@echo "sendcode: sends verification codes; nothing lost, nothing twice, never above the limit"
	@echo
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo 'Extra arguments: make test ARGS="-k phone". Set-up happens by itself, in .venv.'

demo: $(DEMO) ## the whole system on this machine: queue, workers, a stand-in for the API, console
	@$(BIN)/sendcode demo $(ARGS)

test: $(DEV) ## all tests
	$(BIN)/python $(PYTEST) $(ARGS)

coverage: $(DEV) ## all tests, and which lines and branches they never took
	$(BIN)/python $(PYTEST) --cov --cov-report=term $(ARGS)

check: lint types imports lua containers secretscan ## all that CI checks: format, lint, types, imports, Lua, containers, secrets, tests
	@$(MAKE) --no-print-directory audit || true # what became known today is no fault of this change
	@$(MAKE) --no-print-directory test

format: $(DEV) ## put the code into its format and repair what ruff can
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

lint: $(DEV) ## format and lint, changing nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(DEV) ## mypy, strict
	$(BIN)/mypy

lua: ## the ledger's scripts, with luacheck
	@if command -v luacheck >/dev/null; then luacheck --quiet jobs/lua worker/*.lua; \
	else echo "NOT CHECKED: luacheck is missing (Debian: apt-get install lua-check)" >&2; fi

imports: $(DEV) ## who may import whom
	$(BIN)/lint-imports

docs: $(DEV) ## write the command reference, docs/commands.md (a test checks it)
	$(BIN)/python -m tests.command_reference > docs/commands.md

screenshots: $(DEV) ## take the pictures of the console in docs/ anew; needs chromium
	$(BIN)/python -m tests.screenshots

rules: ## write the alerts for Kubernetes anew from deploy/prometheus (a test checks it)
	@{ printf '%s\n' '# deploy/prometheus/sendcode.rules.yml for the Prometheus Operator; written by `make rules`.' \
		'apiVersion: monitoring.coreos.com/v1' 'kind: PrometheusRule' 'metadata: { name: sendcode }' 'spec:'; \
		sed '/^#/d; s/^\(.\)/  \1/' deploy/prometheus/sendcode.rules.yml; \
		} > deploy/kubernetes/monitoring/prometheusrule.yaml

containers: $(DEV) ## Dockerfile, the Compose files, and those for Kubernetes
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose*.yml
	@for version in 1.31.0 1.37.0; do $(BIN)/kubernetes-validate --strict --quiet -k $$version \
		deploy/kubernetes/base/[!k]*.yaml deploy/kubernetes/example/[!k]*.yaml || exit 1; done

# By the forms that keys of clouds and services have. What a high entropy or a name alone makes look
# like a secret is left out: hashes of locks, passwords of tests.
secretscan: $(DEV) ## whether a key or certificate got into a file that git keeps
	@if git rev-parse --git-dir >/dev/null 2>&1; then \
		git ls-files -z | xargs -0 $(BIN)/detect-secrets-hook --no-verify \
			$(addprefix --disable-plugin ,Base64HighEntropyString HexHighEntropyString KeywordDetector \
				BasicAuthDetector IPPublicDetector ArtifactoryDetector) && \
		{ ! git grep -nE 'AKID[A-Za-z0-9]{32}' || { echo "a SecretId of Tencent Cloud" >&2; exit 1; }; }; \
	else echo "NOT SCANNED for secrets: this is no git checkout" >&2; fi

# pip-audit ends in the same way if it finds something and if it finds nobody: its file tells.
audit: $(DEV) ## whether a pinned package has a known weakness; asks PyPI, which must be in reach
	@mkdir -p build && rm -f build/audit.json
	@timeout 60 $(BIN)/pip-audit -r requirements/demo.lock --require-hashes --disable-pip --timeout 5 \
		--progress-spinner off -f json -o build/audit.json >/dev/null 2>build/audit.log && \
		echo "pip-audit: no known weakness in requirements/demo.lock" || \
	if [ -s build/audit.json ]; then cat build/audit.log >&2; \
		echo "KNOWN WEAKNESSES: build/audit.json; make upgrade, then make check" >&2; exit 1; \
	else echo "NOT AUDITED: the database of known weaknesses is out of reach (build/audit.log)" >&2; fi

licences: $(DEV) ## write the table of licences of what is installed, docs/licences.md
	@{ printf '# Licences\n\nOf what requirements/demo.lock installs; written by `make licences`.\n\n'; \
		$(BIN)/pip-licenses --format=markdown --from=mixed --order=name --packages \
		$$(sed -n 's/^\([a-z0-9-]*\)==.*/\1/p' requirements/demo.lock); } > docs/licences.md
	@echo "docs/licences.md is written"

sbom: $(DEV) ## write the list of all parts that are installed (CycloneDX) to build/sbom.cdx.json
	@mkdir -p build
	@$(BIN)/cyclonedx-py requirements requirements/runtime.lock --pyproject pyproject.toml \
		--output-reproducible -o build/sbom.cdx.json && echo "build/sbom.cdx.json is written"

faults: $(DEV) ## kill and break the real thing, hundreds of times, and count what is lost or doubled
	$(BIN)/python -m tests.faults $(ARGS)

leaks: $(DEV) ## send canaries through every ending and fault, then look for them everywhere
	$(BIN)/python -m tests.leaks $(ARGS)

ha: $(DEV) ## take Redis' primary away in mid-batch, on hosts of its own (root), and count the same
	$(BIN)/python -m tests.ha $(ARGS)

trial: $(DEV) ## kill the containers of docker-compose.yml in mid-batch (Docker, an image), and count the same
	$(BIN)/python -m tests.containers $(ARGS)

fuzz: $(DEV) ## ask the HTTP API thousands of things, sensible and not, and check each answer
	$(BIN)/python -m tests.fuzz $(ARGS)

bench: $(BENCH) ## the benchmarks behind the figures in the documentation
	$(BIN)/python -m benchmarks $(ARGS)

# Lower bounds are claims, too. The tests run in an environment of their own, made anew.
oldest: $(DEV) ## all tests with the oldest versions that pyproject.toml allows
	@mkdir -p build
	$(BIN)/uv pip compile --quiet --resolution lowest-direct pyproject.toml --extra test \
		--no-header -o build/oldest.txt
	$(PYTHON) -m venv --clear build/oldest
	build/oldest/bin/python -m pip install --disable-pip-version-check --quiet -r build/oldest.txt
	build/oldest/bin/python $(PYTEST) $(ARGS)

# The smaller locks follow the big one, so a package has one version everywhere.
lock: $(DEV) ## write the lock files anew from pyproject.toml, keeping versions where it can
	$(UV_COMPILE) pyproject.toml --extra dev -o requirements/dev.lock $(ARGS)
	$(UV_COMPILE) pyproject.toml --extra bench \
		-c requirements/dev.lock -o requirements/bench.lock --upgrade
	$(UV_COMPILE) pyproject.toml --extra demo \
		-c requirements/dev.lock -o requirements/demo.lock --upgrade
	$(UV_COMPILE) pyproject.toml \
		-c requirements/dev.lock -o requirements/runtime.lock --upgrade
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
		| $(UV_COMPILE) - -c requirements/dev.lock -o requirements/build.lock --upgrade

upgrade: ## the same with the newest versions of everything
	@$(MAKE) --no-print-directory lock ARGS=--upgrade

# Readable for all, because a container's user has another number; the folder keeps others out.
secrets: ## passwords, a data key, and places for your credentials, for docker compose; keeps what is there
	@umask 022; mkdir -p secrets && chmod 700 secrets; \
	random() { $(PYTHON) -c 'import secrets; print(secrets.token_hex(24))'; }; \
	[ -e secrets/redis_url ] || echo "redis://:$$(random)@redis:6379/0" > secrets/redis_url; \
	for name in flower_password grafana_password; do \
		[ -e secrets/$$name ] || random > secrets/$$name; done; \
	[ -e secrets/sendcode_data_keys ] || PYTHONPATH="$(HERE)" $(PYTHON) -c \
		'from config.data_key import new_data_key; print(new_data_key())' > secrets/sendcode_data_keys; \
	touch secrets/tencentcloud_secret_id secrets/tencentcloud_secret_key secrets/tencentcloud_token \
		secrets/ca_bundle secrets/prometheus_token; \
	if [ -n "$(SANDBOX)" ] && ! [ -s secrets/tencentcloud_secret_key ]; then \
		echo AKIDEXAMPLE > secrets/tencentcloud_secret_id; \
		echo SECRETEXAMPLE > secrets/tencentcloud_secret_key; fi; \
	if [ -n "$(SANDBOX)" ] && ! [ -s secrets/sandbox_tls ]; then \
		openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
			-subj /CN=sandbox -addext subjectAltName=DNS:sandbox,DNS:localhost \
			-addext keyUsage=critical,digitalSignature,keyCertSign \
			-keyout secrets/sandbox_tls -out secrets/sandbox_certificate 2>/dev/null && \
		cat secrets/sandbox_certificate >> secrets/sandbox_tls && chmod 644 secrets/sandbox_tls || \
		{ echo "openssl could not make a certificate for the sandbox" >&2; exit 1; }; fi; \
	echo "secrets/ is ready. Flower's password is in secrets/flower_password."; \
	echo "Keep a copy of secrets/sendcode_data_keys: without it nobody can read what Redis holds."; \
	[ -s secrets/tencentcloud_secret_key ] || \
		echo "Write your credentials into secrets/tencentcloud_secret_id and secrets/tencentcloud_secret_key."

setup: $(DEV) ## only the set-up, with all tools

clean: ## remove .venv and all that the targets made
	rm -rf .venv build dist .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- set-up ----------------------------------------------------------------------------------

# Where python3 is too old or comes without venv, say so and what to do.
$(BIN)/pip:
	@command -v $(PYTHON) >/dev/null || { \
		echo "There is no '$(PYTHON)' here. Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "sendcode needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Install one, or name it: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) has no venv module. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 2; }
	@echo "Setting up .venv with $$($(PYTHON) -V 2>&1)"
	@$(PYTHON) -m venv --clear .venv

$(DEMO): requirements/build.lock requirements/demo.lock pyproject.toml | $(BIN)/pip
	@$(call install,requirements/demo.lock)
	@touch $@

# All of the demo's packages are among these, at the same versions.
$(DEV): requirements/build.lock requirements/dev.lock pyproject.toml | $(BIN)/pip
	@$(call install,requirements/dev.lock)
	@touch $(DEMO) $@

# What the benchmarks compare with, beside the tools.
$(BENCH): requirements/bench.lock | $(DEV)
	@$(call install,requirements/bench.lock)
	@touch $@

# $(1) is a lock. Its packages come with their hashes; the project itself is linked, not copied, and
# is built with the locked build backend, so that nothing unlocked is ever fetched. A lock is whole:
# pip has nothing to resolve, and where it did, a newer release of what a package asks for by an extra
# (coverage[toml]) ended it.
define install
	echo "Installing $$(grep -c == $(1)) pinned packages of $(1); the first time takes a minute"; \
	{ $(BIN)/python -m pip install --disable-pip-version-check --no-input --progress-bar off \
		--require-hashes --no-deps -r requirements/build.lock -r $(1) && echo installed; } \
		| awk '/^ *Downloading / && !/metadata/ { sub(/^ */, "  "); print; fflush() } \
			/^Installing collected/ { print "  Unpacking"; fflush() } \
			/^installed$$/ { ok = 1 } END { exit !ok }' && \
	$(BIN)/python -m pip install --disable-pip-version-check --no-input --quiet \
		--no-deps --no-build-isolation --editable . && \
	echo "Set-up is done"
endef
