"""Foreign bytes are parsed in a process of their own, with limits and without a network.

    client (here) ──request──▶ forkserver (clean, warm) ──fork──▶ child (limits, filter) ──frames──▶ client

In: the name of a function of ours, arguments that are JSON, limits. Out: what the function yields, as JSON; or the limit that ended it.
Must not know: formats. Nothing that a child sends is unpickled: by then it has read what somebody else wrote.
"""

from tailorbird.system.sandbox.client import Dialogue, call, start, stream
from tailorbird.system.sandbox.limits import SandboxJob, SandboxLimits

__all__ = ["Dialogue", "SandboxJob", "SandboxLimits", "call", "start", "stream"]
