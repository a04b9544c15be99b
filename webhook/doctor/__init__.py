"""`forestall doctor`: a survey of an installation, checks of it, and the page that says what to do."""
