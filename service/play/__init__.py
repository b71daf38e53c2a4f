"""Plays a trading day through the service over HTTP, exactly as an OMS would.

A client of the service, and the market data that the demo and training read or generate. It may
import ``service.core`` and nothing else of the service: what it knows of it, it knows by HTTP.
"""
