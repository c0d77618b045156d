"""Shared by all tests: nothing draws to a screen, and random streams start the same."""

from __future__ import annotations

import os

os.environ.setdefault("MPLBACKEND", "Agg")
