"""Tests, as one package: a folder named like a package of the product must not stand in for it."""
