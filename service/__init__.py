"""Concord: a trading-execution service whose orders agree before they trade."""

import os

__version__ = "0.1.0"

# onnxruntime writes a device id to disk and may report home unless told not to before its import
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
