"""A kernel with the system daemons, configured by `dan9.toml`."""
