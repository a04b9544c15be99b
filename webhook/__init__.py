"""Forestall's enforcer: one decision, and the ways to ask for it."""

__version__ = "0.2.0"
