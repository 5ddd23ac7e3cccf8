"""``roadmap report``: logged runs as one HTML page that needs nothing else. Never imports torch."""
