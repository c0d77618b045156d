"""The command line: thin commands over the API. `reluscope --help` loads no heavy library."""

# app
from reluscope.cli.app import main as main

__all__ = ["main"]
