"""Crash tests: what was acknowledged is still there after the power went."""
