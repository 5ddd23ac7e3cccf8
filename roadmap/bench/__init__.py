"""``roadmap bench``: what networks cost, as counted and as measured on a device, all in turn."""
