"""The command line: thin verbs over the HTTP API, and the supervisor behind `loraplane up`."""
