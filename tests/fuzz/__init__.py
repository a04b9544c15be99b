"""Fuzzing: mutations of what is known to work, for a bounded time. `make fuzz`; docs/security-testing.md has figures.

An input that breaks something is kept in tests/data/fuzz, where tests/test_fuzz.py tries it again for ever.
"""
