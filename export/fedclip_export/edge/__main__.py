"""``python -m fedclip_export.edge`` is ``fedclip-edge``."""

from fedclip_export.edge.cli import main

raise SystemExit(main())
