"""Tests of the demo client: what it reads, makes and plays."""
