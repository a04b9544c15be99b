"""The incidents, told by the real server."""
