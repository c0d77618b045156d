"""Shared by all tests: nothing draws to a screen."""

from __future__ import annotations

import os

os.environ.setdefault("MPLBACKEND", "Agg")
