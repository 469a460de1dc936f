"""Fixtures of the fault tests."""

from __future__ import annotations

from tests.everybody import everybody

__all__ = ["everybody"]
