"""What only runs on Kubernetes: leadership, custom resources, jobs, pods; one door to its API."""
