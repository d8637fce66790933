"""The scenarios whose answer depends on a GPU, sized for one card with 80 GB; see README.md."""
