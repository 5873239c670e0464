"""Training methods live here, one file each. None has landed yet: see "Not yet" in the README."""
