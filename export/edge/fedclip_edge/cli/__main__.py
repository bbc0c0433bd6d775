"""``python -m fedclip_edge.cli`` is ``fedclip-edge``."""

from fedclip_edge.cli.main import main

raise SystemExit(main())
