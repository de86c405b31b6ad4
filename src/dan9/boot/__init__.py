"""A kernel with the system daemons, configured by `dan9.toml`.

`reading` and its helpers decide what a configuration says (pure); `loading` fetches files
and classes for it; `children` turns it into child specs; `system` starts and stops
everything in order; `running` is the life of a process around it.
"""
