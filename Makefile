# `make ova` and `make test` are all a newcomer needs.

.DELETE_ON_ERROR:
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

TARGET   := x86_64-unknown-linux-musl
GW       := target/release/gatewright
CONSOLE  := target/$(TARGET)/release/gatewright-console
RESULT   := target/build.json
NODE     := target/node.json
# Where what `scripts/kubernetes/build` makes is.
SOURCES  := --source kubernetes=target/kubernetes --source cri-tools=target/kubernetes
PROGRESS ?= auto
# Our binary goes into the image: where this checkout and cargo's cache are must not.
REMAP    := --remap-path-prefix=$(CURDIR)=/src --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=/cargo

.PHONY: help ova node console build test soak bench lint packages node-packages test-packages rust clean

help: ## Show this
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 16

ova: $(RESULT) ## Build the gateway installer OVA into dist/
	@jq -r '"\n\(.outputs[0].path)\n\(.outputs[0].size / 1e6 | floor) MB, SHA-256 \(.outputs[0].sha256)"' $(RESULT)

# Always asked: the builder knows best what has not changed.
.PHONY: $(RESULT)
$(RESULT): packages build
	@$(GW) lock images/installer.yaml --progress $(PROGRESS)
	@$(GW) build images/installer.yaml --progress $(PROGRESS) --json > $(RESULT).new
	@mv $(RESULT).new $(RESULT)

node: $(NODE) ## Build the Kubernetes node's OVA, with programs built from source

.PHONY: $(NODE)
$(NODE): packages node-packages build
	@scripts/kubernetes/build target/kubernetes
	@$(GW) lock images/node.yaml $(SOURCES) --progress $(PROGRESS)
	@$(GW) build images/node.yaml $(SOURCES) --progress $(PROGRESS) --json > $(NODE).new
	@mv $(NODE).new $(NODE)

console: packages rust ## Build the management console, one static program, into dist/
	RUSTFLAGS="$(REMAP)" cargo build --release --locked -p gatewright-console --target $(TARGET)
	@install -D $(CONSOLE) dist/gatewright-console
	@ls -l dist/gatewright-console

build: rust
	cargo build --release --locked -p gatewright
	RUSTFLAGS="$(REMAP)" cargo build --release --locked -p gatewright-firstboot --target $(TARGET)

test: packages test-packages $(RESULT) $(NODE) console ## Run all tests: units, command line, containers, QEMU
	@tests/run

soak: packages test-packages $(RESULT) console ## Run the long sweeps
	@tests/run soak

bench: packages test-packages $(RESULT) console ## Measure what is promised, in one table
	@tests/bench

lint: rust ## Check format, lints, licences
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --log-level error check bans licenses sources; \
	else echo "CANNOT RUN: cargo deny: not installed (cargo install --locked cargo-deny)"; fi

packages: ## Install what building needs of this host, or name it
	@scripts/host-packages build

node-packages: ## Install what building the node's programs needs, or name it
	@scripts/host-packages node

test-packages: ## Install what the tests need, or name it
	@scripts/host-packages test

rust:
	@scripts/rust $(TARGET)

clean:
	rm -rf target dist
