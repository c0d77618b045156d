"""`python -m reluscope.cli`: the same command where the `reluscope` script is not on the path."""

import sys

from reluscope.cli.app import main

sys.exit(main())
