"""Monitoring software doesn't leave its data behind on a volume in another zone."""
