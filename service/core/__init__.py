"""The pure core: values and rules shared by the service and by training.

Imports the standard library, NumPy and array_api_compat, nothing else. It neither logs, nor
waits, nor reads a clock or a random number: the same inputs give the same outputs for ever.
Every array has the order axis N last and any number of leading axes, so one function serves a
live day ``[N]`` in NumPy and a batch of simulated days ``[B, N]`` in torch.
"""
