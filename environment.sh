#!/bin/sh
# Make .venv with Python 3.11 or 3.12, or keep the one that is there: sh environment.sh [PYTHON].
# `make setup` calls it. Without PYTHON the first that fits is taken; where uv is installed, it may fetch one.
set -eu

HEADERS='import os, sysconfig; os.stat(os.path.join(sysconfig.get_path("include"), "Python.h"))'
asked=${1:-}
tried=

fits() { # whether a version is one that FedML's packages install on
    case $1 in 3.11 | 3.12) ;; *) return 1 ;; esac
}

version() { # print the version of an interpreter as 3.11; fail where it does not start, as a shim may
    "$1" -c 'import sys; print(("" if hasattr(sys, "getrefcount") else "PyPy ") + "%d.%d" % sys.version_info[:2])' 2> /dev/null
}

origin() { # print an interpreter's own path, or that of the one that its virtual environment was made with
    "$1" -c 'import sys, venv, ensurepip; print(sys._base_executable)' 2> /dev/null
}

builds() { # whether geventhttpclient can be built, which FedML wants and which has wheels up to Python 3.11 only
    [ "$found" = 3.11 ] || { command -v cc > /dev/null && "$1" -c "$HEADERS" 2> /dev/null; }
}

choose() { # print the path of an interpreter to use
    if [ -n "$asked" ]; then set -- "$asked"; else set -- python3.11 python3.12 python3 python; fi
    for name; do
        command -v "$name" > /dev/null || continue
        if ! found=$(version "$name"); then
            tried="$tried, $name does not start"
        elif ! fits "$found"; then
            tried="$tried, $name is Python $found"
        elif ! builds "$name"; then
            tried="$tried, $name lacks cc or Python.h"
        elif ! origin "$name"; then
            tried="$tried, $name has no venv or ensurepip"
        else
            return 0
        fi
    done
    wanted=${asked#python}
    if command -v uv > /dev/null && fits "${wanted:=3.11}"; then
        UV_PYTHON_PREFERENCE=only-managed # what the machine has itself does not fit, or was named above
        export UV_PYTHON_PREFERENCE
        uv python find --system "$wanted" 2> /dev/null && return
        uv python install "$wanted" >&2 && uv python find --system "$wanted" && return
        tried="$tried, uv has no Python $wanted"
    fi
    refuse
}

refuse() { # say what to install
    tried=${tried#, }
    cat >&2 << END
Python 3.11 or 3.12 is needed; here ${tried:-${asked:-python3} is not installed}. Install one, then call make again:
  Ubuntu 24.04             apt install gcc python3.12-venv python3.12-dev
  Ubuntu 22.04, Debian 12  apt install python3.11-venv
  Fedora                   dnf install python3.11
  macOS                    brew install python@3.11
  any other                install uv; make takes Python 3.11 through it
END
    exit 1
}

fault() { # print what makes .venv unfit; fail where nothing does
    if ! found=$(version .venv/bin/python) || ! .venv/bin/python -c 'import pip' 2> /dev/null; then
        echo "does not start, or is not whole"
    elif ! fits "$found"; then
        echo "has Python $found"
    elif [ -n "$asked" ] && [ "$found" != "$(version "$asked" || echo "${asked#python}")" ]; then
        echo "has Python $found, not $asked"
    elif ! grep -qF "$(pwd -P)/.venv" .venv/bin/activate; then
        echo "was made in another folder"
    else
        return 1
    fi
}

if [ -e .venv ]; then
    why=$(fault) || exit 0
fi
python=$(choose)
[ -z "${why:-}" ] || echo ".venv $why: making it anew" >&2
"$python" -m venv --clear .venv
