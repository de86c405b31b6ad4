"""Egregores: groups of daemons with one purpose. Swarm, hierarchy, ring, mesh."""

from dan9.egregore.clocks import Causal
from dan9.egregore.consensus import Acceptor, Promise, Proposer
from dan9.egregore.core import ARCHETYPES, Decided, Egregore, Pattern
from dan9.egregore.hierarchy import Hierarchy, ItemFailed
from dan9.egregore.mesh import Decree, Mesh, MeshMember
from dan9.egregore.ring import Fence, Ring
from dan9.egregore.swarm import Swarm

__all__ = [
    "ARCHETYPES",
    "Acceptor",
    "Causal",
    "Decided",
    "Decree",
    "Egregore",
    "Fence",
    "Hierarchy",
    "ItemFailed",
    "Mesh",
    "MeshMember",
    "Pattern",
    "Promise",
    "Proposer",
    "Ring",
    "Swarm",
]
