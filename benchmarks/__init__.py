"""Measurements that take longer than a test; each writes its figures with their provenance to `results/`."""
