# xdpredir: `make` alone lists what there is.

PREFIX ?= /usr/local
CARGO ?= cargo
TARGET = $(or $(CARGO_TARGET_DIR),target)
BINARY = $(TARGET)/release/xdpredir

# Debian and Ubuntu packages that a build, a test or the demo needs.
PACKAGES = bind9-dnsutils busybox-static clang clang-format cpio curl debian-archive-keyring dnsmasq-base ethtool gcc \
	iperf3 iproute2 kmod libc6-dev libelf-dev make netcat-openbsd nftables openssl pkg-config procps \
	python3-jsonschema qemu-system-x86 socat systemd tmux tshark udev util-linux xdp-tools zlib1g-dev
SUDO = $(if $(filter 0,$(shell id -u)),,sudo)
# Cargo builds as the user, and runs what it built as root.
RUNNER = 'target."cfg(all())".runner = ["sudo", "-E"]'
AS_ROOT = $(if $(SUDO),--config $(RUNNER))
TESTS = SUDO='$(if $(SUDO),$(SUDO) -E)' scripts/tests
# The kernels that no change may lose: the oldest, and one in the middle.
GATE = 6.1 6.12
KERNELS = 6.1 6.12 6.16 6.17 6.18 6.19 7.0 7.1 7.2 7.3
C_SOURCES = $(wildcard bpf/*.c bpf/*.h bpf/abi/*.h benches/*.c benches/*.h vmlinux/*.h)

.PHONY: help deps build demo demo-vm test unit fuzz upgrades kernels lint bench install clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## Install the packages that builds and tests need; silent when all are there
	@command -v $(CARGO) >/dev/null || { \
		echo "cargo is missing: install Rust 1.89 or later (https://rustup.rs)"; exit 1; }
	@missing=; for package in $(PACKAGES); do \
		dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q ' installed$$' \
			|| missing="$$missing $$package"; \
	done; \
	[ -z "$$missing" ] || { \
		command -v apt-get >/dev/null || { echo "install what matches:$$missing"; exit 1; }; \
		echo "installing$$missing"; \
		$(SUDO) scripts/kernels/packages $$missing; }

build: deps ## Build the release binary
	$(CARGO) build --release --locked

demo: build ## Show the main job on real packets, in network namespaces
	@scripts/demo $(BINARY)

demo-vm: build ## The same with a virtual machine: a Debian kernel in QEMU; KERNEL=6.12
	@scripts/demo-vm $(BINARY) $(KERNEL)

test: deps ## Run all tests, as root, and the gate on other kernels
	$(CARGO) test --locked --no-run
	$(CARGO) test --locked --lib --bins $(AS_ROOT)
	$(TESTS)
	scripts/kernels/run gate $(GATE)

unit: ## Run the tests of the library and the command line alone; needs no root
	$(CARGO) test --locked --lib --bins

fuzz: deps ## Try damaged files, names, netlink answers and packets; TIME=600 seconds for each kind, 60 if not given
	FUZZ_SECONDS=$(or $(TIME),60) $(TESTS) fuzz:: model::

upgrades: deps ## Build earlier releases, and have this version and them take over from each other under traffic
	scripts/releases
	XDPREDIR_RELEASES=$(abspath $(TARGET))/releases/binaries $(TESTS) upgrade::

kernels: deps ## Run the tests on other kernels, in QEMU; KERNELS="6.1 6.12" TESTS="ledger attach:mode" RECORD=1
	scripts/kernels/run suite $(KERNELS)

lint: deps ## Check formats, dependencies and docs, run clippy, and compile each C header alone
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --lib
	scripts/dependencies
	clang-format --dry-run --Werror $(C_SOURCES)
	@set -e; include=$$(ls -d $(TARGET)/*/build/libbpf-sys-*/out/include | head -n 1); \
	for header in $(filter %.h,$(C_SOURCES)); do \
		case $$header in *_tc.h) hook=-DHOOK_TC;; *) hook=;; esac; \
		$(or $(CLANG),clang) $$hook -x c -target bpf -fsyntax-only -Werror=implicit -I$$include -Ivmlinux -Ibpf -Ibenches $$header; \
	done

bench: deps ## Measure the program beside others, as root; ARGS="--json redirect hot stack rules cost conversation tc capture chain"
	$(CARGO) bench --locked --features bench --bench speed $(AS_ROOT) -- $(ARGS)

install: build ## Install the binary, shell completions and systemd units under PREFIX, below DESTDIR
	@set -e; prefix=$(DESTDIR)$(PREFIX); as=; \
	mkdir -p $$prefix 2>/dev/null && [ -w $$prefix ] || as="$(SUDO)"; \
	$$as install -Dm755 $(BINARY) $$prefix/bin/xdpredir; \
	for file in bash:bash-completion/completions/xdpredir zsh:zsh/site-functions/_xdpredir \
			fish:fish/vendor_completions.d/xdpredir.fish; do \
		$(BINARY) completions $${file%%:*} | $$as install -Dm644 /dev/stdin $$prefix/share/$${file#*:}; \
	done; \
	for unit in units/*; do \
		sed 's,/usr/local/bin/,$(PREFIX)/bin/,' $$unit | \
			$$as install -Dm644 /dev/stdin $$prefix/lib/systemd/system/$${unit#units/}; \
	done; \
	echo "installed $$prefix/bin/xdpredir, shell completions and units of systemd"

clean: ## Remove what was built
	$(CARGO) clean
