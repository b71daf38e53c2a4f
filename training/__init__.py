"""Training: the simulator, the paper's network, PPO and the export of what the service runs.

May import ``service.core`` and the market data of ``service.play``; only ``training.export`` may
import ``service.onnx_policy``. The service never imports this package.
"""
