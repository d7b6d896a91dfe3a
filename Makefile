# coster: make deps run, make deps test; make help lists the rest.

VERSION  := 0.1.0
SERVICES := user email product cart payment stats

# Every source there is. A service is the files of its folder and the library.
SHARED   := arena auth breaker buf client clock config contract crash curl db doctor fcgi \
            field file handle idempotency jobs journal json log loop metrics migrate \
            outbox outbox_turn outbox_admin page pool problem reply req restore route seen \
            service text token
user     := service account former proof session refresh grant throttle export notice \
            password keys command prompt prune check
email    := service message cap recipient template deliver mime transport smtp \
            maildir check
product  := service product catalog reservation check
cart     := service cart offer checkout steps check
payment  := service invoice status payment refund transfer notice gateway \
            sandbox manual check
stats    := service entry list summary check

# Unit tests: tests/shared/test_NAME.c and tests/handlers/SERVICE/test_NAME.c.
shared_tests  := arena auth breaker buf client clock config db field file \
                 handle idempotency jobs json log loop metrics migrate outbox page \
                 problem reply route seen service text token
user_tests    := account session command throttle proof cookie export password
email_tests   := message deliver mime
product_tests := product catalog reservation
cart_tests    := cart checkout
payment_tests := invoice payment
stats_tests   := entry list summary

# Fuzz targets: tests/fuzz/NAME.c; and service.c with each service.
FUZZ     := fcgi route query cursor json token idempotency mime time \
            $(SERVICES:%=service-%)

# What Debian packages give, and what each is for.
#   libfcgi-dev            reads FastCGI requests
#   libjson-c-dev          parses JSON bodies
#   libsqlite3-dev         the databases
#   libsodium-dev          Ed25519 tokens, Argon2id passwords, random numbers
#   libcurl4-openssl-dev   HTTP between the services, SMTP; loaded when first needed
#   libsystemd-dev         tells systemd that an instance is ready, and alive
#   spawn-fcgi nginx-light start the services, and stand in front of them
#   curl openssl           make run: sign in, make a certificate
#   libcmocka-dev          unit tests, which the packaging asks for too
#   iproute2               tests only: two hosts in network namespaces
#   python3-pytest python3-aiosmtpd wrk   tests and make bench only
#   python3-jsonschema     tests only: replies against openapi.json
#   e2fsprogs mount        tests only: file systems whose power is cut
BUILD_PACKAGES := gcc make pkg-config libc6-dev libfcgi-dev libjson-c-dev \
            libsqlite3-dev libsodium-dev libcurl4-openssl-dev libsystemd-dev libcmocka-dev \
            spawn-fcgi nginx-light curl openssl ca-certificates
TEST_PACKAGES := iproute2 python3 python3-pytest python3-aiosmtpd wrk e2fsprogs mount \
            python3-jsonschema
# Of make fuzz (json-c and libfcgi anew from their sources), make lint, make coverage.
CHECK_PACKAGES := clang libclang-rt-14-dev dpkg-dev patch \
            clang-tidy cppcheck shellcheck gcovr
# Of make deb; and what looks at the packages, and make test-system.
DEB_PACKAGES := build-essential dpkg-dev debhelper po-debconf fakeroot
SYSTEM_PACKAGES := lintian mandoc debootstrap systemd-container
# Of make bench: system calls counted, and pictures.
BENCH_PACKAGES := git linux-perf python3-matplotlib
# Of make attack.
ATTACK_PACKAGES := sqlmap slowhttptest testssl.sh nmap ffuf
LIBS     := fcgi json-c sqlite3 libsodium libcurl libsystemd

# BUILD=build/asan and the like hold other kinds of the same programs; V=1 shows
# the commands.
BUILD    ?= build
Q        := $(if $(V),,@)
KIND     := $(notdir $(BUILD))
CC       := gcc
CFLAGS   ?= -O2 -g
WARNINGS := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes \
            -Wmissing-prototypes -Wvla -Wformat=2 -Wpointer-arith \
            -Wwrite-strings -Wundef -Wimplicit-fallthrough \
            -Wno-missing-field-initializers
HARDEN   := -fstack-protector-strong -fPIE -D_FORTIFY_SOURCE=2
LINK     := -pie -Wl,-z,relro,-z,now -Wl,--as-needed -pthread
ifeq ($(KIND),asan)
CFLAGS   := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all \
            -fno-omit-frame-pointer -DARENA_MALLOC
HARDEN   := -fPIE
LINK     += -fsanitize=address,undefined
endif
ifeq ($(KIND),fuzz)
CC       := clang
CFLAGS   := -O1 -g -fsanitize=address,undefined,fuzzer-no-link \
            -fno-sanitize-recover=all -fno-omit-frame-pointer -DARENA_MALLOC
HARDEN   := -fPIE
LINK     += -fsanitize=address,undefined,fuzzer
WARNINGS += -Wno-missing-field-initializers # clang minds more of them than gcc
endif
ifeq ($(KIND),lint)
# A leak of what a list or a thread took over is none; AddressSanitizer's leaks are.
CFLAGS   := -O0 -fanalyzer -Wno-analyzer-malloc-leak
HARDEN   := -fPIE
endif
ifeq ($(KIND),coverage)
CFLAGS   := -O0 -g --coverage -fprofile-update=atomic
HARDEN   := -fPIE
LINK     += --coverage
endif
ifeq ($(KIND),crash)
CFLAGS   += -DCRASH_POINTS
endif
ifeq ($(KIND),tsan)
CFLAGS   := -O1 -g -fsanitize=thread
HARDEN   := -fPIE
LINK     += -fsanitize=thread
endif
# Asked when first needed, and once: make deps may have to install them before.
PKG_CFLAGS = $(eval PKG_CFLAGS := $(shell pkg-config --cflags $(LIBS) cmocka))$(PKG_CFLAGS)
PKG_LIBS   = $(eval PKG_LIBS := $(shell pkg-config --libs $(LIBS)))$(PKG_LIBS)
LANGUAGE   = -std=gnu11 -D_GNU_SOURCE -I. -include shared/banned.h \
             -DCOSTER_VERSION='"$(VERSION)"' $(PKG_CFLAGS)
ALL_CFLAGS = $(LANGUAGE) -MMD -MP -pthread $(WARNINGS) $(HARDEN) $(CFLAGS)

PROGRAMS := $(SERVICES:%=$(BUILD)/coster-%)
LIBRARY  := $(BUILD)/libcoster.a
SUPPORT  := $(BUILD)/tests/support.a
BENCH    := $(addprefix $(BUILD)/tests/bench/,nothing mail_sink slow_disk.so)
UNITS    := $(shared_tests:%=$(BUILD)/tests/shared/test_%) \
            $(foreach s,$(SERVICES),$($(s)_tests:%=$(BUILD)/tests/handlers/$(s)/test_%)) \
            $(SERVICES:%=$(BUILD)/tests/handlers/%/test_rules)

.PHONY: all help deps deps-build run units list-units faults
.PHONY: check-headers check-fcgi check-openapi
.PHONY: test test-faults test-model test-system bench bench-growth soak bench-sign-in attack
.PHONY: install uninstall deb clean
.PHONY: fuzz fuzz-targets list-fuzz lint lint-sources coverage
all: $(PROGRAMS)

help:
	@echo 'make deps           install the Debian packages that are missing, those of the tests too'
	@echo 'make deps-build     only those to build and run it'
	@echo 'make run            run the whole shop in a scratch folder; Ctrl-C stops it'
	@echo '                    STATE=DIR HTTPS_PORT=8443 HTTP_PORT=8080 LIMITS=off'
	@echo 'make test           run every test'
	@echo 'make test-faults    cut the power, fill and break disks, kill, hang: 12 minutes of it (root only)'
	@echo 'make test-model     random calls against a model; CALLS=20000 SEED=N, as it prints'
	@echo 'make attack         attack tools against the shop; tests/security/attacks has what they found'
	@echo 'make lint           static analysis: gcc, clang-tidy, cppcheck, shellcheck'
	@echo 'make coverage       which lines the tests run, by file'
	@echo 'make fuzz           SECONDS=10 each of the fuzz targets, TARGETS="route time"'
	@echo 'make test-system    install the packages on a booted Debian (root only)'
	@echo 'make bench          how quick it is, as one table; QUICK=1 in a minute, BASE=REV'
	@echo '                    against another revision; ROWS=REGEX ROUNDS=5 SECONDS=2'
	@echo 'make bench-growth   what a request costs with 1,000 to 1,000,000 rows; SIZES="..."'
	@echo 'make soak           millions of mixed requests, drawn in build/soak.png; N=10000000'
	@echo 'make bench-sign-in  how quick reads stay while many sign in; DURATION=10 CLIENTS=50'
	@echo 'make                build the six programs into build/'
	@echo 'make install        DESTDIR= PREFIX=/usr; make uninstall takes it away again'
	@echo 'make deb            build the Debian packages into build/deb/'
	@echo 'make check-headers  compile each header alone'
	@echo 'make check-openapi  hold nginx/html/openapi.json against public tools; needs npm'
	@echo 'make clean          remove what was built'

deps:
	@tests/deps $(BUILD_PACKAGES) $(TEST_PACKAGES) $(CHECK_PACKAGES) $(DEB_PACKAGES) $(SYSTEM_PACKAGES)

deps-build:
	@tests/deps $(BUILD_PACKAGES)

run: all
	@BUILD=$(BUILD) exec tests/stack

# shared/fcgi.c sets up libfcgi's request by members that are not public: they
# are known to be right in this version.
check-fcgi:
	@pkg-config --exact-version=2.4.2 fcgi \
	|| { echo 'libfcgi 2.4.2 is needed: make deps'; exit 1; }

define SERVICE
$(BUILD)/coster-$(1): $(patsubst %,$(BUILD)/handlers/$(1)/%.o,$($(1))) $(BUILD)/shared/main.o $(LIBRARY)
	@echo '  LD  $$@'
	$$(Q)$$(CC) $$(LINK) -o $$@ $$^ $$(PKG_LIBS)
$(BUILD)/handlers/$(1)/service.o: handlers/$(1)/schema.sql
$($(1)_tests:%=$(BUILD)/tests/handlers/$(1)/test_%): %: %.o $(SUPPORT) $(patsubst %,$(BUILD)/handlers/$(1)/%.o,$($(1))) $(LIBRARY)
	@echo '  LD  $$@'
	$$(Q)$$(CC) $$(LINK) -o $$@ $$^ $$(PKG_LIBS) -lcmocka
$(BUILD)/tests/handlers/$(1)/test_rules: $(BUILD)/tests/handlers/test_rules.o $(SUPPORT) $(patsubst %,$(BUILD)/handlers/$(1)/%.o,$($(1))) $(LIBRARY)
	@mkdir -p $$(@D)
	@echo '  LD  $$@'
	$$(Q)$$(CC) $$(LINK) -o $$@ $$^ $$(PKG_LIBS) -lcmocka
endef
$(foreach s,$(SERVICES),$(eval $(call SERVICE,$(s))))

$(BUILD)/tests/shared/test_%: $(BUILD)/tests/shared/test_%.o $(SUPPORT) $(LIBRARY)
	@echo '  LD  $@'
	$(Q)$(CC) $(LINK) -o $@ $^ $(PKG_LIBS) -lcmocka

# The one that tests the client itself.
$(BUILD)/tests/shared/test_client: $(BUILD)/tests/shared/test_client.o $(BUILD)/tests/faults.o $(LIBRARY)
	@echo '  LD  $@'
	$(Q)$(CC) $(LINK) -o $@ $^ $(PKG_LIBS) -lcmocka

# Power cuts; and what makes the programs' disk and memory fail (LD_PRELOAD).
$(BUILD)/tests/storage/test_power: $(BUILD)/tests/storage/test_power.o $(BUILD)/tests/storage/record.o $(LIBRARY)
	@echo '  LD  $@'
	$(Q)$(CC) $(LINK) -o $@ $^ $(PKG_LIBS) -lcmocka

$(BUILD)/tests/storage/shim.so: tests/storage/shim.c
	@mkdir -p $(@D)
	@echo '  CC  $@'
	$(Q)$(CC) -std=gnu11 -D_GNU_SOURCE -O2 $(filter-out -Wmissing-prototypes,$(WARNINGS)) -shared -fPIC -o $@ $<

# What no program behind nginx can beat, and where mail goes; and a disk that is slower
# (LD_PRELOAD).
$(BUILD)/tests/bench/%: $(BUILD)/tests/bench/%.o
	@echo '  LD  $@'
	$(Q)$(CC) $(LINK) -o $@ $<

$(BUILD)/tests/bench/slow_disk.so: tests/bench/slow_disk.c
	@mkdir -p $(@D)
	@echo '  CC  $@'
	$(Q)$(CC) -std=gnu11 -D_GNU_SOURCE -O2 $(filter-out -Wmissing-prototypes,$(WARNINGS)) -shared -fPIC -o $@ $<

# Before the library: the loopback plays the other services, in place of its
# client.
$(SUPPORT): $(BUILD)/tests/loopback.o $(BUILD)/tests/fcgi_client.o $(BUILD)/tests/faults.o
	@rm -f $@
	@echo '  AR  $@'
	$(Q)ar rcs $@ $^

$(LIBRARY): $(SHARED:%=$(BUILD)/shared/%.o)
	@rm -f $@
	@echo '  AR  $@'
	$(Q)ar rcs $@ $^

$(BUILD)/shared/migrate.o: shared/schema.sql
$(BUILD)/handlers/user/password.o: handlers/user/common_passwords.txt

$(BUILD)/%.o: %.c | check-fcgi
	@mkdir -p $(@D)
	@echo '  CC  $@'
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<

# The two libraries that bytes from outside reach are built anew for this.
FUZZ_LIBS := $(BUILD)/lib/libfcgi.a $(BUILD)/lib/json-c.a
$(BUILD)/lib/%.a: tests/fuzz/libs tests/fuzz/libfcgi.patch
	@echo '  LIB $@'
	$(Q)CC='$(CC)' CFLAGS='$(CFLAGS)' tests/fuzz/libs $(@D) $*

define FUZZ_TARGET
$(BUILD)/fuzz/$(1): $(BUILD)/tests/fuzz/$(2).o $(BUILD)/tests/fuzz/fuzz.o $(3) $(LIBRARY) $(FUZZ_LIBS)
	@mkdir -p $$(@D)
	@echo '  LD  $$@'
	$$(Q)$$(CC) $$(LINK) -o $$@ $$^ $$(filter-out -lfcgi -ljson-c,$$(PKG_LIBS)) -lcmocka
endef
FUZZ_DATABASE := $(BUILD)/tests/fuzz/database.o $(SUPPORT)
$(foreach t,fcgi route query cursor json token time,$(eval $(call FUZZ_TARGET,$(t),$(t))))
$(eval $(call FUZZ_TARGET,mime,mime,$(BUILD)/handlers/email/mime.o))
$(eval $(call FUZZ_TARGET,idempotency,idempotency,$(FUZZ_DATABASE)))
$(foreach s,$(SERVICES),$(eval $(call FUZZ_TARGET,service-$(s),service,$(FUZZ_DATABASE) $($(s):%=$(BUILD)/handlers/$(s)/%.o))))

check-headers:
	@for h in shared/*.h handlers/*/*.h; do \
	  $(CC) $(filter-out -MMD -MP,$(ALL_CFLAGS)) -fsyntax-only -x c $$h || exit 1; done

check-openapi: all
	@BUILD=$(BUILD) tests/openapi/check

# Static analysis; what was good and did not change is not looked at again.
SOURCES := $(SHARED:%=shared/%) shared/main $(foreach s,$(SERVICES),$($(s):%=handlers/$(s)/%))
lint:
	@$(MAKE) BUILD=build/lint lint-sources
	@tests/lint

lint-sources: $(SOURCES:%=$(BUILD)/%.tidy)

$(BUILD)/%.tidy: %.c $(BUILD)/%.o .clang-tidy
	@echo '  TIDY $<'
	$(Q)clang-tidy --quiet $< -- $(LANGUAGE) 2>/dev/null
	@touch $@

coverage:
	@$(MAKE) BUILD=build/coverage all units
	@tests/coverage

units: $(UNITS)

faults: $(BUILD)/tests/storage/test_power $(BUILD)/tests/storage/shim.so

list-units:
	@echo $(UNITS)

test:
	@tests/run

test-faults: all faults
	@BUILD=$(BUILD) FAULTS=full tests/break

test-model: all
	@BUILD=$(BUILD) CALLS=$(or $(CALLS),20000) /usr/bin/python3 -m pytest -q -s \
	    -p no:cacheprovider tests/http/test_model.py

attack: all
	@tests/deps $(ATTACK_PACKAGES)
	@BUILD=$(BUILD) tests/security/attack

# Not BUILD=build/fuzz make: only this target is built so.
fuzz:
	@$(MAKE) BUILD=build/fuzz fuzz-targets
	@FUZZ_SECONDS=$(or $(SECONDS),10) tests/fuzz/run $(TARGETS)

fuzz-targets: $(FUZZ:%=$(BUILD)/fuzz/%)

list-fuzz:
	@echo $(FUZZ)

test-system: deb
	@tests/deps $(SYSTEM_PACKAGES)
	@tests/system/run

bench: all $(BENCH)
	@tests/deps $(BENCH_PACKAGES)
	@BUILD=$(BUILD) tests/bench/run

bench-growth: all $(BENCH)
	@BUILD=$(BUILD) tests/bench/growth

soak: all $(BENCH)
	@tests/deps $(BENCH_PACKAGES)
	@BUILD=$(BUILD) tests/bench/soak

bench-sign-in: all $(BENCH)
	@BUILD=$(BUILD) tests/bench/sign_in_flood

install: all
	@BUILD=$(BUILD) DESTDIR=$(DESTDIR) PREFIX=$(or $(PREFIX),/usr) UNITDIR=$(UNITDIR) systemd/install install

uninstall:
	@BUILD=$(BUILD) DESTDIR=$(DESTDIR) PREFIX=$(or $(PREFIX),/usr) UNITDIR=$(UNITDIR) systemd/install uninstall

# From a copy, so that the packaging leaves nothing behind here. make test runs
# the unit tests; dpkg-buildpackage by itself does too.
deb:
	@tests/deps $(DEB_PACKAGES)
	@echo '  DEB build/deb'
	@copy=$$(mktemp -d) && trap 'rm -rf "$$copy"' EXIT && mkdir "$$copy/coster" && \
	tar --exclude=./build --exclude=./.git -c . | tar -x -C "$$copy/coster" && \
	cd "$$copy/coster" && { \
	  DEB_BUILD_OPTIONS="nocheck parallel=$$(nproc)" dpkg-buildpackage -us -uc -b >../log 2>&1 || \
	  { tail -n 40 ../log; exit 1; }; } && \
	rm -rf $(CURDIR)/build/deb && mkdir -p $(CURDIR)/build/deb && \
	mv ../*.deb ../*.buildinfo ../*.changes $(CURDIR)/build/deb/

clean:
	rm -rf build

.SECONDARY:
-include $(shell find $(BUILD) -name '*.d' -type f 2>/dev/null)
