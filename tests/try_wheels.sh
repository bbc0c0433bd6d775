#!/bin/sh
# Builds the wheels of all distributions, installs them into a fresh environment in another folder, and runs from there a
# short federation, an export and a prediction. Libraries of others come from the environment that is given: its own
# editable installations of ours are not seen there, since Python reads no .pth files of a folder that one names.
# Usage: try_wheels.sh ENVIRONMENT WHEELS
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
environment=$(cd "$1" && pwd)
mkdir -p "$2"
wheels=$(cd "$2" && pwd)
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

# Copies, since building leaves traces, and a wheel would hold what an older build left.
mkdir "$place/source"
(cd "$root" && tar -cf - --exclude='*.egg-info' --exclude=__pycache__ setup.py pyproject.toml README.md LICENSE fedclip_plugin \
    fedclip_miniature recipes export/fedclip_export export/edge track) | tar -xf - -C "$place/source"
rm -f "$wheels"/fedclip_*.whl
for distribution in "$place/source/export/edge" "$place/source/track" "$place/source"; do
    "$environment/bin/python" -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation -w "$wheels" "$distribution"
done

"$environment/bin/python" -m venv "$place/fresh"
site=$("$place/fresh/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
"$environment/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > "$site/libraries.pth"
"$place/fresh/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --ignore-installed "$wheels"/fedclip_*.whl

cd "$place"
PATH="$place/fresh/bin:$environment/bin:$PATH"
LD_LIBRARY_PATH="$environment/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"  # an Open MPI that came as a wheel
export PATH LD_LIBRARY_PATH
unset PYTHONPATH || true
python -c '
import fedclip_edge, fedclip_export, fedclip_miniature, fedclip_plugin, fedclip_recipes
for package in (fedclip_edge, fedclip_export, fedclip_miniature, fedclip_plugin, fedclip_recipes):
    assert package.__path__[0].startswith(__import__("sys").prefix), package.__path__'
fedclip launch miniature/clip_tiny_fedclip --run run --set train_args.comm_round=2 --set fedclip_args.images_per_class=12
fedclip-export keygen release
fedclip-export bundle --adapter run/adapters/best --out bundle --sign release
fedclip-edge update device bundle --key release.pub
fedclip-edge predict device .fedclip/data/*/sketch/*/*003.png
fedclip-track --version
echo "wheels of all distributions work: $(ls "$wheels" | tr '\n' ' ')"
