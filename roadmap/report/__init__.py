"""``roadmap report``: logged runs as one self-contained HTML page. Never imports torch."""
