"""The edge of a node: its Unix socket, the protocol spoken there, and the clients.

The client stands on socket and msgspec alone; only `server` and `guest` know the node.
"""
