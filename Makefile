# What there is to run. Each target does its own set-up and leaves nothing running.
#
#   make demo [BOT=echo]   one real bot on this machine, in the foreground; Ctrl-C or `make demo-down` stops it
#   make demo-check        the same unattended, for CI; prints one JSON line at the end
#   make test              everything, with private Docker engines, registry and Postgres
#   make bench             figures against plain Docker, also in target/bench/results.ndjson
#   make lint fmt          what a change must pass
#
# demo, demo-check, test and bench need root: they make network namespaces and containers.

BOT ?= openclaw
CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
# Names the places at which tests kill our programs; absent from the demo, as from every release.
KILLPOINTS := --features launchpad-protocol/killpoints

.PHONY: setup build demo demo-down demo-check test bench lint fmt

setup:
	@packaging/setup.sh

build: setup
	$(CARGO) build --workspace --bins

demo: build
	@$(TARGET)/debug/demo up $(BOT)

demo-down: build
	@$(TARGET)/debug/demo down

demo-check: build
	@$(TARGET)/debug/demo check $(BOT)

# The programs first: scenarios start them as they lie in target/debug. All of it beside a private engine and Postgres,
# for the suites that want one; there is no network there, so everything is built before.
test: setup
	$(CARGO) build --workspace --bins $(KILLPOINTS)
	$(CARGO) test --workspace $(KILLPOINTS) --no-run
	@$(TARGET)/debug/beside $(CARGO) test --offline --workspace $(KILLPOINTS)

# Release builds: the figures are for what is shipped.
bench: setup
	$(CARGO) build --release --workspace --bins
	@$(TARGET)/release/bench

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

fmt:
	$(CARGO) fmt --all
