#!/bin/sh
# Install what is missing: Debian packages (as root or through sudo) and the virtual environment named by $1.
set -eu
venv=$1
packages="gcc g++ clang python3-venv gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm openocd mosquitto"

missing=
for package in $packages; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "install ok installed" || missing="$missing $package"
done
# The sanitizers' runtime is a package of its own, named after Clang's version.
if command -v clang >/dev/null 2>&1; then
    version=$(clang -dumpversion | cut -d. -f1)
    runtime="libclang-rt-$version-dev"
    dpkg-query -W -f='${Status}' "$runtime" 2>/dev/null | grep -q "install ok installed" || missing="$missing $runtime"
fi
if [ -n "$missing" ]; then
    echo "installing:$missing"
    sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null
    case $missing in
    *" clang"*) exec sh "$0" "$venv" ;;
    esac
fi

python=
for candidate in python3 python3.13 python3.12 python3.11; do
    # A name on the path may be a version manager's stand-in that runs nothing.
    if $candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "setup: Python 3.11 or newer is needed; on Debian: apt-get install python3" >&2
    exit 1
fi
[ -x "$venv/bin/python" ] || $python -m venv "$venv"
echo "installing Python packages into $venv"
"$venv/bin/python" -m pip install -q --disable-pip-version-check -e '.[dev]'
touch "$venv/.ready"
