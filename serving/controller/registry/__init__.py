"""The registry: the only room that knows SQL. `repository.Repository` is its front door."""
