"""The API's routes, one file a resource: parse, call the registry, answer."""
