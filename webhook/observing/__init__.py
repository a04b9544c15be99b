"""What is broken in a running cluster now: what lives is read, and the policies say what is wrong with it."""
