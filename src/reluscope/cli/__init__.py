"""The command line: thin commands over the API. `reluscope --help` imports neither torch nor any other heavy
library."""

# app
from reluscope.cli.app import main as main

__all__ = ["main"]
