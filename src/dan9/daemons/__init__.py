"""The system daemons, one file each; they meet by address and never import one another."""
