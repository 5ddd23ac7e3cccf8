"""``roadmap bench``: FLOPs, parameters, speed and memory of networks."""
