# What there is to run. Each target does its own set-up and leaves nothing running.
#
#   make demo [BOT=echo]   one real bot on this machine, in the foreground; Ctrl-C or `make demo-down` stops it
#   make demo-check        the same unattended, for CI; prints one JSON line at the end
#   make check-contract    a hostile bot attacks a host from inside; prints one JSON line at the end
#   make test-vm           two whole hosts under emulation, each fault once; alone on the machine, please
#   make sim [SEEDS=200]   the real coordinator and agents on a network and disks that fail; SEED=n replays one
#   make soak              hundreds of changes while everything is killed at random; every fault at every moment of one
#   make test              everything, with private Docker engines, registry and Postgres
#   make bench             figures against plain Docker, also in target/bench/results.ndjson
#   make packages          deb and rpm of agent, coordinator and command, in target/packages; then looks them over
#   make lint fmt          what a change must pass
#
# demo, demo-check, check-contract, soak, test and bench need root: they make network namespaces and containers.

BOT ?= openclaw
CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
# Names the places at which tests kill our programs; absent from the demo, as from every release.
KILLPOINTS := --features launchpad-protocol/killpoints

# dockerd, ip, nft and debootstrap live in sbin, which is on no ordinary user's PATH, nor on that of `su`.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

.PHONY: build demo demo-down demo-check check-contract sim soak test test-vm bench packages packages-made lint fmt setup-build setup-demo-echo setup-demo setup-test setup-vm setup-packages
# Packages are installed one target after the other; cargo uses every core by itself.
.NOTPARALLEL:

# What each target needs, and no more: the echo bot wants neither npm nor Postgres.
DEMO_SETUP := $(if $(filter echo,$(BOT)),setup-demo-echo,setup-demo)
setup-build setup-demo-echo setup-demo setup-test setup-vm setup-packages:
	@packaging/setup.sh $(@:setup-%=%)

build: setup-build
	$(CARGO) build --workspace --bins

demo: $(DEMO_SETUP) build
	@$(TARGET)/debug/demo up $(BOT)

demo-down: build
	@$(TARGET)/debug/demo down

demo-check: $(DEMO_SETUP) build
	@$(TARGET)/debug/demo check $(BOT)

# The same openclaw as in the demo, beside what attacks.
check-contract: setup-demo build
	@$(TARGET)/debug/contract

# The programs first: scenarios start them as they lie in target/debug. All of it beside a private engine and Postgres,
# for the suites that want one; there is no network there, so everything is built before. Keys in AWS KMS are a feature that
# no program is built with by default, tested by itself against a stand-in.
test: setup-test
	$(CARGO) build --workspace --bins $(KILLPOINTS)
	$(CARGO) test --workspace $(KILLPOINTS) --no-run
	$(CARGO) test -p launchpad-pki --features aws-kms --test kms
	@$(TARGET)/debug/beside $(CARGO) test --offline --workspace $(KILLPOINTS)

# Whole hosts: Debian guests with systemd, cgroup v2, AppArmor and XFS quotas, on which the package is installed as an operator
# does. Each fault strikes once, in the middle of a change; `make soak` has all of the matrix. What came of it is a table, and
# target/vm/report.json. Under emulation: whatever else runs on the machine makes it ten times slower.
test-vm: setup-vm packages-made
	$(CARGO) build --workspace --bins $(KILLPOINTS)
	@$(TARGET)/debug/vm

# The same as in `make test`, where it runs fifty seeds: here each seed twice, which must go the same way.
SEEDS ?= 200
sim: setup-build
	$(if $(SEED),SEED=$(SEED)) LAUNCHPAD_SIM_SEEDS=$(SEEDS) LAUNCHPAD_SIM_TWICE=1 \
		$(CARGO) test -p launchpad-tests $(KILLPOINTS) --test sim -- --nocapture

# The same scenario as in `make test`, with all its changes; a few minutes. Two thousand seeds of `make sim`; half an hour. Every cell
# of the guests' matrix; as long again. A thousand hosts that come back at once, and a thousand deaths between durable steps.
soak: setup-test setup-vm packages-made
	$(CARGO) build --workspace --bins $(KILLPOINTS)
	LAUNCHPAD_CHURN_CHANGES=200 $(CARGO) test -p launchpad-tests $(KILLPOINTS) --test churn -- --nocapture
	LAUNCHPAD_SIM_SEEDS=2000 $(CARGO) test -p launchpad-tests $(KILLPOINTS) --test sim -- --nocapture
	@$(TARGET)/debug/vm matrix
	LAUNCHPAD_STORM_HOSTS=1000 $(CARGO) test -p launchpad-coordinator $(KILLPOINTS) --test fleet storm -- --nocapture
	LAUNCHPAD_DURABILITY_ROUNDS=1000 $(CARGO) test -p launchpad-agent $(KILLPOINTS) --test durability no_death -- --nocapture

# Release builds: the figures are for what is shipped.
bench: setup-demo-echo
	$(CARGO) build --release --workspace --bins
	@$(TARGET)/release/bench
	LAUNCHPAD_STORM_HOSTS=1000 LAUNCHPAD_FIGURES=$(abspath $(TARGET)/bench/results.ndjson) \
		$(CARGO) test --release -p launchpad-coordinator --test fleet storm -- --nocapture

# The programs as they are shipped, their manual, the packages; and what makes them shippable: two makings of the same bytes,
# no word from lintian or rpmlint, a fresh Debian that needs nothing else, the whole life of a package on a host.
PACKAGES := $(TARGET)/packages
packages: packages-made
	LAUNCHPAD_PACKAGES=$(abspath $(PACKAGES)) $(CARGO) test -p launchpad-tests $(KILLPOINTS) --test packages -- --include-ignored

packages-made: setup-packages
	mkdir -p $(TARGET)
	packaging/release.sh >$(TARGET)/packages-binaries
	$(CARGO) build --workspace --bins $(KILLPOINTS)
	@$(TARGET)/debug/manual $(TARGET)/packages-manual
	packaging/packages.sh "$$(cat $(TARGET)/packages-binaries)" $(TARGET)/packages-manual $(PACKAGES)

# With the one feature that no program is built with by default: it has more code than its absence.
lint: setup-build
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --features launchpad-coordinator/aws-kms -- -D warnings

fmt:
	$(CARGO) fmt --all
