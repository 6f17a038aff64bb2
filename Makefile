# ivm_ext: incremental materialized views for PostgreSQL
#
#   make && make install      build and install for the server of PG_CONFIG
#   make installcheck         regression tests against a running server
#   make check                every test, on throw-away clusters
#   make demo, demo-stop      a running example under load, and its end
#   make bench                the figures of the README
#
# Variables: PG_CONFIG; IVM_JEMALLOC_SOURCE, a jemalloc source tree to build
# instead of the distribution's; IVM_DEBUG=1, with the settings for tests that
# an ordinary build does without; WERROR= to let warnings pass.
#
# Objects for another server can be in another directory: make -f .../Makefile there.

PG_CONFIG ?= pg_config
WERROR ?= -Werror
IVM_DEBUG ?=

ivm_top := $(patsubst %/,%,$(dir $(firstword $(MAKEFILE_LIST))))

# These four install what they need and call make again.  So they have to
# work on a machine that has no pg_config, and stay away from PGXS, which
# has a "check" of its own.
DRIVERS = check demo demo-stop bench

ifneq (,$(filter $(DRIVERS),$(MAKECMDGOALS)))

.NOTPARALLEL:
.PHONY: $(MAKECMDGOALS)

$(filter $(DRIVERS),$(MAKECMDGOALS)):
	@$(ivm_top)/scripts/$@
$(filter-out $(DRIVERS),$(MAKECMDGOALS)):
	@$(MAKE) $@

else

MODULE_big = ivm_ext
EXTENSION = ivm_ext
DATA = ivm_ext--1.0.sql
PGFILEDESC = "ivm_ext - incremental materialized views"

OBJS = $(patsubst $(ivm_top)/%.c,%.o,$(sort $(wildcard $(ivm_top)/src/*.c $(ivm_top)/src/*/*.c)))
DEPS = $(OBJS:.o=.d)
ifneq (.,$(ivm_top))
$(shell mkdir -p $(sort $(dir $(OBJS))))
endif

# The whole tests, in one database; those that need a certain order say so
# in their names.
REGRESS = $(patsubst $(ivm_top)/sql/%.sql,%,$(sort $(wildcard $(ivm_top)/sql/*.sql)))
REGRESS_OPTS = --load-extension=ivm_ext
# whatever the running server's locale is
NO_LOCALE = 1
ENCODING = UTF8

# PGXS gives the server's own warnings; the rest of -Wextra that the
# server's headers and idioms cannot live with is switched off.
PG_CPPFLAGS = -I$(srcdir)/src -I$(JEMALLOC)/include -MMD -MP $(if $(IVM_DEBUG),-DIVM_DEBUG)
PG_CFLAGS = -Wall -Wextra $(WERROR) -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers -Wno-cast-function-type -Wno-clobbered

# The server loads libraries into one global namespace: -Bsymbolic makes our
# calls reach our functions, whatever another extension exports.  jemalloc
# is linked in whole and exported not at all.
SHLIB_LINK = -Wl,-Bsymbolic -Wl,--exclude-libs,ALL \
	$(JEMALLOC)/lib/libjemalloc_pic.a -lm -pthread

EXTRA_CLEAN = $(DEPS) .build-flags

# No JIT bitcode: nothing in here is worth inlining into a query, and clang
# need not be there.
override with_llvm = no

PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
ifeq (,$(wildcard $(PGXS)))
$(error $(PG_CONFIG) does not lead to PostgreSQL's server development files: \
set PG_CONFIG, or run scripts/install-packages)
endif

# Goals that compile nothing do without jemalloc.
ifneq (,$(filter-out clean distclean maintainer-clean uninstall installcheck installdirs,$(or $(MAKECMDGOALS),all)))
JEMALLOC := $(shell IVM_JEMALLOC_SOURCE='$(IVM_JEMALLOC_SOURCE)' CC='$(filter-out cc,$(CC))' $(ivm_top)/scripts/jemalloc)
ifeq (,$(JEMALLOC))
$(error jemalloc could not be built)
endif
endif

include $(PGXS)

# In another directory sources are found here, but never objects.
ifneq (.,$(ivm_top))
override VPATH =
vpath %.c $(ivm_top)
vpath %.control $(ivm_top)
vpath %.sql $(ivm_top)
endif

# Headers: the server may be built without dependency tracking, so the
# compiler writes the .d files.  Other flags, another server or another list
# of files make everything be built again.
-include $(DEPS)

.PHONY: FORCE
.build-flags: FORCE
	@echo '$(subst ','\'',$(CC) $(CFLAGS) $(CPPFLAGS) $(SHLIB_LINK) $(VERSION) $(OBJS))' >$@.new; \
	if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

$(OBJS) $(shlib): .build-flags

endif
