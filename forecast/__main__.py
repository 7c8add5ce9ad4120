"""`python -m forecast` is the command `forecast`."""

from .cli import main

raise SystemExit(main())
