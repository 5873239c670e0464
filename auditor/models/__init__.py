"""Engines: what turns requests into generations. ``auditor.models.resolve.open_model`` is the way in."""
