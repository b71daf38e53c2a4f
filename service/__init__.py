"""Concord: a trading-execution service whose orders agree before they trade."""

__version__ = "0.1.0"
