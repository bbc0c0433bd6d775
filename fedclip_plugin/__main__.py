"""``python -m fedclip_plugin``: the ``fedclip`` command, or FedML's own spelling ``--cf RECIPE`` inside mpirun."""

from __future__ import annotations

import sys

from fedclip_plugin.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
