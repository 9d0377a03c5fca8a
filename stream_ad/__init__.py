"""Continual visual inspection: one bank, one entry per product line, nothing forgotten unseen."""
