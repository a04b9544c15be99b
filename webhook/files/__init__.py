"""Text in: manifests as kubectl reads them, and YAML whose errors name the line."""
