"""What speaks to the API server: the client, and what is read, watched and kept through it."""
