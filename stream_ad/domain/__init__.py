"""Nouns and ports: the standard library and numpy, nothing that computes or connects."""
