"""Runs compared on the same items: differences with their outcomes, a policy's gate, a ranking, what changed most."""
