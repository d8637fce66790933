"""`make demo`: the whole main job on a real engine, told as a story that can fail."""
