#!/bin/sh
# Makes $VENV with the pinned packages. Needs Python 3.11 or newer and its venv module; nothing else.
# Running it again changes nothing that is already right.
set -eu
PYTHON="${PYTHON:-python3}"
VENV="${VENV:-.venv}"
started=$(date +%s)

if ! command -v "$PYTHON" >/dev/null 2>&1; then
    echo "Kaima needs Python 3.11 or newer; no $PYTHON was found. Install python3 and python3-venv." >&2
    exit 1
fi
if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "Kaima needs Python 3.11 or newer; $PYTHON is $("$PYTHON" -V 2>&1)." \
         "Name a newer one: make PYTHON=python3.12 ..." >&2
    exit 1
fi
if [ ! -x "$VENV/bin/python" ]; then
    if ! "$PYTHON" -m venv "$VENV"; then
        rm -rf "$VENV"
        echo "The virtual environment could not be made. On Debian and Ubuntu: apt install python3-venv" >&2
        exit 1
    fi
fi
pip() { "$VENV/bin/python" -m pip --disable-pip-version-check "$@"; }
# torch and opacus on one line first, so that one resolution settles their shared needs.
torch=$(grep '^torch==' constraints.txt)
opacus=$(grep '^opacus==' constraints.txt)
echo "Installing into $VENV (some minutes at the first time) ..."
pip install --quiet -c constraints.txt "$torch" "$opacus"
pip install --quiet -c constraints.txt -e '.[service,worker,test]'
echo "$(( $(date +%s) - started ))" > "$VENV/.kaima-install-seconds"
