"""What this machine can do, and the proof of the GPU path."""
