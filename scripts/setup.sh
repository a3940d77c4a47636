# Sets up a Debian 12 or Ubuntu 24.04 machine for ./demo and ./test; both source it.
#
# Looks first and installs only what is missing, so that the second run takes no time. Distribution
# services that come with a package are not started, and ones that run already are left alone.
# shellcheck shell=bash

cache=${LAZULI_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lazuli}
tools=$cache/tools

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
stop() {
  printf '%s: cannot go on: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# Runs a command; shows what it printed only when it fails.
quietly() {
  local out
  out=$(mktemp)
  if ! "$@" >"$out" 2>&1; then
    tail -n 20 "$out" >&2
    rm -f "$out"
    return 1
  fi
  rm -f "$out"
}

# The packages whose programs are not there.
missing_packages() {
  local have_postgres=
  compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null && have_postgres=1
  [ -n "$have_postgres" ] || echo postgresql
  [ -x /usr/sbin/pgbouncer ] || command -v pgbouncer >/dev/null || echo pgbouncer
  command -v redis-server >/dev/null || echo redis-server
  command -v psql >/dev/null || echo postgresql-client
  command -v cc >/dev/null && command -v make >/dev/null || echo build-essential
  command -v pkg-config >/dev/null || echo pkg-config
  command -v curl >/dev/null || echo curl
  command -v git >/dev/null || echo git
  [ -s /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
  command -v python3 >/dev/null || echo python3
  python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
}

install_packages() {
  local -a missing sudo=()
  mapfile -t missing < <(missing_packages)
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null ||
    stop "${missing[*]} missing, and this is not Debian or Ubuntu: install them by hand"
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || stop "${missing[*]} missing: as root, run apt-get install ${missing[*]}"
    sudo=(sudo)
    say "Installing needs root: sudo may ask for your password"
  fi
  say "Installing ${missing[*]}"

  # In a subshell, so that the policy goes whatever happens.
  (
    # Policy for package scripts: start nothing. Only while we install, and only if there is none.
    # https://people.debian.org/~hmh/invokerc.d-policyrc.d-specification.txt
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
      trap '"${sudo[@]}" rm -f $policy' EXIT
      printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee $policy >/dev/null
      "${sudo[@]}" chmod 755 $policy
    fi
    quietly "${sudo[@]}" apt-get update || stop "apt-get update failed (see above)"
    quietly "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get install -y --no-install-recommends "${missing[@]}" ||
      stop "apt-get install ${missing[*]} failed (see above)"
  ) || exit 1

  # Nor at the next boot: the region runs its own.
  if [ -d /run/systemd/system ]; then
    local package
    for package in "${missing[@]}"; do
      case $package in postgresql | pgbouncer | redis-server)
        quietly "${sudo[@]}" systemctl disable "$package" || true ;;
      esac
    done
  fi
}

install_rust() {
  [ ! -r "$HOME/.cargo/env" ] || . "$HOME/.cargo/env"
  if ! command -v cargo >/dev/null; then
    say "Installing Rust with rustup"
    # What https://sh.rustup.rs would fetch, from where it would.
    local url=https://static.rust-lang.org/rustup/dist/$(uname -m)-unknown-linux-gnu/rustup-init place
    place=$(mktemp -d)
    curl --proto '=https' --tlsv1.2 -fsSL "$url" -o "$place/rustup-init" &&
      curl --proto '=https' --tlsv1.2 -fsSL "$url.sha256" -o "$place/sha256" ||
      stop "Rust is missing and rustup cannot be reached: install Rust from https://rustup.rs"
    [ "$(cut -d' ' -f1 <"$place/sha256")" = "$(sha256sum "$place/rustup-init" | cut -d' ' -f1)" ] ||
      stop "rustup-init arrived damaged: try again"
    chmod +x "$place/rustup-init"
    quietly "$place/rustup-init" -y --no-modify-path --profile minimal --component rustfmt --component clippy ||
      stop "rustup failed (see above)"
    rm -rf "$place"
    . "$HOME/.cargo/env"
  fi
  local have wanted
  have=$(rustc --version 2>/dev/null | cut -d' ' -f2)
  wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
  [ "$(printf '%s\n%s\n' "$wanted" "${have%%-*}" | sort -V | head -n1)" = "$wanted" ] ||
    stop "Rust ${have:-of unknown version} is older than $wanted: run rustup update stable"
}

# uv, cargo-deny and cargo-nextest, unless the machine has its own.
install_tools() {
  PATH=$PATH:$tools/bin
  local stamp=$tools/.installed
  if ! cmp -s scripts/tools.txt "$stamp"; then
    say "Installing uv, cargo-deny and cargo-nextest into $tools"
    # A broken or foreign environment is replaced as a whole.
    quietly python3 -m venv --clear "$tools" || stop "python3 -m venv failed: install python3-venv"
    quietly "$tools/bin/pip" install --disable-pip-version-check --only-binary :all: -r scripts/tools.txt ||
      stop "the Python package index cannot be reached, or a tool has no build for this machine (see above)"
    cp scripts/tools.txt "$stamp"
  fi
  # Where uv's own installer puts it, and where the region looks for it later, from another shell.
  if ! env PATH="${PATH%:"$tools"/bin}" bash -c 'command -v uv' >/dev/null && [ ! -e "$HOME/.local/bin/uv" ]; then
    mkdir -p "$HOME/.local/bin"
    ln -sfn "$tools/bin/uv" "$HOME/.local/bin/uv"
  fi
}

# The region needs no root, but a kernel that lets it make namespaces.
check_namespaces() {
  unshare --user --map-root-user --net --mount --pid --fork true 2>/dev/null && return
  local restricted=/proc/sys/kernel/apparmor_restrict_unprivileged_userns
  if [ "$(cat $restricted 2>/dev/null)" = 1 ]; then
    stop "AppArmor keeps ordinary users from making namespaces: sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"
  fi
  stop "this kernel does not let $(id -un) make user namespaces (a container without them?): run as root, or allow them"
}

set_up() {
  install_packages
  install_rust
  install_tools
  check_namespaces
}
